"""`gpa rules schema`: the form of a rules file, for editors that complete and check it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gpa.errors import EXIT_OK

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the tool."""
    parser = subparsers.add_parser(
        "schema",
        help="print the JSON Schema of a rules file",
        description="Prints the JSON Schema (2020-12) of a local rules file. Save it beside the"
        ' file and name it there: "$schema": "./local-rules.schema.json".',
    )
    parser.add_argument("--host", action="store_true", help="of the host's item instead")
    parser.add_argument("--json", action="store_true", help="taken for granted: a schema is JSON")


def run(args: argparse.Namespace) -> int:
    """Print it."""
    from gpa.rules.schema import host_schema, local_schema, text_of

    sys.stdout.write(text_of(host_schema() if args.host else local_schema()))
    return EXIT_OK
