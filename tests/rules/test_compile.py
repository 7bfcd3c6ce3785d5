import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gpa.endpoints import Endpoint, Mode
from gpa.errors import RulesError
from gpa.rules import compile as compiler
from gpa.rules import validity
from gpa.rules.compile import (
    CompiledNames,
    ExeId,
    GroupIds,
    Known,
    compile_table,
    computed_rules,
)
from gpa.rules.merge import merge
from gpa.rules.model import EffectiveRules, LocalFile, Rules
from gpa.rules.resolve import Resolution
from gpa.rules.validate import read_host_item, read_local_rules

ITEM = {
    "id": "one",
    "defaultAccess": "allow",
    "rules": {
        "privileges": [
            {"name": "p", "path": "/M", "queryParameters": {"k": "v"}},
            {"name": "q", "path": "/n"},
        ],
        "roles": [{"name": "r", "privileges": ["q", "p"]}, {"name": "s", "privileges": ["q"]}],
        "identities": [
            {"name": "i", "userName": "alice", "groupName": "ops"},
            {"name": "j", "exePath": "/usr/bin/x", "groupName": "ops"},
            {"name": "k", "processName": "x", "userName": "zoe"},
        ],
        "roleAssignments": [
            {"role": "s", "identities": ["k"]},
            {"role": "r", "identities": ["j", "i"]},
            {"role": "s", "identities": ["i", "k"]},
        ],
    },
}
MODES = {
    Endpoint.IMDS: Mode.ENFORCE,
    Endpoint.WIRESERVER: Mode.AUDIT,
    Endpoint.HOSTGA: Mode.UNKNOWN,
}
NONE: dict[str, Any] = dict.fromkeys(("uids", "group", "exes", "processName", "cgroups"))
KNOWN = Resolution(
    users={"alice": frozenset({1000})},
    groups={"ops": GroupIds(frozenset({200}), frozenset({1003, 1000}))},
    executables={"/usr/bin/x": frozenset({ExeId(1, 2, 3, 4)})},
)


def effective(document: object = ITEM) -> EffectiveRules:
    return merge(read_host_item(document))


def test_names_become_places_and_what_the_kernel_says() -> None:
    table = json.loads(compile_table({Endpoint.IMDS: effective()}, MODES, KNOWN))
    imds = table["endpoints"]["imds"]
    assert (imds["mode"], imds["broken"]) == ("enforce", False)
    assert imds["rules"] == {
        "id": "one",
        "defaultAllowed": True,
        "privileges": [
            {"path": "/M", "query": [["k", "v"]], "methods": None},
            {"path": "/n", "query": [], "methods": None},
        ],
        "groups": [{"gids": [200], "uids": [1000, 1003]}],
        "identities": [
            NONE | {"uids": [1000], "group": 0},
            NONE | {"group": 0, "exes": [[1, 2, 3, 4]]},
            NONE | {"uids": [], "processName": "x"},
        ],
        "roles": [[1, 0], [1]],
        "assignments": [[1, [2]], [0, [1, 0]], [1, [0, 2]]],
        "known": {"exes": None, "cgroups": None},
    }
    assert table["endpoints"]["wireserver"] == {"mode": "audit", "broken": False, "rules": None}
    assert table["endpoints"]["hostga"] == {"mode": "unknown", "broken": False, "rules": None}


def local(**lists: Any) -> Rules:
    """Rules of a local file with one role for one privilege."""
    names = [identity["name"] for identity in lists["identities"]]
    rest = {
        "privileges": [{"name": "p", "path": "/m"}],
        "roles": [{"name": "r", "privileges": ["p"]}],
        "roleAssignments": [{"role": "r", "identities": names}],
    }
    rules = read_local_rules({"rules": rest | lists}).rules
    assert rules is not None
    return rules


def test_selectors_of_one_kind_leave_what_all_of_them_mean() -> None:
    digest, unit = "a" * 64, "backup.service"
    rules = local(
        privileges=[{"name": "p", "path": "/m", "methods": ["PUT", "GET"]}],
        identities=[
            {"name": "a", "userName": "alice", "uid": 1000},
            {"name": "b", "userName": "alice", "uid": 1001},
            {"name": "c", "uid": 7},
            {"name": "d", "exePath": "/usr/bin/x", "exeSha256": digest.upper()},
            {"name": "e", "exeSha256": digest},
            {"name": "f", "systemdUnit": unit, "cgroup": "/system.slice"},
            {"name": "g", "containerId": "b" * 64},
        ],
    )
    x, y = ExeId(1, 2, 3, 4), ExeId(1, 9, 3, 4)
    known = replace(
        KNOWN,
        contents={digest: frozenset({x, y})},
        places={
            ("systemdUnit", unit): frozenset({5, 6}),
            ("cgroup", "/system.slice"): frozenset({6, 7}),
        },
        known=Known(frozenset({y, x}), frozenset({7, 6, 5})),
    )
    effective = EffectiveRules("x", False, rules)
    table = json.loads(compile_table({Endpoint.IMDS: effective}, MODES, known))
    compiled = table["endpoints"]["imds"]["rules"]
    assert compiled["privileges"] == [{"path": "/m", "query": [], "methods": ["PUT", "GET"]}]
    assert compiled["identities"] == [
        NONE | {"uids": [1000]},
        NONE | {"uids": []},
        NONE | {"uids": [7]},
        NONE | {"exes": [list(x)]},
        NONE | {"exes": [list(x), list(y)]},
        NONE | {"cgroups": [6]},
        NONE | {"cgroups": []},
    ]
    assert compiled["known"] == {"exes": [list(x), list(y)], "cgroups": [5, 6, 7]}


def test_nobody_is_waited_for_where_no_rule_asks_for_a_look() -> None:
    by_path = {"name": "i", "exePath": "/usr/bin/x", "exeSha256": "a" * 64}
    effective = EffectiveRules("x", False, local(identities=[by_path]))
    table = json.loads(compile_table({Endpoint.IMDS: effective}, MODES, KNOWN))
    assert table["endpoints"]["imds"]["rules"]["known"] == {"exes": None, "cgroups": None}


def test_what_a_local_file_adds_is_shown() -> None:
    rules = local(
        privileges=[{"name": "p", "path": "/m", "methods": ["GET"]}],
        identities=[{"name": "i", "uid": 0, "containerId": "web"}],
        roleAssignments=[
            {"role": "r", "identities": ["i"], "notBefore": "2026-01-31T08:00:00Z"},
        ],
    )
    now = datetime(2026, 1, 1, tzinfo=UTC)
    held, outside = validity.split(EffectiveRules("x", False, rules), now)
    endpoints = {Endpoint.IMDS: held}
    shown = computed_rules(endpoints, MODES, {Endpoint.IMDS: outside})["imds"]
    assert shown is not None
    assert shown["privileges"] == {"p": {"name": "p", "path": "/m", "methods": ["GET"]}}
    assert shown["identities"] == {"i": {"name": "i", "uid": 0, "containerId": "web"}}
    assert shown["privilegeAssignments"] == {"p": []}
    assert shown["assignmentsNotInForce"] == [
        {"role": "r", "identities": ["i"], "why": "not in force before 2026-01-31T08:00:00Z"}
    ]


def test_equal_rules_compile_to_equal_bytes() -> None:
    tables = {compile_table({Endpoint.IMDS: effective()}, MODES, KNOWN) for _ in range(3)}
    assert len(tables) == 1


def test_broken_rules_compile_to_nothing_but_that() -> None:
    flagged = ITEM | {"id": "eyJpZCI6IngiLCJ1c2VMb2NhbEZpbGVSdWxlcyI6dHJ1ZX0="}
    broken = merge(read_host_item(flagged), LocalFile(trouble="is a link"))
    table = json.loads(compile_table({Endpoint.HOSTGA: broken}, MODES, KNOWN))
    assert table["endpoints"]["hostga"] == {"mode": "unknown", "broken": True, "rules": None}
    assert CompiledNames.of(broken) == CompiledNames()
    shown = computed_rules({Endpoint.HOSTGA: broken}, MODES)["hostga"]
    assert shown is not None
    assert (shown["broken"], shown["defaultAllowed"]) == ("is a link", False)


def test_places_become_names_again() -> None:
    names = CompiledNames.of(effective())
    assert (names.privilege(1), names.role(0), names.identity(2)) == ("q", "r", "k")
    assert (names.privilege(None), names.role(0xFFFF), names.identity(-1)) == (None, None, None)
    assert CompiledNames.of(None) == CompiledNames()


def test_what_was_computed_is_shown_by_name() -> None:
    shown = computed_rules({Endpoint.IMDS: effective()}, MODES)
    assert shown == {
        "imds": {
            "id": "one",
            "mode": "Enforce",
            "defaultAllowed": True,
            "privileges": {
                "p": {"name": "p", "path": "/M", "queryParameters": {"k": "v"}},
                "q": {"name": "q", "path": "/n"},
            },
            "identities": {
                "i": {"name": "i", "userName": "alice", "groupName": "ops"},
                "j": {"name": "j", "exePath": "/usr/bin/x", "groupName": "ops"},
                "k": {"name": "k", "processName": "x", "userName": "zoe"},
            },
            "privilegeAssignments": {"q": ["j", "i", "k"], "p": ["j", "i"]},
            "roles": [
                {"name": "r", "privileges": ["q", "p"]},
                {"name": "s", "privileges": ["q"]},
            ],
            "roleAssignments": [
                {"role": "s", "identities": ["k"]},
                {"role": "r", "identities": ["j", "i"]},
                {"role": "s", "identities": ["i", "k"]},
            ],
        },
        "wireserver": None,
        "hostga": None,
    }


def test_what_is_shown_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "MAX_SHOWN_GRANTS", 3)
    shown = computed_rules({Endpoint.IMDS: effective()}, MODES)["imds"]
    assert shown is not None
    grants: Any = shown["privilegeAssignments"]
    assert sum(len(identities) for identities in grants.values()) <= 3


def test_the_check_hands_over_one_table_and_translates_the_answer() -> None:
    rules = effective().rules

    def refuse(table: bytes) -> None:
        assert json.loads(table)["endpoints"]["imds"]["rules"]["privileges"][0]["path"] == "/M"
        raise RulesError("imds.rules.privileges[0].path: the path has dot segments")

    with pytest.raises(RulesError, match=re.escape("rules.privileges[0].path: the path")) as caught:
        compiler.table_check(refuse)(rules)
    assert caught.value.problems == (("rules.privileges[0].path", "the path has dot segments"),)
    compiler.table_check(len)(rules)
