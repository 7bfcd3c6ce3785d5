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
    "bad_request_line": "the request line cannot be read: it is METHOD target HTTP/1.1",
    "bad_version": "the client speaks another version: HTTP/1.1 and HTTP/1.0 are spoken here",
    "bad_field": "a header field cannot be read in one way only: send each once, in plain ASCII",
    "field_imitates_ours": "a header field has a name that only the agent may set: leave it out",
    "bad_host": "the Host field is missing, repeated or another endpoint's: leave it to the client",
    "bad_framing": "the length of the body is told twice or not at all: send Content-Length or"
    " chunks, not both",
    "bad_chunk": "the chunked body cannot be read: the client is broken, or its data was cut off",
    "bad_target": "the target has characters that must be percent-encoded, or no path",
    "ambiguous_path": "the path could be read in two ways: ask for the plain path",
    "ambiguous_query": "a query parameter that a rule names is there with two values: send it once",
    "missing_metadata": "the header field Metadata is missing: add Metadata: true",
    "method_not_allowed": "this method is not allowed, whatever the rules",
    "body_too_large": "the body is larger than the agent takes: send less at a time",
    "target_too_long": "the target is longer than 8 KiB: shorten the query",
    "head_too_large": "the header fields are too large: send fewer, without cookies of others",
    "misdirected": "the connection did not come through the interception: connect to the"
    " endpoint's own address, not to the agent's",
    "request_timeout": "the request did not arrive in time: the client is slow or hangs",
    "not_found": "the agent itself has nothing under this path",
    "not_ready": "the agent was not ready yet: try again, and look at gpa status",
    "identity_lost": "nobody could say any more who made the connection: try again with a new one;"
    " if it comes again, look at gpa doctor",
    "over_budget": "too many request bodies were held at the time: try again, and look who sends"
    " so much in the audit log",
    "host_unreachable": "the host refused or reset the connection: try again; rules do not matter",
    "host_broken": "the host's answer cannot be read: try again; rules do not matter",
    "host_timeout": "the host did not answer in time: try again; rules do not matter",
    "host_down": "the host does not answer at the moment: try again, and look at gpa status",
}
"""Reasons of docs/audit.md with what to do; those of a later version are explained there."""

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


def lines(one: Mapping[str, Any]) -> Iterator[str]:
    """All that `gpa explain` has to say of one request, for pipes and logs."""
    yield from heading(one)
    yield verdict(one)
    yield from remarks(one)
    if (told := one["explanation"]) is not None:
        yield from matching(told)
        for grant in told["nearestIdentities"]:
            yield granted(grant)
            yield from (f"  {_selector(selector)}" for selector in grant["selectors"])
        yield from ending(one)


def heading(one: Mapping[str, Any]) -> Iterator[str]:
    """Who asked for what, and when."""
    record = one["record"]
    if record is None:
        if one["endpointAssumed"]:
            yield "a path without an address is taken for one of imds: --endpoint names another"
        return
    who = record.get("user")
    if "uid" in record:
        who = f"{who} (uid {record['uid']})" if who else f"uid {record['uid']}"
    program = record.get("path") or record.get("exe") or "a program that is not known"
    yield f"{record.get('id')} of {record.get('time')}, {record.get('endpoint')}"
    yield f"{record.get('method')} {record.get('target')} by {who or 'nobody known'}, {program}"


def verdict(one: Mapping[str, Any]) -> str:
    """What became of it, and why."""
    if one["reason"] is None and one["decision"] != "depends":
        return f"{decision_words(one['decision'])}: for one reason or another, see below"
    return f"{decision_words(one['decision'])}: {reason_words(one['reason'])}"


def remarks(one: Mapping[str, Any]) -> Iterator[str]:
    """By what it was judged, and what to think of that."""
    if one["rules"]:
        yield f"rules: {one['rules']}"
    elif one["record"] is not None and one["decision"] != "refuse":
        yield "the rules that judged it are not there any more: give some with --rules"
    if one.get("defaultAssumed"):
        yield "the file has no defaultAccess: the host's counts, deny is assumed here"
    if one.get("agrees") is False:
        yield (
            "the record does not agree with the lines below: the kernel saw more than it tells"
            " (another file of that path, a container's, or names that changed since)"
        )
    if one.get("sameId", 1) > 1:
        yield f"{one['sameId']} records have this id, of several runs of the agent (--all)"


def matching(told: Mapping[str, Any]) -> Iterator[str]:
    """What matters and is not known, and the privileges that name the request."""
    if told["dependsOn"]:
        yield f"not known, and it matters: {', '.join(ascii(w)[1:-1] for w in told['dependsOn'])}"
        for outcome in told["outcomes"]:
            words = decision_words(outcome["decision"])
            yield f"  possible: {words}, {reason_words(outcome['reason'])}"
    for privilege in told["matching"]:
        yield f"the privilege {privilege['name']!a} ({privilege['place']}) names it:" + _of(
            privilege
        )
    if told["matching"] and not told["nearestIdentities"]:
        yield "it is granted to nobody"


def granted(grant: Mapping[str, Any]) -> str:
    """To whom a privilege is granted."""
    names = f"{grant['identity']!a} ({grant['place']}), by the role {grant['role']!a}"
    return f"{grant['privilege']!a} is granted to the identity {names}:"


def ending(one: Mapping[str, Any]) -> Iterator[str]:
    """What came near where nothing matched, and what would help."""
    told = one["explanation"]
    for privilege in told["nearestPrivileges"]:
        name = f"{privilege['name']!a} ({privilege['place']})"
        yield f"near: the privilege {name}:" + _of(privilege)
    if told["remedy"] is not None:
        yield from _remedy(told["remedy"])
        if one["localRulesCount"] is False:
            yield "the host does not ask for the local file: it must, or have this itself"


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
    have = callers(selector)
    return text + (f"the caller's is {have}" if have else "no caller's is")


def callers(selector: Mapping[str, Any]) -> str:
    """What the caller has there; empty for nothing."""
    have = selector["caller"]
    if have is None or selector["answer"] == "unknown":
        return "not known"
    return ", ".join(map(ascii, have))


def _remedy(remedy: Mapping[str, Any]) -> Iterator[str]:
    yield f"these, added to the local file ({remedy['file']}), would allow it to no other user:"
    rules = [f"{json.dumps(kind)}: {json.dumps(items)}" for kind, items in remedy["rules"].items()]
    last = len(rules) - 1
    for number, line in enumerate(rules):  # short enough to be read, whole enough to be copied
        yield f"  {' ' if number else '{'}{line}{',' if number < last else '}'}"
    if remedy["allProgramsOfTheUser"]:
        yield "the program is not known, so that it holds for all of the user's: add exePath"
    elif "exePath" not in remedy["rules"]["identities"][0]:
        yield "the program's path is not known: exePath in place of processName is stricter"
    if remedy["valuesLeftOut"]:
        yield "values that the record hides are left out: add them to queryParameters"
