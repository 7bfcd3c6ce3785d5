import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.rules.lint.made import found, granted, identity, of, privilege

from gpa.endpoints import Endpoint
from gpa.rules.lint.examine import examine_source
from gpa.rules.source import Source

EXE = "rules.identities[0].exePath"


NAMES = """python3 python3.11 perl5.36.0 bash sh busybox node java php8.2 ld-2.36.so gawk
    ld-linux-x86-64.so.2 ld-musl-aarch64.so.1 ruby3.1 lua5.4"""


@pytest.mark.parametrize("name", NAMES.split())
def test_interpreters_are_known_by_name(name: str) -> None:
    assert of("R402", identity(exePath=f"/usr/bin/{name}"), machine=False) == [EXE]


@pytest.mark.parametrize("name", ["restic", "pythonic", "shred", "node_exporter", "less"])
def test_other_programs_are_not_taken_for_interpreters(name: str) -> None:
    assert found(identity(exePath=f"/usr/bin/{name}"), machine=False) == []


def test_an_interpreter_is_known_behind_a_link() -> None:
    assert found(identity(exePath="/usr/bin/run")) == [("R402", EXE), ("R506", EXE)]
    assert found(identity(exePath="/usr/bin/run"), machine=False) == []


@pytest.mark.parametrize(
    ("selectors", "code"),
    [
        ({"exePath": "/home/alice/tool", "userName": "alice"}, "R509"),
        ({"exePath": "/home/alice/tool", "userName": "backup"}, "R510"),
        ({"exePath": "/home/alice/tool", "groupName": "readers"}, "R509"),
        ({"exePath": "/home/alice/tool", "groupName": "staff"}, "R510"),
        ({"exePath": "/home/alice/tool"}, "R510"),
        ({"exePath": "/opt/team/tool", "userName": "backup"}, "R509"),
        ({"exePath": "/opt/team/tool", "userName": "alice"}, "R510"),
        ({"exePath": "/opt/open/tool"}, "R509"),
        ({"exePath": "/opt/open/tool", "userName": "root"}, "R509"),
        ({"exePath": "/home/alice/tool", "uid": 1000}, "R509"),
        ({"exePath": "/home/alice/tool", "uid": 34}, "R510"),
    ],
)
def test_who_can_replace_a_program_is_told(selectors: dict[str, str], code: str) -> None:
    assert found(identity(**selectors)) == [(code, EXE)]


def test_without_a_machine_nothing_is_asked_of_it() -> None:
    rules = identity(exePath="/no/such", userName="nobody", groupName="none")
    assert found(rules, machine=False) == []


@pytest.mark.parametrize(
    ("selectors", "codes"),
    [
        ({"processName": "x"}, ["R401"]),
        ({"processName": "x", "userName": "alice"}, []),
        ({"processName": "x", "systemdUnit": "a.service"}, []),
        ({"exePath": "/opt/open/tool", "exeSha256": "0a" * 32}, []),
        ({"processName": "restic", "exePath": "/usr/bin/restic"}, []),
        ({"processName": "x", "exePath": "/usr/bin/restic"}, ["R406"]),
        ({"exePath": "/usr/bin/"}, ["R404", "R505"]),
        ({"exePath": "//usr/bin/restic"}, ["R404", "R505"]),
        ({"exePath": "restic"}, ["R404"]),
        ({"userName": "alice", "groupName": "readers"}, []),
        ({"userName": "alice", "groupName": "empty"}, ["R503"]),
        ({"userName": "alice", "groupName": "none"}, ["R502"]),
    ],
)
def test_selectors(selectors: dict[str, str], codes: list[str]) -> None:
    assert [code for code, _ in found(identity(**selectors))] == codes


@pytest.mark.parametrize("endpoint", [Endpoint.WIRESERVER, Endpoint.HOSTGA])
def test_only_root_gets_to_wireserver(endpoint: Endpoint) -> None:
    assert len(of("R405", identity(userName="alice"), endpoint=endpoint)) == 1
    assert of("R405", identity(userName="root"), endpoint=endpoint, machine=False) == []
    assert of("R405", identity(exePath="/usr/bin/restic"), endpoint=endpoint) == []
    assert of("R405", identity(uid=5), endpoint=endpoint) == ["rules.identities[0].uid"]
    assert of("R405", identity(uid=0), endpoint=endpoint) == []


@pytest.mark.parametrize(
    ("members", "codes"),
    [
        ({}, []),
        ({"defaultAccess": "deny"}, ["R602", "R603"]),
        ({"defaultAccess": "allow"}, ["R603"]),
        ({"defaultAccess": "Allow", "rules": True}, ["R601", "R603"]),
        ({"defaultAccess": "DENY", "rules": True}, ["R603"]),
        ({"defaultAccess": "allow", "host": True}, []),
        ({"defaultAccess": "deny", "host": True}, ["R602"]),
    ],
)
def test_default_access(members: dict[str, Any], codes: list[str]) -> None:
    host = members.pop("host", False)
    rules = granted(privilege("p", "/m"), p="x") if members.pop("rules", False) else None
    assert [code for code, _ in found(rules, host=host, id="x", **members)] == codes


def test_the_prefix_of_local_rules_is_told_for_each_name() -> None:
    rules = identity(userName="alice")
    rules["identities"][0]["name"] = "LocalFileRules_i"
    rules["roleAssignments"][0]["identities"] = ["LocalFileRules_i"]
    place = "rules.identities[0].name"
    assert found(rules) == [("R205", place)]
    assert found(rules, host=True, id="x", defaultAccess="allow")[-1] == ("R205", place)


def test_what_is_unused_is_told() -> None:
    rules = identity(userName="alice")
    rules["identities"].append({"name": "j", "userName": "alice"})
    rules["roles"].append({"name": "R", "privileges": ["p"]})
    assert found(rules) == [
        ("R202", "rules.roles[1]"),
        ("R204", "rules.roles[1].name"),
        ("R203", "rules.identities[1]"),
    ]


@pytest.mark.parametrize(("hour", "codes"), [(7, []), (8, ["R206"]), (9, ["R206"])])
def test_a_grant_has_ended_at_its_time(hour: int, codes: list[str]) -> None:
    rules = identity(userName="alice")
    rules["roleAssignments"][0]["notAfter"] = "2026-01-31T08:00:00Z"
    source = Source.parse(json.dumps({"rules": rules}).encode(), "x")
    now = datetime(2026, 1, 31, hour, tzinfo=UTC)
    examined = examine_source(source, endpoint=Endpoint.IMDS, host=False, machine=None, now=now)
    assert [one.finding.code.number for one in examined.found] == codes


def test_members_that_are_ignored_are_told_at_their_key() -> None:
    members: dict[str, Any] = {"rule": {}, "$schema": "x", "// remark": 1, "mode": "audit"}
    assert found({"privilege": [], "$comment": ""}, **members) == [
        ("R105", "rule"),
        ("R105", "mode"),
        ("R105", "rules.privilege"),
    ]
    assert found(host=True, id="x", defaultAccess="allow", mode="audit") == []


def test_what_is_not_valid_is_told_once_each() -> None:
    identities = [{"name": f"i{n}", "useName": "x"} for n in range(24)]
    places = [place for code, place in found({"identities": identities}) if code == "R102"]
    # The first are told by the validation, with its words; the schema has the rest.
    assert {f"rules.identities[{n}]" for n in range(24)} <= {
        place.removesuffix(".useName") for place in places
    }
    assert "rules.identities[0].useName" in places


@pytest.mark.parametrize("text", ["[]", "null", "5", '{"rules": []}'])
def test_what_is_not_an_object_is_told(text: str) -> None:
    source = Source.parse(text.encode(), "x")
    examined = examine_source(source, endpoint=Endpoint.IMDS, host=False, machine=None)
    assert [one.finding.code.number for one in examined.found] == ["R102"]
