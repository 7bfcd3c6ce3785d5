"""Random rule sets, callers and requests from alphabets so small that things meet.

Everything valid, much of it odd: other letters, needless percent-encoding, slashes at the end,
names that differ only in case, roles of nobody, users that do not exist, parameters twice.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tests.rules.oracle import Caller, Json, Machine

if TYPE_CHECKING:
    from random import Random

SEGMENTS = ("metadata", "instance", "instances", "identity", "a", "A", "a b", "ä", "x+y")
PARAMETERS = ("api-version", "Api-Version", "comp", "r", "a b")
VALUES = ("1", "2021-02-01", "x", "X", "https://a/", "x+y", "1=2&3", "")
USERS = ("root", "alice", "Alice", "bob", "carol", "zoe")
GROUPS = ("ops", "Ops", "staff", "root", "none")
PATHS = ("/usr/bin/curl", "/usr/bin/python3", "/opt/tool")
PROGRAMS = ("curl", "Curl", "python3", "tool")
DIGESTS = ("ab" * 32, "cd" * 32, "ef" * 32)
UNITS = ("backup.service", "web.service", "user@1000.service")
CONTAINERS = ("12" * 32, "34" * 32)
CGROUPS = (
    "/system.slice/backup.service",
    "/system.slice/backup.service/!inner/web.service",
    "/system.slice/web.service/payload",
    f"/system.slice/docker-{CONTAINERS[0]}.scope",
    f"/system.slice/docker-{CONTAINERS[0]}.scope/docker-{CONTAINERS[1]}.scope",
    "/user.slice/user-1000.slice/user@1000.service",
    f"/user.slice/user-1000.slice/user@1000.service/!app.slice/docker-{CONTAINERS[1]}.scope",
    "/!backup.service",
)
FOLDERS = ("/system.slice", "/system.slice/backup.service", "/system.slice/back", "/user.slice")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
MOMENTS = tuple(f"2026-01-01T00:00:0{n}{part}Z" for n in range(4) for part in ("", ".5"))
NOW = 1767225600
"""The first of the moments."""
SAFE = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+"


def machine(random: Random) -> Machine:
    uids = {"root": 0} | {name: random.randrange(1000, 1004) for name in ("alice", "Alice", "bob")}
    if random.random() < 0.5:
        uids["carol"] = 1002
    groups = {"root": 0} | {name: random.randrange(200, 203) for name in ("ops", "Ops", "staff")}
    return Machine(
        {name: (uid, random.choice((0, 200, 201, 1000))) for name, uid in uids.items()},
        {
            name: (gid, tuple(random.sample(sorted(uids), random.randrange(3))))
            for name, gid in groups.items()
        },
        {path: (1 << 20, n, 5, n) for n, path in enumerate(PATHS) if random.random() < 0.8},
        {(1 << 20, n, 5, n): random.choice(DIGESTS) for n in range(3) if random.random() < 0.8},
        {n: path for n, path in enumerate(CGROUPS, 1) if random.random() < 0.9},
    )


def caller(random: Random) -> Caller:
    uid = random.choice((0, 0, 1000, 1001, 1002, 1003, 4000))
    exe = (1 << 20, random.randrange(4), random.choice((5, 5, 5, 6)), random.randrange(3))
    return Caller(
        uid=uid,
        gid=random.choice((0, 200, 201, 202, 1000)),
        euid=uid if random.random() < 0.85 else random.choice((0, 1000)),
        exe=exe if random.random() < 0.8 else None,
        exe_name=random.choice((*PROGRAMS, None)),
        userns=0xEFFFFFFD if random.random() < 0.9 else 4026532000,
        sbmagic=0xEF53 if random.random() < 0.95 else 0x6969,
        cgroup_id=random.randrange(len(CGROUPS) + 2),
    )


def item(random: Random, *, use_local: bool) -> Json:
    inside = json.dumps({"id": "host", "useLocalFileRules": use_local}).encode()
    document: Json = {
        "id": base64.b64encode(inside).decode() if random.random() < 0.8 else "host",
        "defaultAccess": random.choice(("allow", "deny", "Allow", "DENY")),
    }
    if random.random() < 0.9:
        document["rules"] = rules(random)
    return document


def local(random: Random) -> Json:
    document: Json = {}
    if random.random() < 0.5:
        document["id"] = "mine"
    if random.random() < 0.5:
        document["defaultAccess"] = random.choice(("allow", "deny"))
    if random.random() < 0.8:
        document["rules"] = rules(random, extended=random.random() < 0.8)
    return document


def rules(random: Random, *, extended: bool = False) -> Json:
    """Rules of the host's language, or `extended` as a local file may have them."""
    privileges = [privilege(random, name) for name in names(random, "p", 8)]
    identities = [identity(random, name, extended=extended) for name in names(random, "i", 6)]
    roles = [
        {"name": name, "privileges": some(random, privileges)}
        for name in names(random, "r", 5)
        if privileges
    ]
    assignments = [
        {"role": random.choice(roles)["name"], "identities": some(random, identities)}
        for _ in range(random.choice((0, 3, 6, 9)))
        if roles and identities
    ]
    if extended:
        for entry in privileges:
            if random.random() < 0.4:
                entry["methods"] = random.sample(METHODS, random.choice((1, 1, 2, 6)))
        for entry in assignments:
            add_times(random, entry)
    lists: Json = {"privileges": privileges, "roles": roles}
    lists |= {"identities": identities, "roleAssignments": assignments}
    return {key: value for key, value in lists.items() if value or random.random() < 0.5}


def names(random: Random, letter: str, most: int) -> list[str]:
    count = random.choice((0, most, most, *range(1, most)))
    return [
        random.choice((letter, letter.upper())) + str(n // 2) + "x" * (n % 2) for n in range(count)
    ]


def some(random: Random, items: list[Json]) -> list[str]:
    chosen = random.sample(items, random.randrange(1, min(len(items), 4) + 1))
    return [entry["name"] for entry in chosen]


def privilege(random: Random, name: str) -> Json:
    segments = [random.choice(SEGMENTS) for _ in range(random.choice((0, 1, 1, 2, 2, 3)))]
    path = "/" + "/".join(random.choice((s, spelled(random, s))) for s in segments)
    if segments and random.random() < 0.2:
        path += "/"
    document: Json = {"name": name, "path": path}
    if random.random() < 0.5:
        asked = random.sample(PARAMETERS, random.choice((0, 1, 1, 2)))
        document["queryParameters"] = {
            random.choice((key, spelled(random, key))): random.choice((v, spelled(random, v)))
            for key in asked
            for v in [random.choice(VALUES[:-1])]
        }
    return document


def add_times(random: Random, assignment: Json) -> None:
    begin, end = sorted(random.sample(MOMENTS, 2), key=MOMENTS.index)
    if random.random() < 0.3:
        assignment["notBefore"] = begin
    if random.random() < 0.3:
        assignment["notAfter"] = end.replace("Z", random.choice(("Z", "+00:00")))


def identity(random: Random, name: str, *, extended: bool) -> Json:
    selectors: list[tuple[str, Any]] = [
        ("userName", random.choice(USERS)),
        ("groupName", random.choice(GROUPS)),
        ("exePath", random.choice(PATHS)),
        ("processName", random.choice(PROGRAMS)),
    ]
    if extended:
        selectors += [
            ("uid", random.choice((0, 1000, 1001, 1002))),
            ("exeSha256", random.choice((*DIGESTS, DIGESTS[0].upper()))),
            ("systemdUnit", random.choice(UNITS)),
            ("cgroup", random.choice(FOLDERS)),
            ("containerId", random.choice(CONTAINERS)),
        ]
    chosen = random.sample(selectors, random.choice((1, 1, 1, 1, 2, 2, 3, 4)))
    return {"name": name, **dict(chosen)}


def request(random: Random, known: list[Json]) -> str:
    """Mostly near a known privilege."""
    if known and random.random() < 0.8:
        near = random.choice(known)
        segments = [unquote(s) for s in near["path"].split("/") if s]
        asked = [(unquote(k), unquote(v)) for k, v in (near.get("queryParameters") or {}).items()]
    else:
        segments, asked = [], []
    segments += [random.choice(SEGMENTS) for _ in range(random.choice((0, 0, 0, 1, 2)))]
    path = "/" + "/".join(respelled(random, s) for s in segments)
    if segments and random.random() < 0.2:
        path += "/"
    for _ in range(random.choice((0, 0, 0, 1, 1, 2))):
        asked.append((random.choice(PARAMETERS), random.choice(VALUES)))
    if asked and random.random() < 0.1:
        asked.pop(random.randrange(len(asked)))
    random.shuffle(asked)
    method = random.choice(("", "", "", "POST ", "PUT ", "HEAD "))
    query = "&".join(f"{respelled(random, k)}={respelled(random, v)}" for k, v in asked)
    return method + (f"{path}?{query}" if query or random.random() < 0.1 else path)


def respelled(random: Random, text: str) -> str:
    """What may stand in a rule, as a caller may write it."""
    plain = text if random.random() < 0.7 else text.swapcase()
    return spelled(random, plain)


def spelled(random: Random, text: str) -> str:
    """Percent-encoded where it must be, and here and there where it need not be."""
    out = ""
    for byte in text.encode():
        character = chr(byte)
        if character in SAFE and random.random() < 0.9:
            out += character
        else:
            out += random.choice(("%%%02x", "%%%02X")) % byte
    return out
