"""`gpa doctor`: what interception needs, tried one by one, and what to do where it is missing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gpa.cli.run import add_config
from gpa.errors import EXIT_NO, EXIT_OK

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    parser = subparsers.add_parser(
        "doctor",
        help="try what interception needs on this machine, and say what to do",
        description="Tries what interception needs, before and after installing, and disturbs no"
        " running agent. Exit code 0: all is there, perhaps with warnings; 1: something fails.",
    )
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object, for machines")


def run(args: argparse.Namespace) -> int:
    """Examine, and tell by the exit code."""
    _check_library()
    from gpa.demo.signals import interruptible
    from gpa.doctor.checks import examine
    from gpa.doctor.finding import State
    from gpa.doctor.machine import this_machine
    from gpa.doctor.report import Json, Lines, Table

    report = Json(args.config) if args.json else Table() if sys.stdout.isatty() else Lines()
    code = EXIT_OK
    with interruptible():
        for finding in examine(this_machine(), args.config):
            report.add(finding)
            if finding.state is State.FAILURE:
                code = EXIT_NO
        report.end()
    return code


def _check_library() -> None:
    try:
        import gpa._native  # noqa: F401 - whether it can be
    except ImportError as error:
        from gpa.errors import UnavailableError

        raise UnavailableError(
            f"the native library needs libelf and zlib: install them ({error})"
        ) from error
