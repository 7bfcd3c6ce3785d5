"""An explanation in words: short lines, each of which helps. What is foreign in them is escaped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WORDS: Final = {
    "rule_matched": "a rule allows it",
    "default_allow": "no rule names this request, and the default is to allow",
    "no_rules": "there are no rules for this endpoint",
    "disabled": "the endpoint is not protected",
    "exempt": "telemetry of root is exempt from the rules",
    "local": "the agent answered itself",
    "not_root": "this endpoint is for root only: run it as root, no rule can allow it",
    "no_identity_matched": "rules name this request, and none of them this user and program",
    "default_deny": "no rule names this request, and the default is to deny",
    "rules_broken": "the rules of this endpoint cannot be used, so that everything is refused:"
    " mend them (gpa rules lint)",
    "path_traversal": "the path has dot segments or empty ones: ask for the plain path",
    "ambiguous_path": "the path could be read in two ways: ask for the plain path",
    "ambiguous_query": "a query parameter that a rule names is there with two values: send it once",
    "bad_target": "the target has characters that must be percent-encoded, or no path",
    "bad_request_line": "the request line cannot be read: name one method",
    "method_not_allowed": "this method is not allowed, whatever the rules",
    "target_too_long": "the target is longer than 8 KiB",
    "misdirected": "the connection did not come through the interception: connect to the"
    " endpoint's own address",
    "missing_metadata": "the header field Metadata is missing: add Metadata: true",
    "bad_host": "the Host field is missing, repeated or another endpoint's: leave it to the client",
    "not_ready": "the agent was not ready yet: try again, and look at gpa status",
    "host_down": "the host did not answer: try again, and look at gpa status",
}
"""Reasons of docs/audit.md with what to do; others are explained there."""

_DECISIONS: Final = {
    "allow": "allowed",
    "audit-allow": "let through by audit mode; enforce mode would refuse it",
    "deny": "refused",
    "refuse": "refused",
    "fail": "allowed, and failed on its way",
    "depends": "it depends",
}


def decision_words(decision: str) -> str:
    """What became of it."""
    return _DECISIONS.get(decision, decision)


def reason_words(reason: str | None) -> str:
    """Why, and what to do where that is not a matter of rules."""
    if reason is None:
        return "what is not known decides"
    return WORDS.get(reason, f"{reason} (docs/audit.md, Reasons)")


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """What `explain.explain` found."""
    if told["dependsOn"]:
        yield f"not known, and it matters: {', '.join(ascii(w)[1:-1] for w in told['dependsOn'])}"
        for outcome in told["outcomes"]:
            words = decision_words(outcome["decision"])
            yield f"  possible: {words}, {reason_words(outcome['reason'])}"
    for privilege in told["matching"]:
        yield f"the privilege {privilege['name']!a} ({privilege['place']}) names it:" + _of(
            privilege
        )
    for grant in told["nearestIdentities"]:
        names = f"{grant['identity']!a} ({grant['place']}), by the role {grant['role']!a}"
        yield f"it is granted to the identity {names}:"
        for selector in grant["selectors"]:
            yield f"  {_selector(selector)}"
    for privilege in told["nearestPrivileges"]:
        name = f"{privilege['name']!a} ({privilege['place']})"
        yield f"near: the privilege {name}:" + _of(privilege)
    yield from _remedy(told["remedy"])


def _of(privilege: Mapping[str, Any]) -> str:
    """Path, methods and parameters, with what does not hold."""
    said = {"yes": "", "no": " (not this request's)", "unknown": " (not known)"}
    text = f" path {privilege['path']!a}{said[privilege['pathMatches']]}"
    if privilege["methods"]:
        text += f", methods {', '.join(privilege['methods'])}{said[privilege['methodMatches']]}"
    for parameter in privilege["parameters"]:
        pair = f"{parameter['name']!a} = {parameter['wanted']!a}"
        text += f", parameter {pair}{said[parameter['answer']]}"
    return text


def _selector(selector: Mapping[str, Any]) -> str:
    text = f"{selector['selector']} is {selector['wanted']!a}: "
    if selector["answer"] == "yes":
        return text + "so is the caller's"
    have = selector["caller"]
    if have is None or selector["answer"] == "unknown":
        return text + "the caller's is not known"
    return text + ("the caller's is " + ", ".join(map(ascii, have)) if have else "no caller's is")


def _remedy(remedy: Mapping[str, Any] | None) -> Iterator[str]:
    if remedy is None:
        return
    yield f"this in the local file ({remedy['file']}) would allow it, and no other user:"
    yield from (f"  {line}" for line in json.dumps(remedy["rules"], indent=1).splitlines())
    if remedy["allProgramsOfTheUser"]:
        yield "the program is not known, so that it holds for all of the user's: add exePath"
    if remedy["valuesLeftOut"]:
        yield "values that the record hides are left out: add them to queryParameters"
