"""A slow, obvious reading of docs/protocol.md, "Rules": from the documents to a verdict.

The judge of the engine, so it shares no code with `gpa.rules` nor with the native half: it walks
the lists for every request and compares names, not numbers.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

INITIAL_USERNS = 0xEFFFFFFD
NFS = 0x6969


@dataclass(frozen=True)
class Machine:
    """Users and groups by name, executables by path (device, inode, ctime in s and ns).

    `contents` has the SHA-256 of each file that somebody has looked into; `cgroups` the path of
    each cgroup by id, with a `!` before the first component whose name is not root's to give.
    """

    users: dict[str, tuple[int, int]]  # uid, primary gid
    groups: dict[str, tuple[int, tuple[str, ...]]]  # gid, members
    files: dict[str, tuple[int, int, int, int]]
    contents: dict[tuple[int, int, int, int], str] = field(default_factory=dict)
    cgroups: dict[int, str] = field(default_factory=dict)

    def place_of(self, cgroup_id: int) -> list[str]:
        """Components of a cgroup's path that can be believed."""
        path = self.cgroups.get(cgroup_id, "").partition("/!")[0]
        return [part for part in path.split("/") if part]

    def names_of(self, uid: int) -> set[str]:
        return {name for name, (number, _) in self.users.items() if number == uid}

    def groups_of(self, uid: int, captured_gid: int) -> set[str]:
        mine = {self.users[name][1] for name in self.names_of(uid)} | {captured_gid}
        return {
            group
            for group, (gid, members) in self.groups.items()
            if gid in mine or self.names_of(uid) & set(members)
        }


@dataclass(frozen=True)
class Caller:
    """What the kernel captured."""

    uid: int
    gid: int
    euid: int
    exe: tuple[int, int, int, int] | None = None
    exe_name: str | None = None
    userns: int = INITIAL_USERNS
    sbmagic: int = 0xEF53
    cgroup_id: int = 0

    @staticmethod
    def of(document: Json) -> Caller:
        exe: Any = document.get("exe")
        uid: int = document["uid"]
        return Caller(
            uid=uid,
            gid=document["gid"],
            euid=document.get("euid", uid),
            exe=None if exe is None else (exe[0], exe[1], exe[2], exe[3]),
            exe_name=document.get("exeName"),
            userns=document.get("userns", INITIAL_USERNS),
            sbmagic=document.get("sbmagic", 0xEF53),
            cgroup_id=document.get("cgroupId", 0),
        )


@dataclass(frozen=True)
class Outcome:
    """decision is allow, audit_allow, deny, or refused when it is no matter of rules."""

    decision: str
    reason: str
    privilege: str | None = None
    role: str | None = None
    identity: str | None = None


# What holds: the host's item and the local file.


def effective(item: Json | None, local: Json | None) -> Json | None:
    """One item with all lists, `default`, `id`, from the host's item and a valid local document."""
    if item is None:
        return None
    shown, use_local = flag_of(item["id"])
    default = item["defaultAccess"]
    rules = item.get("rules")
    merged = {key: list((rules or {}).get(key) or []) for key in LISTS}
    if use_local and local is not None:
        if local.get("id") is not None:
            shown += "_" + local["id"]
        default = local.get("defaultAccess") or default
        added = local.get("rules")
        prefix = "LocalFileRules_" if rules is not None else ""
        for key in LISTS:
            for entry in (added or {}).get(key) or []:
                merged[key].append(renamed(entry, prefix))
    return {"id": shown, "default": default.lower(), **merged}


LISTS = ("privileges", "roles", "identities", "roleAssignments")


def flag_of(text: str) -> tuple[str, bool]:
    try:
        inside = json.loads(base64.b64decode(text, validate=True))
        plain, flag = inside["id"], inside["useLocalFileRules"]
    except (ValueError, TypeError, KeyError):
        return text, False
    if not isinstance(plain, str) or not isinstance(flag, bool):
        return text, False
    return f"{plain}-useLocalFileRules-{'true' if flag else 'false'}", flag


def renamed(entry: Json, prefix: str) -> Json:
    entry = dict(entry)
    for key in ("name", "role"):
        if key in entry:
            entry[key] = prefix + entry[key]
    for key in ("privileges", "identities"):
        if key in entry:
            entry[key] = [prefix + name for name in entry[key]]
    return entry


# One request.


def decide(
    machine: Machine,
    mode: str,
    endpoint: str,
    rules: Json | None,
    caller: Caller,
    target: str,
    *,
    broken: bool = False,
    now: float = 0,
) -> Outcome:
    """`rules` from `effective`; `target` has a path that every server reads in one way, and a
    method with a space before it when it is not GET."""
    method, _, target = target.rpartition(" ")
    if mode == "disabled":
        return Outcome("allow", "disabled")
    path, _, query = target.partition("?")
    parameters = parsed(query)
    if rules is not None and not broken and ambiguous(rules, parameters):
        return Outcome("refused", "ambiguous_query")
    if endpoint != "imds" and not (caller.uid == 0 and caller.euid == 0):
        return Outcome("deny", "not_root")
    no = "audit_allow" if mode == "audit" else "deny"
    if broken:
        return Outcome(no, "rules_broken")
    if rules is None:
        return Outcome("allow", "no_rules")

    matching = [
        p
        for p in rules["privileges"]
        if privilege_matches(p, path, parameters) and (method or "GET") in methods_of(p)
    ]
    for privilege in matching:
        for identity in rules["identities"]:
            if not identity_matches(identity, caller, machine):
                continue
            for assignment in rules["roleAssignments"]:
                role = next(r for r in rules["roles"] if r["name"] == assignment["role"])
                has_role = identity["name"] in assignment["identities"]
                holds = begin_of(assignment) <= now < end_of(assignment)
                if has_role and holds and privilege["name"] in role["privileges"]:
                    names = privilege["name"], role["name"], identity["name"]
                    return Outcome("allow", "rule_matched", *names)
    if matching:
        return Outcome(no, "no_identity_matched", matching[0]["name"])
    if rules["default"] == "allow":
        return Outcome("allow", "default_allow")
    return Outcome(no, "default_deny")


def methods_of(privilege: Json) -> list[str]:
    return privilege.get("methods") or ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]


def begin_of(assignment: Json) -> float:
    return seconds(assignment.get("notBefore") or "0001-01-01T00:00:00Z")


def end_of(assignment: Json) -> float:
    return seconds(assignment.get("notAfter") or "9999-12-31T23:59:59Z")


def seconds(text: str) -> float:
    plain, _, fraction = text.removesuffix("Z").removesuffix("+00:00").partition(".")
    moment = datetime.strptime(plain, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return moment.timestamp() + float("0." + (fraction or "0"))


def fold(text: str) -> str:
    """Percent-decoded once, in lower case."""
    return urllib.parse.unquote(text).lower()


def parsed(query: str) -> list[tuple[str, str]]:
    pairs = []
    for piece in query.split("&"):
        name, _, value = piece.partition("=")
        if name:
            pairs.append((fold(name), fold(value)))
    return pairs


def ambiguous(rules: Json, parameters: list[tuple[str, str]]) -> bool:
    named = {fold(n) for p in rules["privileges"] for n in (p.get("queryParameters") or {})}
    return any(len({v for n, v in parameters if n == name}) > 1 for name in named)


def privilege_matches(privilege: Json, path: str, parameters: list[tuple[str, str]]) -> bool:
    def segments(text: str) -> list[str]:
        return [fold(s) for s in text.split("/") if s]

    wanted, have = segments(privilege["path"]), segments(path)
    asked = privilege.get("queryParameters") or {}
    return have[: len(wanted)] == wanted and all(
        (fold(name), fold(value)) in parameters for name, value in asked.items()
    )


def identity_matches(identity: Json, caller: Caller, machine: Machine) -> bool:
    """Every selector that is there must hold."""
    users, groups = set[str](), set[str]()
    if caller.uid == caller.euid:
        users = machine.names_of(caller.uid)
        groups = machine.groups_of(caller.uid, caller.gid)
    # The kernel's word on the program counts in the first user namespace, on a local file system.
    programs, files, contents = set[str](), set[str](), set[str]()
    if caller.userns == INITIAL_USERNS and caller.sbmagic != NFS:
        programs = {caller.exe_name} if caller.exe_name else set()
        files = {path for path, file in machine.files.items() if file == caller.exe}
        contents = {machine.contents[caller.exe]} if caller.exe in machine.contents else set()
    # Of nested names the outermost counts.
    place = machine.place_of(caller.cgroup_id)
    units = [p for p in place if p.endswith((".service", ".scope"))][:1]
    ids = [name for n, p in enumerate(place) if (name := container_of(p, place[:n]))][:1]
    has: dict[str, Any] = {
        "userName": users,
        "groupName": groups,
        "exePath": files,
        "processName": programs,
        "uid": {caller.uid} if caller.uid == caller.euid else set(),
        "exeSha256": contents,
        "systemdUnit": set(units),
        "cgroup": {"/" + "/".join(place[:n]) for n in range(1, len(place) + 1)},
        "containerId": set(ids),
    }
    wanted = {key: value for key, value in identity.items() if key in has and value is not None}
    if "exeSha256" in wanted:
        wanted["exeSha256"] = wanted["exeSha256"].lower()
    return all(value in has[key] for key, value in wanted.items())


def container_of(name: str, above: list[str]) -> str:
    """The id or name in one component of a cgroup's path."""
    machine = re.fullmatch(r"machine-(.+)\.scope", name)
    if machine and above[-1:] == ["machine.slice"]:
        return machine[1]
    digits = re.search(r"[0-9a-f]{64}", name)
    return digits[0] if digits and "conmon" not in name else ""
