"""`gpa rules learn`: an audit log to the smallest rules that would have allowed it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpa.cli.rules.simulate import add_sources
from gpa.errors import EXIT_NO, EXIT_OK, UsageError

if TYPE_CHECKING:
    from gpa.rules.learn import Learnt
    from gpa.rules.records import Reading
    from gpa.rules.replay import Log


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the tool."""
    parser = subparsers.add_parser(
        "learn",
        help="make the smallest rules that would have allowed what an audit log shows",
        description="Writes a local rules file to stdout, with the evidence of each grant, and a"
        " report to stderr. Learns from what went on to the host, in audit mode too; grants no"
        " more than was seen unless asked. Exit code 1: there was nothing to learn from.",
    )
    parser.add_argument(
        "--log",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="audit.jsonl, with its older parts; - for standard input",
    )
    add_sources(parser)
    parser.add_argument("--id", help="of the rules")
    parser.add_argument(
        "--by",
        choices=("user+exe", "user", "exe"),
        default="user+exe",
        help="what a caller is known by; `user` grants to all his programs, `exe` to all its users",
    )
    parser.add_argument(
        "--any-query", action="store_true", help="grant a path whatever its query asks for"
    )
    parser.add_argument("--any-method", action="store_true", help="grant a path with every method")
    parser.add_argument(
        "--depth", type=_depth, metavar="N", help="grant the first N segments of a path"
    )
    parser.add_argument(
        "--include-refused", action="store_true", help="learn from what was refused, too"
    )
    parser.add_argument(
        "--host",
        action="store_true",
        help="say only what the host's own rules can: any method, and no user by number",
    )
    parser.add_argument("--json", action="store_true", help="rules and report in one JSON object")


def _depth(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError("a number of segments is needed, at least 1")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Learn, write, report, and tell by the exit code."""
    from gpa.cli.rules.simulate import ask_machine, notes
    from gpa.endpoints import Endpoint
    from gpa.rules.learn import learn
    from gpa.rules.progress import Progress
    from gpa.rules.records import Reading
    from gpa.rules.replay import Known, Log
    from gpa.rules.validate import read_host_item, read_local_rules

    if args.host and not args.id:
        raise UsageError("--host needs --id: rules of the host have one")
    log, reading = Log(Endpoint(args.endpoint), Known(args.exe)), Reading()
    progress = Progress()
    log.read(progress.over(reading.files(args.log), "records read"), args.since, args.until)
    if args.machine:
        ask_machine(log)
    progress.judging(len(log.kinds))
    learnt = learn(
        log,
        rules_id=args.id,
        by=args.by,
        widen_query=args.any_query,
        depth=args.depth,
        include_refused=args.include_refused,
        any_method=args.any_method,
        host=args.host,
    )
    progress.clear()
    if learnt.requests:
        read = read_host_item if args.host else read_local_rules
        read(learnt.document)
    if args.json:
        sys.stdout.write(json.dumps(_document(learnt, log, reading)) + "\n")
    else:
        if learnt.requests:
            sys.stdout.write(readable(learnt.document))
        for line in [*_report(learnt), *notes(log, reading)]:
            _report_line(line)
    return EXIT_OK if learnt.requests else EXIT_NO


def readable(document: dict[str, Any]) -> str:
    """JSON with one rule a line, as people write it."""
    parts = []
    for key, value in document.items():
        if not isinstance(value, dict):
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
            continue
        lists = [
            f"  {json.dumps(name)}: [\n    "
            + ",\n    ".join(json.dumps(item, ensure_ascii=False) for item in items)
            + "]"
            for name, items in value.items()
        ]
        parts.append(f"{json.dumps(key)}: {{\n" + ",\n".join(lists) + "}")
    return "{" + ",\n ".join(parts) + "}\n"


def _report(learnt: Learnt) -> list[str]:
    from gpa.rules.learnt import EVIDENCE
    from gpa.rules.local import MAX_BYTES
    from gpa.rules.phrases import count

    if not learnt.requests:
        lines = ["there is nothing to learn from: no request of this endpoint went on to the host"]
    else:
        rules: Any = learnt.document["rules"]
        what = f"{count(len(rules['privileges']), 'privilege')} for "
        what += count(len(rules["identities"]), "caller")
        lines = [f"learnt {what} from {count(learnt.requests, 'request')}"]
        lines += [f"  {role}" for role in _evidence(learnt)]
        if len(readable(learnt.document).encode()) > MAX_BYTES:
            lines.append(
                f"note: the agent takes no local file beyond {MAX_BYTES >> 20} MiB: leave out"
                f" `{EVIDENCE}`, or grant more at once (--depth, --any-query, --by user)"
            )
    lines += [
        f"left out: {count(seen.count, 'request')}, {why}"
        for why, seen in sorted(learnt.left_out.items())
    ]
    return lines


def _evidence(learnt: Learnt) -> list[str]:
    from gpa.rules.learnt import EVIDENCE

    evidence: Any = learnt.document[EVIDENCE]
    return [f"{role}: {line}" for role, lines in evidence.items() for line in lines]


def _report_line(line: str) -> None:
    from gpa.agent.log import one_line

    sys.stderr.write(one_line(line) + "\n")


def _document(learnt: Learnt, log: Log, reading: Reading) -> dict[str, Any]:
    """docs/rules-tools.md says what its members mean."""
    return {
        "ok": bool(learnt.requests),
        "endpoint": log.endpoint.value,
        "requests": learnt.requests,
        "rules": learnt.document if learnt.requests else None,
        "leftOut": [
            {"why": why, "count": seen.count, "first": seen.first, "last": seen.last}
            for why, seen in sorted(learnt.left_out.items())
        ],
        "unjudged": log.unjudged,
        "unreadable": reading.unreadable + reading.torn,
        "guessed": dict(sorted(log.known.guessed.items())),
    }
