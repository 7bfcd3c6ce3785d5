"""`gpa rules TOOL …`: what can be done with rules in files, one tool a module, as verbs are.

All of them read files and print; none needs root or a running agent.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb and its tools."""
    parser = subparsers.add_parser("rules", help="check, try, compare and learn rules, from files")
    tools = parser.add_subparsers(dest="tool", metavar="TOOL", required=True)
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        importlib.import_module(f"{__name__}.{module.name}").add_parser(tools)


def run(args: argparse.Namespace) -> int:
    """Run the tool and return its exit code."""
    code: int = importlib.import_module(f"{__name__}.{args.tool}").run(args)
    return code
