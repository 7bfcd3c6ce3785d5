"""`gpa version`: what is installed."""

from __future__ import annotations

import json
import platform
import sys
from typing import TYPE_CHECKING

from gpa.errors import EXIT_OK

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    parser = subparsers.add_parser("version", help="show the version of the agent and its parts")
    parser.add_argument("--json", action="store_true", help="for machines")


def run(args: argparse.Namespace) -> int:
    """Print the version; the native library's and the build profile, too, with --json."""
    from gpa import _native

    if args.json:
        parts = {
            "version": _native.__version__,
            "profile": _native.PROFILE,
            "python": platform.python_version(),
            "kernel": platform.release(),
            "machine": platform.machine(),
        }
        sys.stdout.write(json.dumps(parts) + "\n")
    else:
        sys.stdout.write(f"gpa {_native.__version__}\n")
    return EXIT_OK
