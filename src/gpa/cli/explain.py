"""`gpa explain`: why a request was refused or allowed, or would be; reads files, sends nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpa.cli.run import add_config
from gpa.errors import EXIT_NO, EXIT_OK

if TYPE_CHECKING:
    import argparse

    from gpa.endpoints import Endpoint
    from gpa.rules.facts import Caller
    from gpa.rules.in_force import RulesFile

AUDIT_NAME: Final = "audit.jsonl"
LONGEST_LINE: Final = 64 << 10
"""Characters: a proposed rule is not cut, whose path is as long as a target may be."""

PATH_FORMS: Final = frozenset({"path_traversal", "ambiguous_path"})
"""Reasons for which no request is refused whose endpoint is disabled."""

NOT_JUDGED: Final = frozenset({"refuse"})


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the verb."""
    parser = subparsers.add_parser(
        "explain",
        help="why a request was refused, or would be, and what would allow it",
        description="Give the decision id of an answer (d-42), or a method and a URL with who asks."
        " Exit code 0: allowed, 1: refused or it depends, 78: no such record or no rules.",
    )
    add_config(parser)
    parser.add_argument("words", nargs="+", metavar="ID | METHOD URL")
    parser.add_argument("--log", type=Path, metavar="FILE", help="an audit log instead of ours")
    parser.add_argument("--all", action="store_true", help="every record with this id")
    parser.add_argument("--rules", type=Path, metavar="FILE", help="rules of this file instead")
    parser.add_argument("--endpoint", choices=("imds", "wireserver", "hostga"))
    parser.add_argument("--user", metavar="NAME", help="who asks")
    parser.add_argument("--uid", type=int, metavar="N")
    parser.add_argument("--group", action="append", default=[], metavar="NAME")
    parser.add_argument("--exe", metavar="PATH", help="full path of the program")
    parser.add_argument("--process", metavar="NAME", help="last component of that path")
    parser.add_argument(
        "--no-machine", action="store_true", help="ask neither users nor files of this machine"
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def run(args: argparse.Namespace) -> int:
    """Explain, and tell by the exit code."""
    from gpa.errors import UsageError

    match args.words:
        case [word]:
            told = _by_id(args, word)
            shown: object = told
        case [method, url]:
            told = [_before(args, method, url)]
            shown = told[0]
        case _:
            raise UsageError("give a decision id, or a method and a URL")
    if args.json:
        import json

        sys.stdout.write(json.dumps(shown) + "\n")
    else:
        _print(told)
    return EXIT_OK if all(one["allowed"] for one in told) else EXIT_NO


def _by_id(args: argparse.Namespace, word: str) -> list[dict[str, Any]]:
    from gpa.errors import ConfigError
    from gpa.rules import in_force, recorded

    wanted = recorded.decision_id(word)
    log = args.log or _log_folder(args) / AUDIT_NAME
    found = recorded.find(log, wanted)
    if not found:
        raise ConfigError(f"{log} and its older parts have no {wanted}: rotated away, or elsewhere")
    files = [in_force.read_rules_file(args.rules)] if args.rules else _files(log.parent)
    chosen = found if args.all else found[:1]
    return [_recorded(args, one, files, len(found)) for one in chosen]


def _log_folder(args: argparse.Namespace) -> Path:
    from gpa import config

    return config.load(args.config).log_folder


def _files(folder: Path) -> list[RulesFile]:
    """Those that can be read; a broken one explains nothing, and hinders nothing."""
    from gpa.errors import RulesError
    from gpa.rules import in_force

    files = []
    for path in in_force.rules_files(folder):
        try:
            files.append(in_force.read_rules_file(path))
        except RulesError:
            continue
    return files


def _recorded(
    args: argparse.Namespace, record: Any, files: list[RulesFile], count: int
) -> dict[str, Any]:
    import contextlib
    from datetime import datetime

    from gpa.endpoints import Endpoint
    from gpa.errors import RequestFormError
    from gpa.rules import in_force, named
    from gpa.rules.explain import explain, is_let_through
    from gpa.rules.facts import Request
    from gpa.rules.recorded import caller_of

    decision, reason = record.text("decision") or "", record.text("reason")
    told: dict[str, Any] = {
        "record": dict(record.document),
        "sameId": count,
        "decision": decision,
        "reason": reason,
        "allowed": bool(is_let_through(decision)),
        "rules": None,
        "agrees": None,
        "localRulesCount": None,
        "explanation": None,
    }
    word = record.text("endpoint")
    if word not in set(Endpoint) or decision in NOT_JUDGED:
        return told
    endpoint = Endpoint(word)
    if args.rules:
        file: RulesFile | None = files[0]
        with contextlib.suppress(ValueError):  # a record without a time, which is no agent's
            file = files[0].at(datetime.fromisoformat(record.text("time") or ""))
    else:
        file = in_force.judged_by(files, record.text("time") or "", record.number("epoch") or 0)
    if file is None:
        return told
    told["rules"] = str(file.path)
    judge = _judge(file, endpoint, record.text("mode"))
    caller = caller_of(record)
    if not args.no_machine:
        caller = named.completed(caller, file.endpoints[endpoint].effective, record.number("gid"))
    try:
        request = Request.read_recorded(
            endpoint, record.text("method") or "", record.text("target") or ""
        )
    except RequestFormError:
        return told
    explained = explain(judge, caller, request)
    outcomes = [(o["decision"], o["reason"]) for o in explained["outcomes"]]
    told["localRulesCount"] = file.endpoints[endpoint].uses_local
    told["agrees"] = decision == "fail" or (decision, reason) in outcomes
    told["explanation"] = explained
    return told


def _judge(file: RulesFile, endpoint: Endpoint, mode: str | None) -> Any:
    from gpa.endpoints import Mode
    from gpa.rules.judge import Judge

    rules = file.endpoints[endpoint]
    given = Mode(mode) if mode in set(Mode) else rules.mode
    return Judge(endpoint, given or Mode.ENFORCE, rules.effective)


def _before(args: argparse.Namespace, method: str, url: str) -> dict[str, Any]:
    import datetime

    from gpa.endpoints import Mode
    from gpa.errors import ConfigError, RequestFormError
    from gpa.rules import in_force, named
    from gpa.rules.explain import explain, is_let_through
    from gpa.rules.facts import Request

    endpoint, target = _target(args, url)
    path = args.rules or next(iter(in_force.rules_files(_log_folder(args))), None)
    if path is None:
        raise ConfigError("the agent has written no rules yet: give some with --rules FILE")
    file = in_force.read_rules_file(path).at(datetime.datetime.now(datetime.UTC))
    rules = file.endpoints[endpoint]
    told: dict[str, Any] = {
        "record": None,
        "endpoint": endpoint.value,
        "endpointAssumed": not args.endpoint and not url.lower().startswith("http://"),
        "rules": str(path),
        "explanation": None,
    }
    try:
        request = Request.read(endpoint, method, target)
    except RequestFormError as error:
        if rules.mode is Mode.DISABLED and error.reason in PATH_FORMS:
            return {**told, "decision": "allow", "reason": "disabled", "allowed": True}
        return {**told, "decision": "refuse", "reason": error.reason, "allowed": False}
    caller, gid = _caller(args)
    if not args.no_machine:
        caller = named.completed(caller, rules.effective, gid)
    explained = explain(_judge(file, endpoint, None), caller, request)
    decision = explained["decision"]
    return {
        **told,
        "decision": decision,
        "reason": explained["reason"],
        "allowed": bool(is_let_through(decision)),
        "explanation": explained,
        "defaultAssumed": not rules.default_told,
        "localRulesCount": rules.uses_local,
    }


def _target(args: argparse.Namespace, url: str) -> tuple[Endpoint, str]:
    """Endpoint and origin-form; a path needs --endpoint, or is IMDS's."""
    from gpa.endpoints import Endpoint
    from gpa.errors import UsageError

    if not url.lower().startswith("http://"):
        return Endpoint(args.endpoint or "imds"), url
    authority, _, rest = url[7:].partition("/")
    for endpoint in Endpoint:
        address, port = endpoint.address
        if authority in ({address, f"{address}:80"} if port == 80 else {f"{address}:{port}"}):
            if args.endpoint not in (None, endpoint.value):
                raise UsageError(f"{authority} is {endpoint.value}, not {args.endpoint}")
            return endpoint, f"/{rest}"
    raise UsageError(f"{authority!a} is no endpoint of ours (docs/protocol.md, Endpoints)")


def _caller(args: argparse.Namespace) -> tuple[Caller, int | None]:
    """Who asks, and his gid; real and effective user are taken for one."""
    from gpa.rules import named
    from gpa.rules.facts import UNKNOWN, Caller, Fact, known

    uid, gid = args.uid, None
    users = known(args.user) if args.user else UNKNOWN
    groups = Fact(frozenset(args.group))
    if not args.no_machine and (args.user or uid is not None):
        uid, name, gid = named.user(args.user, uid)
        users = known(name) if name else known()
        if name and gid is not None:
            groups = Fact(groups.values | named.groups_of(name, gid), complete=True)
    elif args.user == "root" and uid is None:
        uid = 0
    exe_paths, names = UNKNOWN, known(args.process) if args.process else UNKNOWN
    if args.exe:
        exe_paths = known(args.exe) if args.no_machine else named.files_of(args.exe)[0]
        if not args.process:
            names = known(*(Path(path).name for path in exe_paths.values))
    return Caller(uid, uid, users, groups, exe_paths, names, one_user=True), gid


def _print(told: list[dict[str, Any]]) -> None:
    from functools import partial

    from gpa.agent.log import one_line

    escape = partial(one_line, limit=LONGEST_LINE)
    if sys.stdout.isatty():
        from gpa.rules.terminal import Terminal

        Terminal(escape).show(told)
        return
    from gpa.rules import telling

    for one in told:
        for line in telling.lines(one):
            sys.stdout.write(escape(line) + "\n")
