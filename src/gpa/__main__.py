"""`gpa VERB …`: argv to verb, every trouble to one line on stderr and a documented exit code.

Invoked as `azure-proxy-agent` it takes the options of the vendor's agent (docs/protocol.md, "Local
endpoints").
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from gpa import cli
from gpa.errors import EXIT_INTERRUPTED, EXIT_SOFTWARE, GpaError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUMMARY = "Keeps the metadata services of a VM for those who may ask."
TRACEBACK_VARIABLE = "GPA_TRACEBACK"
"""Set in the environment: a defect of ours prints its traceback as well."""


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Run the command and return its exit code; never raises, save for argparse's own exits."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = Path(program or sys.argv[0]).name
    try:
        if name == "azure-proxy-agent":
            words = _vendor_words(words)
        return _dispatch(words)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: head(1), a closed pager
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_SOFTWARE
    except BaseExceptionGroup as group:
        return _report(group)
    except Exception as error:  # noqa: BLE001 - the one place that turns a defect into a code
        return _report(error)


def _dispatch(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="gpa", description=SUMMARY)
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    known = sorted(module.name for module in pkgutil.iter_modules(cli.__path__))
    # Only the verb that was asked for is imported; help and mistakes need them all.
    wanted = words[:1] if words[:1] and words[0] in known else known
    for name in wanted:
        importlib.import_module(f"gpa.cli.{name}").add_parser(subparsers)
    args = parser.parse_args(words)
    module = importlib.import_module(f"gpa.cli.{args.verb}")
    code: int = module.run(args)
    return code


def _vendor_words(words: list[str]) -> list[str]:
    """The vendor's options in our words: none or `console`, `--version`, `--status [--wait
    SECONDS]`."""
    match words:
        case [] | ["console"]:
            return ["run"]
        case ["--version"]:
            return ["version"]
        case ["--status", *rest]:
            return ["status", "--provisioning", *rest]
    raise UsageError("usage: azure-proxy-agent [console | --version | --status [--wait SECONDS]]")


def _report(error: BaseException) -> int:
    """Print one line; a group is judged by its gravest part of ours, else by its first part."""
    leaves = list(_leaves(error))
    interrupted = [leaf for leaf in leaves if isinstance(leaf, KeyboardInterrupt)]
    ours = [leaf for leaf in leaves if isinstance(leaf, GpaError)]
    if interrupted and len(interrupted) == len(leaves):
        return EXIT_INTERRUPTED
    if len(ours) == len(leaves):
        _say(str(ours[0]))
        return ours[0].exit_code
    defect = next(leaf for leaf in leaves if not isinstance(leaf, GpaError | KeyboardInterrupt))
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error)
    _say(
        f"internal error: {type(defect).__name__}: {defect}{_place(defect)}"
        f" (set {TRACEBACK_VARIABLE}=1 for the whole story)"
    )
    return EXIT_SOFTWARE


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _say(message: str) -> None:
    """One line whatever the message holds."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    sys.stderr.write(f"gpa: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
