"""`gpa detach`: take away everything that an agent has in the kernel; needs no agent."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gpa.cli.run import add_config
from gpa.errors import EXIT_OK

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    parser = subparsers.add_parser(
        "detach",
        help="remove the agent's programs from the kernel",
        description=(
            "Remove pinned programs, maps and the cgroup of an agent that has stopped. "
            "Afterwards requests go to the host unsigned and unjudged."
        ),
    )
    add_config(parser)
    parser.add_argument(
        "--force",
        action="store_true",
        help="even while the agent runs, which then intercepts nothing",
    )


def run(args: argparse.Namespace) -> int:
    """Remove, and say what."""
    import os

    from gpa import config
    from gpa.agent.lock import holder_pid
    from gpa.errors import AlreadyRunningError, NotRootError

    if os.geteuid() != 0:
        raise NotRootError("gpa detach needs root: it removes eBPF programs (sudo)")
    loaded = config.load(args.config)
    pid = holder_pid(loaded.run_folder)
    if pid is not None and not args.force:
        raise AlreadyRunningError(
            f"the agent is running (pid {pid}): stop it first, or use --force"
        )
    from gpa.agent import pins

    removed = pins.detach(loaded)
    for what in removed:
        sys.stdout.write(f"removed {what}\n")
    if not removed:
        sys.stdout.write("nothing was attached\n")
    return EXIT_OK
