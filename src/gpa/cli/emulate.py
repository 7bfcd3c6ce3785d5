"""`gpa emulate`: the host side of the protocol, to test agents and images against.

docs/emulator.md is the manual.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gpa.errors import EXIT_OK, UsageError

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    parser = subparsers.add_parser(
        "emulate",
        help="be the host: IMDS, WireServer, HostGAPlugin and their secure channel",
        description="Serves what the host serves on the addresses given, and nothing elsewhere."
        " In the machine's own network namespace only loopback addresses are allowed.",
    )
    parser.add_argument("--imds", metavar="ADDR:PORT", help="serve the instance metadata service")
    parser.add_argument("--wireserver", metavar="ADDR:PORT", help="serve WireServer")
    parser.add_argument("--hostga", metavar="ADDR:PORT", help="serve the HostGAPlugin")
    parser.add_argument(
        "--scenario", metavar="FILE", type=Path, help="TOML: modes, rules, faults, the VM"
    )
    parser.add_argument(
        "--control", metavar="PATH", type=Path, help="Unix socket (0600) of the control API"
    )
    parser.add_argument(
        "--record", metavar="FILE", type=Path, help="append what arrived as JSON lines"
    )
    parser.add_argument(
        "--key-file", metavar="FILE", type=Path, help="keep the latched key here (0600)"
    )
    parser.add_argument(
        "--ready-fd",
        metavar="N",
        type=int,
        help="write the line that says where it listens to this descriptor, not to stdout",
    )
    parser.add_argument(
        "--check", action="store_true", help="check the scenario file and do nothing else"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM (exit code 0) or Ctrl-C."""
    if args.check:
        from gpa.emulator import scenario_file

        if args.scenario is None:
            raise UsageError("--check needs --scenario FILE")
        scenario_file.load(args.scenario)
        return EXIT_OK

    from gpa.emulator import addresses, service
    from gpa.emulator.message import ENDPOINTS

    texts = {name: getattr(args, name) for name in ENDPOINTS}
    places = {name: addresses.parse(text) for name, text in texts.items() if text is not None}
    if not places:
        raise UsageError("say what to serve: --imds, --wireserver or --hostga ADDR:PORT")
    options = service.Options(
        places=places,
        scenario=args.scenario,
        control=args.control,
        record=args.record,
        key_file=args.key_file,
        ready_fd=args.ready_fd,
    )
    service.run(options)
    return EXIT_OK
