"""`gpa status`: how provisioning and the agent stand, from the files that the agent writes.

Exit codes are those of the vendor's `--status`: 0 provisioned, 1 not finished, 2 finished with an
error. It is polled at boot, so nothing is imported that it does not need.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import TYPE_CHECKING, Any

from gpa.cli.run import add_config
from gpa.errors import EXIT_NO, EXIT_OK, EXIT_USAGE

if TYPE_CHECKING:
    from gpa.config import Config

POLL = 0.1
"""Seconds between two looks while waiting."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    parser = subparsers.add_parser(
        "status",
        help="show how the agent stands",
        description="Exit code 0: provisioned; 1: not finished; 2: finished with an error.",
    )
    add_config(parser)
    parser.add_argument(
        "--wait", type=_seconds, default=0.0, metavar="SECONDS", help="wait until it has finished"
    )
    parser.add_argument(
        "--provisioning", action="store_true", help="only whether provisioning has finished"
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a number of seconds is needed") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise argparse.ArgumentTypeError("a number of seconds is needed")
    return seconds


def run(args: argparse.Namespace) -> int:
    """Print and tell by the exit code."""
    from gpa import config
    from gpa.agent import tags

    loaded = config.load(args.config)
    deadline = time.monotonic() + args.wait
    while True:
        try:
            finished = tags.read(loaded.latch_key_folder)
        except PermissionError:
            from gpa.errors import NotRootError

            raise NotRootError(
                "gpa status needs root: it reads the agent's folder (sudo)"
            ) from None
        if finished is not None or time.monotonic() >= deadline:
            break
        time.sleep(min(POLL, max(0.0, deadline - time.monotonic())))

    code, words = EXIT_NO, "provisioning has not finished"
    if finished is not None:
        code, words = EXIT_OK, "provisioned"
        if finished.error:
            code, words = EXIT_USAGE, f"provisioning has finished with an error: {finished.error}"
    from gpa.agent.log import one_line

    if args.json:
        _print_json(loaded, code, finished.error if finished else "")
    else:
        sys.stdout.write(one_line(words) + "\n")
        if not args.provisioning:
            _print_parts(loaded)
    return code


def _print_json(loaded: Config, code: int, error: str) -> None:
    import json

    document = {
        "provisioned": code == EXIT_OK,
        "finished": code != EXIT_NO,
        "errorMessage": error,
        "status": _agent_status(loaded),
    }
    sys.stdout.write(json.dumps(document) + "\n")


def _print_parts(loaded: Config) -> None:
    from gpa.agent import idle
    from gpa.agent.log import one_line

    status = _agent_status(loaded)
    if status is None:
        sys.stdout.write("the agent has not written a status yet\n")
        return
    agent = status.get("proxyAgentStatus", {})
    sys.stdout.write(
        one_line(
            f"{agent.get('status')} as of {status.get('timestamp')}, version {agent.get('version')}"
        )
        + "\n"
    )
    for name, key in (
        ("key latch", "keyLatchStatus"),
        ("eBPF", "ebpfProgramStatus"),
        ("listener", "proxyListenerStatus"),
    ):
        part = agent.get(key, {})
        sys.stdout.write(one_line(f"  {name}: {part.get('status')}, {part.get('message')}") + "\n")
    state = agent.get("keyLatchStatus", {}).get("states", {}).get("secureChannelState", "")
    sys.stdout.write(one_line(f"  mode: {state}") + "\n")
    for line in idle.grants(loaded.log_folder):
        sys.stdout.write(one_line(f"  {line}") + "\n")


def _agent_status(loaded: Config) -> dict[str, Any] | None:
    """status.json, None where there is none or it cannot be read."""
    import json

    from gpa.agent.files import read_small

    try:
        data = read_small(loaded.log_folder / "status.json", 8 << 20)
        status = json.loads(data) if data is not None else None
    except (OSError, ValueError):
        return None
    return status if isinstance(status, dict) else None
