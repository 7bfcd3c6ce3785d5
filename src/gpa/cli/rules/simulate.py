"""`gpa rules simulate`: requests of an audit log, or of a list, judged by rules that are not in
force yet.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpa.errors import EXIT_NO, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from gpa.rules.model import EffectiveRules
    from gpa.rules.records import Reading
    from gpa.rules.replay import Log
    from gpa.rules.simulate import Simulation
    from gpa.rules.validity import Outside

STYLES: Final = {
    "newly refused": "bold red",
    "newly allowed": "bold yellow",
    "depends": "bold yellow",
}

EXPECTED: Final = {
    "newly refused": "refused, not as expected",
    "newly allowed": "allowed, not as expected",
    "still allowed": "allowed, as expected",
    "still refused": "refused, as expected",
}
"""What is told instead of requests that somebody thought up."""

MAX_LINES: Final = 200
"""Lines printed of one change; the others are counted, and are in the JSON."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the tool."""
    parser = subparsers.add_parser(
        "simulate",
        help="replay an audit log or a list of requests against rules",
        description="Judges requests that were made by rules that are not in force yet, as in"
        " enforce mode, and tells what would change for whom. Exit code 1: something that was let"
        " through would be refused.",
    )
    parser.add_argument("--rules", type=Path, required=True, metavar="FILE", help="the candidate")
    add_sources(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--log", type=Path, nargs="+", metavar="FILE", help="audit.jsonl, with its older parts"
    )
    source.add_argument("--requests", type=Path, metavar="FILE", help="a list of requests")
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="compare with these rules, not with the log"
    )
    parser.add_argument(
        "--strict", action="store_true", help="guess no program's path from other records"
    )
    parser.add_argument(
        "--at",
        type=_moment,
        metavar="TIME",
        help="with the assignments that hold then: 2026-11-25T10:00:00Z (default now)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, for machines")


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Options on what is read of a log, and on what is known beside it."""
    parser.add_argument(
        "--endpoint", choices=("imds", "wireserver", "hostga"), default="imds", help="default imds"
    )
    parser.add_argument(
        "--since", default="", metavar="TIME", help="from this time on: 2026-11-25T10:00, UTC"
    )
    parser.add_argument("--until", default="", metavar="TIME", help="before this time")
    parser.add_argument(
        "--machine", action="store_true", help="ask this machine's user database for names"
    )
    parser.add_argument(
        "--exe",
        action="append",
        default=[],
        type=_full_path,
        metavar="PATH",
        help="a program of this name is this file, where a record has the name only",
    )


def _full_path(text: str) -> str:
    if not text.startswith("/") or text.endswith("/"):
        raise argparse.ArgumentTypeError("a full path is needed")
    return text


def _moment(text: str) -> datetime:
    from datetime import UTC, datetime

    try:
        when = datetime.fromisoformat(text)
        if when.tzinfo is not None:
            return when.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError("a time by RFC 3339 is needed, as 2026-11-25T10:00:00Z")


def run(args: argparse.Namespace) -> int:
    """Judge, print, and tell by the exit code."""
    from datetime import UTC, datetime

    from gpa.endpoints import Endpoint, Mode
    from gpa.rules.extensions import moment_words
    from gpa.rules.in_force import read_rules_file
    from gpa.rules.judge import Judge
    from gpa.rules.progress import Progress
    from gpa.rules.records import Reading
    from gpa.rules.replay import Known, Log
    from gpa.rules.requests import read_requests
    from gpa.rules.simulate import simulate
    from gpa.rules.simulated import document, not_in_force, outside_words

    # Expectations are what is told only where nothing else is compared with.
    expected = args.requests is not None and args.against is None
    endpoint = Endpoint(args.endpoint)
    at = args.at or datetime.now(UTC).replace(microsecond=0)
    candidate = read_rules_file(args.rules).endpoints[endpoint]
    effective, outside = _in_force(candidate.effective, at)
    against: Judge | None = None
    outside_against: tuple[Outside, ...] = ()
    if args.against is not None:
        other = read_rules_file(args.against).endpoints[endpoint]
        in_force, outside_against = _in_force(other.effective, at)
        against = Judge(endpoint, Mode.ENFORCE, in_force)
    log, reading = Log(endpoint, Known(args.exe, guess=not args.strict)), Reading()
    progress = Progress()
    if args.requests is not None:
        for kind in read_requests(args.requests, endpoint):
            log.add(kind)
    else:
        log.read(progress.over(reading.files(args.log), "records read"), args.since, args.until)
    if args.machine:
        ask_machine(log)
    progress.judging(len(log.kinds))
    simulation = simulate(log, effective, against)
    progress.clear()
    fine = simulation.as_expected if expected else not simulation.for_the_worse
    if args.json:
        import json

        shown: dict[str, object] = {"ok": fine, "endpoint": endpoint.value, "at": moment_words(at)}
        shown |= document(simulation, log, reading)
        shown |= {
            "notInForce": not_in_force(outside),
            "notInForceAgainst": not_in_force(outside_against),
        }
        sys.stdout.write(json.dumps(shown) + "\n")
    else:
        if not candidate.default_told:
            say(f"note: {args.rules} has no defaultAccess, the host's would count: taken as deny")
        for path, those in ((args.rules, outside), (args.against, outside_against)):
            for line in outside_words(path, at, those):
                say(line)
        _print(simulation, EXPECTED if expected else {})
        for note in notes(log, reading):
            say(note)
    return EXIT_OK if fine else EXIT_NO


def _in_force(
    rules: EffectiveRules | None, at: datetime
) -> tuple[EffectiveRules | None, tuple[Outside, ...]]:
    from gpa.rules.validity import split

    return (None, ()) if rules is None else split(rules, at)


def ask_machine(log: Log) -> None:
    """Names and groups of users of whom the log has the number only."""
    import grp
    import os
    import pwd

    for asker in {kind.asker for kind in log.kinds}:
        if asker.uid is None or not log.known.nameless(asker):
            continue
        try:
            entry = pwd.getpwuid(asker.uid)
            groups = [grp.getgrgid(g).gr_name for g in os.getgrouplist(entry[0], entry.pw_gid)]
        except (KeyError, OSError):
            continue
        log.known.name(asker.uid, entry.pw_name, groups)


def notes(log: Log, reading: Reading) -> list[str]:
    """What was passed over, and what was guessed."""
    from gpa.rules.phrases import count

    found = []
    if reading.unreadable or reading.torn:
        found.append(f"note: {count(reading.unreadable + reading.torn, 'line')} could not be read")
    if log.unjudged:
        found.append(f"note: no rule decides on {count(log.unjudged, 'request')} of the log")
    if log.forgotten:
        found.append(f"note: {count(log.forgotten, 'request')} too many were left out")
    found += [
        f"note: {name} was taken for {path}, its only path in the log"
        for name, path in sorted(log.known.guessed.items())
    ]
    return found


def _print(simulation: Simulation, headings: Mapping[str, str]) -> None:
    from gpa.rules.phrases import count
    from gpa.rules.simulate import Change
    from gpa.rules.simulated import words

    told = [change for change in Change if simulation.count(change)]
    for change in told:
        heading = headings.get(change, change)
        say(f"{heading}: {count(simulation.count(change), 'request')}", STYLES.get(change, ""))
        lines = [(line, seen) for line, seen in simulation.lines.items() if line.change is change]
        for line, seen in lines[:MAX_LINES]:
            for text in words(line, seen):
                say(f"  {text}")
        if len(lines) > MAX_LINES:
            say(f"  and {count(len(lines) - MAX_LINES, 'more kind')}: see --json")
    if not told:
        say("no request to judge")
    if simulation.unread:
        say(f"refused for their form, whatever the rules: {count(simulation.unread, 'request')}")


def say(line: str, style: str = "") -> None:
    """One line on stdout; coloured on a terminal."""
    from gpa.agent.log import one_line

    text = one_line(line)
    if style and sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        Console(highlight=False, soft_wrap=True).print(Text(text, style=style))
    else:
        sys.stdout.write(text + "\n")
