import json
import re
from typing import Any

import pytest

from gpa.endpoints import Endpoint, Mode
from gpa.errors import RulesError
from gpa.rules import compile as compiler
from gpa.rules.compile import CompiledNames, ExeId, GroupIds, compile_table, computed_rules
from gpa.rules.merge import merge
from gpa.rules.model import EffectiveRules, LocalFile
from gpa.rules.resolve import Resolution
from gpa.rules.validate import read_host_item

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
        "privileges": [{"path": "/M", "query": [["k", "v"]]}, {"path": "/n", "query": []}],
        "groups": [{"gids": [200], "uids": [1000, 1003]}],
        "identities": [
            {"uids": [1000], "group": 0, "exes": None, "processName": None},
            {"uids": None, "group": 0, "exes": [[1, 2, 3, 4]], "processName": None},
            {"uids": [], "group": None, "exes": None, "processName": "x"},
        ],
        "roles": [[1, 0], [1]],
        "assignments": [[1, [2]], [0, [1, 0]], [1, [0, 2]]],
    }
    assert table["endpoints"]["wireserver"] == {"mode": "audit", "broken": False, "rules": None}
    assert table["endpoints"]["hostga"] == {"mode": "unknown", "broken": False, "rules": None}


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
