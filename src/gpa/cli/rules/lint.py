"""`gpa rules lint`: what is wrong in files of rules, or not as it seems, and what to do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gpa.endpoints import Endpoint
from gpa.errors import EXIT_NO, EXIT_OK, UsageError

if TYPE_CHECKING:
    import argparse

    from gpa.rules.lint.machine import Machine


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the tool."""
    parser = subparsers.add_parser(
        "lint",
        help="say what is wrong in files of rules, or not as it seems",
        description="Takes local files, items of the host (--host), and what the agent wrote"
        " (AuthorizationRules_*.json). Exit code 0: nothing grave; 1: findings at or above"
        " --fail-on; 78: a file cannot be read.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--endpoint",
        choices=[endpoint.value for endpoint in Endpoint],
        help="for which the rules are (that of the file's name, else imds)",
    )
    parser.add_argument("--host", action="store_true", help="the files are items of the host")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--no-machine",
        action="store_true",
        help="ask nothing of this machine: the rules are for another",
    )
    where.add_argument(
        "--root", type=Path, metavar="DIR", help="the rules are for the image mounted at DIR"
    )
    parser.add_argument(
        "--fail-on",
        choices=["error", "warning", "note"],
        default="warning",
        help="the least that counts for the exit code (warning)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, for machines")


def run(args: argparse.Namespace) -> int:
    """Examine each file, print, and tell by the exit code."""
    from datetime import UTC, datetime

    from gpa.rules.lint import report
    from gpa.rules.lint.examine import examine
    from gpa.rules.lint.finding import Severity

    machine = _machine(args)
    endpoint = Endpoint(args.endpoint) if args.endpoint else None
    now = datetime.now(UTC)
    results = [
        examine(path, endpoint=endpoint, host=args.host, machine=machine, now=now)
        for path in args.files
    ]
    limit = Severity(args.fail_on)
    failed = any(severity.reaches(limit) for severity in report.count(results))
    if args.json:
        report.print_json(results, failed=failed)
    elif sys.stdout.isatty():
        report.print_coloured(results)
    else:
        report.print_lines(results)
    return EXIT_NO if failed else EXIT_OK


def _machine(args: argparse.Namespace) -> Machine | None:
    from gpa.rules.lint.machine import Image, ThisMachine

    if args.no_machine:
        return None
    if args.root is None:
        return ThisMachine()
    if not args.root.is_dir():
        raise UsageError(f"--root: {args.root} is not a folder")
    return Image(args.root)
