import json
from typing import Any

import pytest

from gpa.errors import RulesError
from gpa.rules.model import Identity, Privilege
from gpa.rules.validate import MAX_LIST, MAX_PROBLEMS, read_host_item, read_local_rules


def item(**rules: Any) -> dict[str, Any]:
    """A valid item; each argument replaces a list of its rules."""
    lists: dict[str, Any] = {
        "privileges": [{"name": "p", "path": "/m"}, {"name": "q", "path": "/n"}],
        "roles": [{"name": "r", "privileges": ["p", "q"]}],
        "identities": [{"name": "i", "userName": "alice"}],
        "roleAssignments": [{"role": "r", "identities": ["i"]}],
    }
    return {"id": "one", "defaultAccess": "deny", "rules": lists | rules}


def problems_of(document: object) -> list[tuple[str, str]]:
    with pytest.raises(RulesError) as caught:
        read_host_item(document)
    return list(caught.value.problems)


def test_a_valid_item_is_read() -> None:
    privileges = [{"name": "p", "path": "/m", "queryParameters": {"k": "v"}}]
    roles = [{"name": "r", "privileges": ["p"]}]
    read = read_host_item(item(privileges=privileges, roles=roles) | {"mode": "enforce", "new": 1})
    assert (read.id, read.use_local, read.default_allowed) == ("one", None, False)
    assert read.rules is not None
    assert read.rules.privileges == (Privilege("p", "/m", (("k", "v"),)),)
    assert read.rules.identities == (Identity("i", user_name="alice"),)


@pytest.mark.parametrize(
    ("rules", "path", "words"),
    [
        ({"privileges": [{"path": "/m"}]}, "rules.privileges[0].name", "is missing"),
        ({"privileges": [{"name": " ", "path": "/m"}]}, "rules.privileges[0].name", "is blank"),
        ({"privileges": [{"name": 7, "path": "/m"}]}, "rules.privileges[0].name", "not a number"),
        ({"privileges": [{"name": "p"}]}, "rules.privileges[0].path", "is missing"),
        ({"privileges": [{"name": "p", "path": ""}]}, "rules.privileges[0].path", "is blank"),
        ({"privileges": [None]}, "rules.privileges[0]", "must be an object, not null"),
        ({"privileges": {}}, "rules.privileges", "must be a list, not an object"),
        (
            {"privileges": [{"name": "p", "path": "/m"}, {"name": "p", "path": "/n"}]},
            "rules.privileges[1].name",
            "'p' is there twice, first at [0]",
        ),
        (
            {"privileges": [{"name": "p", "path": "/m", "queryParameters": {"": "v"}}]},
            "rules.privileges[0].queryParameters",
            "has a parameter without a name",
        ),
        (
            {"privileges": [{"name": "p", "path": "/m", "queryParameters": {"k": ""}}]},
            "rules.privileges[0].queryParameters['k']",
            "is blank",
        ),
        (
            {"privileges": [{"name": "p", "path": "/m", "queryParameters": {"k": 1}}]},
            "rules.privileges[0].queryParameters['k']",
            "must be a string, not a number",
        ),
        (
            {"privileges": [{"name": "p", "path": "/m", "methods": ["GET"]}]},
            "rules.privileges[0]",
            "has the unknown member 'methods'",
        ),
        ({"roles": [{"name": "r", "privileges": []}]}, "rules.roles[0].privileges", "is empty"),
        ({"roles": [{"name": "r"}]}, "rules.roles[0].privileges", "is missing"),
        (
            {"roles": [{"name": "r", "privileges": ["p", "q", "p"]}]},
            "rules.roles[0].privileges[2]",
            "'p' is there twice, first at [0]",
        ),
        (
            {"roles": [{"name": "r", "privileges": ["p", "P"]}]},
            "rules.roles[0].privileges[1]",
            "the privilege 'P' is not defined",
        ),
        (
            {"roles": [{"name": "r", "privileges": ["p"]}, {"name": "r", "privileges": ["q"]}]},
            "rules.roles[1].name",
            "twice",
        ),
        ({"identities": [{"name": "i"}]}, "rules.identities[0]", "has no selector"),
        (
            {"identities": [{"name": "i", "userName": None, "exePath": None}]},
            "rules.identities[0]",
            "has no selector",
        ),
        (
            {"identities": [{"name": "i", "userName": ""}]},
            "rules.identities[0].userName",
            "is blank",
        ),
        (
            {"identities": [{"name": "i", "userName": "a", "usrName": "b"}]},
            "rules.identities[0]",
            "has the unknown member 'usrName'; did you mean 'userName'?",
        ),
        (
            {"identities": [{"name": "i", "userName": "\ud800"}]},
            "rules.identities[0].userName",
            "surrogate",
        ),
        (
            {"roleAssignments": [{"role": "r", "identities": []}]},
            "rules.roleAssignments[0].identities",
            "is empty",
        ),
        (
            {"roleAssignments": [{"role": "r", "identities": ["i", "i"]}]},
            "rules.roleAssignments[0].identities[1]",
            "twice",
        ),
        (
            {"roleAssignments": [{"role": "r", "identities": ["j"]}]},
            "rules.roleAssignments[0].identities[0]",
            "the identity 'j' is not defined",
        ),
        (
            {"roleAssignments": [{"role": "R", "identities": ["i"]}]},
            "rules.roleAssignments[0].role",
            "the role 'R' is not defined",
        ),
        (
            {"roleAssignments": [{"identities": ["i"]}]},
            "rules.roleAssignments[0].role",
            "is missing",
        ),
        (
            {"roleAssignments": [{"role": "r", "identities": ["i"], "notAfter": "x"}]},
            "rules.roleAssignments[0]",
            "has the unknown member 'notAfter'",
        ),
    ],
)
def test_each_trouble_is_found_at_its_place(rules: dict[str, Any], path: str, words: str) -> None:
    found = dict(problems_of(item(**rules)))
    assert words in found[path]


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"id": None}, "id", "is missing"),
        ({"id": "\t"}, "id", "is blank"),
        ({"id": 3}, "id", "must be a string"),
        ({"id": "eyJpZCI6IiAiLCJ1c2VMb2NhbEZpbGVSdWxlcyI6dHJ1ZX0="}, "id", "inside the base64"),
        ({"defaultAccess": None}, "defaultAccess", "is missing"),
        ({"defaultAccess": "permit"}, "defaultAccess", "must be allow or deny, not 'permit'"),
        ({"defaultAccess": True}, "defaultAccess", "must be a string, not true or false"),
        ({"rules": []}, "rules", "must be an object, not a list"),
    ],
)
def test_the_item_itself_is_checked(change: dict[str, Any], path: str, words: str) -> None:
    found = dict(problems_of(item() | change))
    assert words in found[path]


@pytest.mark.parametrize("document", [None, [], "x", 1, True])
def test_what_is_no_object_is_refused(document: object) -> None:
    assert problems_of(document)[0][1].startswith("must be an object")


def test_all_troubles_are_told_up_to_a_number() -> None:
    identities = [{"name": f"i{n}"} for n in range(100)]
    found = problems_of(item(identities=identities, roleAssignments=[]))
    assert len(found) == MAX_PROBLEMS
    with pytest.raises(RulesError, match=r"rules\.identities\[0\]: has no selector.*and 19 more"):
        read_host_item(item(identities=identities, roleAssignments=[]))


def test_a_list_has_no_more_entries_than_a_record_can_name() -> None:
    many = [{"name": str(n), "path": "/m"} for n in range(MAX_LIST + 1)]
    found = dict(problems_of(item(privileges=many, roles=[], roleAssignments=[])))
    assert str(MAX_LIST) in found["rules.privileges"]


def test_what_is_foreign_is_shown_in_one_short_line() -> None:
    found = problems_of(item() | {"defaultAccess": "\n\x1b[31m" + "x" * 10_000})
    assert "\n" not in found[0][1]
    assert "\x1b" not in found[0][1]
    assert len(found[0][1]) < 200


def test_a_local_file_needs_nothing() -> None:
    local = read_local_rules({"mode": "whatever", "$schema": "https://example.org"})
    assert (local.id, local.default_allowed, local.rules) == (None, None, None)


@pytest.mark.parametrize(
    ("document", "path"),
    [({"id": ""}, "id"), ({"defaultAccess": ""}, "defaultAccess"), ({"rules": 1}, "rules")],
)
def test_what_a_local_file_says_is_checked(document: object, path: str) -> None:
    with pytest.raises(RulesError) as caught:
        read_local_rules(document)
    assert caught.value.problems[0][0] == path


def test_ten_thousand_privileges_for_a_thousand_identities_are_read_at_once() -> None:
    privileges = [{"name": f"p{n}", "path": f"/a/{n}"} for n in range(10_000)]
    identities = [{"name": f"i{n}", "userName": f"u{n}"} for n in range(1_000)]
    roles = [{"name": "r", "privileges": [p["name"] for p in privileges]}]
    assignments = [{"role": "r", "identities": [i["name"] for i in identities]}]
    document = item(
        privileges=privileges, identities=identities, roles=roles, roleAssignments=assignments
    )
    read = read_host_item(json.loads(json.dumps(document)))
    assert read.rules is not None
    assert len(read.rules.privileges) == 10_000
