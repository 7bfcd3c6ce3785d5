"""`gpa demo`: the whole product at work on a bare machine, no cloud needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpa.errors import EXIT_NO, EXIT_OK

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    parser = subparsers.add_parser(
        "demo",
        help="play the scenes: who is let through, who is refused, and why (needs root)",
        description="Plays scenes with an emulated host, the real agent and processes of different"
        " users, in network namespaces and a cgroup of their own, and leaves no trace. Exit code 0"
        " only if every scene came out as it should.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, for machines")
    parser.add_argument(
        "--keep", action="store_true", help="leave it running until Ctrl-C, to try things"
    )


def run(args: argparse.Namespace) -> int:
    """Play them."""
    from gpa.demo.machine import check_ready

    check_ready()  # says so before anything slow is imported
    from gpa.demo.play import demo
    from gpa.demo.report import Json, Lines

    report = Json() if args.json else Lines.on_stdout()
    return EXIT_OK if demo(report, keep=args.keep) else EXIT_NO
