"""`gpa run`: the agent itself, in the foreground, until SIGTERM or Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gpa.errors import EXIT_OK

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    parser = subparsers.add_parser(
        "run",
        help="run the agent",
        description="Run the agent until SIGTERM. docs/configuration.md lists exit codes and keys.",
    )
    add_config(parser)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Declare --config, for every verb that reads it."""
    from gpa.config import DEFAULT_PATH

    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_PATH,
        metavar="FILE",
        help=f"the configuration, {DEFAULT_PATH} when not given",
    )


def run(args: argparse.Namespace) -> int:
    """Run the agent."""
    import os

    from gpa import config
    from gpa.agent import deferred
    from gpa.errors import NotRootError

    if os.geteuid() != 0:
        # Said before anything is read or loaded.
        raise NotRootError("gpa run needs root: it attaches eBPF programs and keeps keys (sudo)")
    loaded = config.load(args.config)
    deferred.put_off("ssl", "hmac")  # before trio asks for them
    from gpa.agent import start

    start.run(loaded)
    return EXIT_OK
