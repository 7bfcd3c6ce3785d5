"""`gpa rules diff`: what changes for whom when one rule set takes the place of another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpa.errors import EXIT_NO, EXIT_OK

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from gpa.endpoints import Endpoint
    from gpa.rules.diff import Comparison, Difference, Side
    from gpa.rules.effect import Pairs, Who
    from gpa.rules.in_force import EndpointRules


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the tool."""
    parser = subparsers.add_parser(
        "diff",
        help="compare two rule sets by their effect",
        description="Tells who may make which request by one rule set and not by the other,"
        " whatever their names, order and roles. Exit code 0: no difference; 1: there is one.",
    )
    parser.add_argument("before", type=Path, metavar="A", help="rules file")
    parser.add_argument("after", type=Path, metavar="B", help="the one that takes its place")
    parser.add_argument(
        "--endpoint", choices=("imds", "wireserver", "hostga"), default="imds", help="default imds"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, for machines")


def run(args: argparse.Namespace) -> int:
    """Compare, print, and tell by the exit code."""
    from gpa.endpoints import Endpoint
    from gpa.rules.diff import compare
    from gpa.rules.in_force import read_rules_file

    endpoint = Endpoint(args.endpoint)
    before, after = (
        read_rules_file(path).endpoints[endpoint] for path in (args.before, args.after)
    )
    comparison = compare(before.effective, after.effective)
    if args.json:
        import json

        sys.stdout.write(json.dumps(_document(comparison, endpoint)) + "\n")
    else:
        for note in _notes(args, endpoint, before, after):
            _say(note)
        _print(comparison)
    return EXIT_OK if comparison.same else EXIT_NO


def _notes(
    args: argparse.Namespace, endpoint: Endpoint, before: EndpointRules, after: EndpointRules
) -> Iterator[str]:
    """What is to be known beside the comparison."""
    from gpa.endpoints import Endpoint

    for path, rules in ((args.before, before), (args.after, after)):
        if not rules.default_told:
            yield f"note: {path} has no defaultAccess, the host's would count: taken as deny"
        if rules.effective is not None and rules.effective.broken is not None:
            yield f"note: {path} refuses everything, since its rules are broken"
    if before.mode is not after.mode and None not in (before.mode, after.mode):
        yield f"note: the modes differ, {before.mode} and {after.mode}; only rules are compared"
    if endpoint is not Endpoint.IMDS:
        yield "note: whatever the rules, only root is let through at this endpoint"


def _print(comparison: Comparison) -> None:
    from gpa.rules import phrases
    from gpa.rules.diff import ALLOWED, REFUSED

    if comparison.same:
        _say("no difference: both let the same requests of the same callers through")
        return
    for change, style in ((REFUSED, "bold red"), (ALLOWED, "bold green")):
        groups = _grouped([d for d in comparison.differences if d.change == change])
        if groups:
            _say(change, style)
        for callers, places in groups:
            _say(f"  {callers}")
            for difference in places:
                for line in _place(difference):
                    _say(f"    {line}")
    for names, which in (
        (comparison.refused_twice, "newly refused"),
        (comparison.allowed_twice, "no longer refused for that"),
    ):
        if names:
            _say(f"{which}: requests that have twice, with different values, {', '.join(names)}")
    if comparison.more:
        _say(f"and {phrases.count(comparison.more, 'more difference')}")
    if comparison.cut:
        _say("the rules tell too many kinds of requests apart to look at all: there may be more")


def _grouped(differences: Sequence[Difference]) -> list[tuple[str, list[Difference]]]:
    """By whom they are about."""
    from gpa.rules import phrases
    from gpa.rules.diff import MAX_NAMED

    groups: dict[str, list[Difference]] = {}
    for difference in differences:
        words = "; ".join(phrases.who(one) for one in difference.callers)
        if difference.unless_callers:
            others = (phrases.who(one) for one in difference.unless_callers)
            words += f", unless {phrases.listed(others, MAX_NAMED)}"
        groups.setdefault(words, []).append(difference)
    return list(groups.items())


def _place(difference: Difference) -> Iterator[str]:
    from gpa.rules import phrases
    from gpa.rules.diff import MAX_NAMED

    words = phrases.path(difference.path)
    words += " and beneath" if difference.path else ", every path"
    if difference.query:
        words += f" with {phrases.query(difference.query)}"
    unless = [phrases.path(path) for path in difference.unless_paths]
    if unless:
        words += f", except {phrases.listed(unless, MAX_NAMED)}"
    queries = [phrases.query(more - difference.query) for more in difference.unless_queries]
    if queries:
        words += f", except with {phrases.listed(queries, MAX_NAMED)}"
    yield words
    before = _side(difference.before, lets=difference.change == "newly refused")
    after = _side(difference.after, lets=difference.change == "newly allowed")
    yield f"  before: {before}; after: {after}"


def _side(side: Side, *, lets: bool) -> str:
    from gpa.rules import phrases
    from gpa.rules.diff import MAX_NAMED

    if side.default:
        return f"{'allowed' if lets else 'refused'}, no privilege matches and" + (
            f" {phrases.DEFAULTS[lets]}"
        )
    named = phrases.quoted(side.privileges, MAX_NAMED)
    return f"allowed by {named}" if lets else f"refused, {named} granted to others or nobody"


def _say(line: str, style: str = "") -> None:
    from gpa.agent.log import one_line

    text = one_line(line)
    if style and sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        Console(highlight=False, soft_wrap=True).print(Text(text, style=style))
    else:
        sys.stdout.write(text + "\n")


def _document(comparison: Comparison, endpoint: Endpoint) -> dict[str, Any]:
    """docs/rules-tools.md says what its members mean."""
    return {
        "same": comparison.same,
        "endpoint": endpoint.value,
        "differences": [_difference(difference) for difference in comparison.differences],
        "more": comparison.more,
        "refusedTwice": list(comparison.refused_twice),
        "allowedTwice": list(comparison.allowed_twice),
        "cut": comparison.cut,
    }


def _difference(difference: Difference) -> dict[str, Any]:
    from gpa.rules import phrases
    from gpa.rules.effect import METHOD

    def side(one: Side) -> dict[str, object]:
        return {"privileges": list(one.privileges), "default": one.default}

    def pairs(who: Who) -> dict[str, str]:
        return dict(sorted(who))

    def request(query: Pairs) -> dict[str, object]:
        parameters = dict(sorted(query))
        return {"method": parameters.pop(METHOD, None), "query": parameters}

    return {
        "change": difference.change,
        "path": phrases.path(difference.path),
        **request(difference.query),
        "callers": [pairs(one) for one in difference.callers],
        "unlessCallers": [pairs(one) for one in difference.unless_callers],
        "unlessPaths": [phrases.path(path) for path in difference.unless_paths],
        "unlessQueries": [request(query) for query in difference.unless_queries],
        "before": side(difference.before),
        "after": side(difference.after),
    }
