"""What a local file may say beyond the host's language, and how each value must be written."""

from __future__ import annotations

from typing import Any

import pytest

from gpa.errors import RulesError
from gpa.rules.model import HOST_SELECTORS, LOCAL_SELECTORS, METHODS, Identity
from gpa.rules.validate import read_host_item, read_local_rules

DIGEST = "0123456789abcdef" * 4
UTC = "2026-01-31T08:00:00Z"


def rules(
    privilege: dict[str, Any] | None = None,
    identity: dict[str, Any] | None = None,
    assignment: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "rules": {
            "privileges": [{"name": "p", "path": "/m"} | (privilege or {})],
            "roles": [{"name": "r", "privileges": ["p"]}],
            "identities": [{"name": "i"} | (identity or {"userName": "a"})],
            "roleAssignments": [{"role": "r", "identities": ["i"]} | (assignment or {})],
        }
    }


ALL = {
    "uid": 1000,
    "exeSha256": DIGEST,
    "systemdUnit": "backup@1.service",
    "cgroup": "/system.slice/backup.service",
    "containerId": "c" * 64,
}


@pytest.mark.parametrize("member", ALL)
def test_a_selector_is_known_in_a_local_file_and_only_there(member: str) -> None:
    document = rules(identity={member: ALL[member]})
    read = read_local_rules(document).rules
    assert read is not None
    assert list(read.identities[0].selectors()) == [(member, ALL[member])]
    with pytest.raises(RulesError) as caught:
        read_host_item({"id": "x", "defaultAccess": "deny"} | document)
    assert f"has the unknown member '{member}'" in caught.value.problems[0][1]


@pytest.mark.parametrize(
    "document",
    [
        rules(privilege={"methods": ["GET"]}),
        rules(assignment={"notBefore": UTC}),
        rules(assignment={"notAfter": UTC}),
    ],
)
def test_other_members_are_known_in_a_local_file_and_only_there(document: dict[str, Any]) -> None:
    assert read_local_rules(document).rules is not None
    with pytest.raises(RulesError) as caught:
        read_host_item({"id": "x", "defaultAccess": "deny"} | document)
    assert "has the unknown member" in caught.value.problems[0][1]


def test_every_selector_has_its_attribute() -> None:
    values: dict[str, Any] = dict.fromkeys(LOCAL_SELECTORS.values(), "x")
    shown = dict(Identity("i", **values).selectors())
    assert list(shown) == list(LOCAL_SELECTORS)
    assert set(HOST_SELECTORS) < set(LOCAL_SELECTORS)


def test_what_is_equal_is_kept_in_one_form() -> None:
    read = read_local_rules(
        rules(
            privilege={"methods": ["PUT", "GET"]},
            identity={"exeSha256": DIGEST.upper()},
            assignment={"notBefore": "2026-01-31T08:00:00.0+00:00", "notAfter": None},
        )
    ).rules
    assert read is not None
    assert read.privileges[0].methods == ("PUT", "GET")
    assert read.identities[0].exe_sha256 == DIGEST
    begin = read.assignments[0].not_before
    assert begin is not None
    assert begin.isoformat() == "2026-01-31T08:00:00+00:00"
    assert read.assignments[0].not_after is None


@pytest.mark.parametrize(
    ("document", "path", "words"),
    [
        (rules({"methods": []}), "privileges[0].methods", "is empty"),
        (rules({"methods": "GET"}), "privileges[0].methods", "must be a list, not a string"),
        (rules({"methods": [7]}), "privileges[0].methods[0]", "must be a string, not a number"),
        (rules({"methods": ["GET", "GET"]}), "privileges[0].methods[1]", "is there twice"),
        (rules({"methods": ["get"]}), "privileges[0].methods[0]", "must be written GET"),
        (rules({"methods": ["TRACE"]}), "privileges[0].methods[0]", "never comes through"),
        (rules({"methods": [" "]}), "privileges[0].methods[0]", "is blank"),
        (rules(identity={"uid": "0"}), "identities[0].uid", "must be a whole number"),
        (rules(identity={"uid": True}), "identities[0].uid", "must be a whole number"),
        (rules(identity={"uid": 1.0}), "identities[0].uid", "must be a whole number"),
        (rules(identity={"uid": -1}), "identities[0].uid", "must be from 0 to 4294967294"),
        (rules(identity={"uid": 2**32 - 1}), "identities[0].uid", "must be from 0 to 4294967294"),
        (rules(identity={"exeSha256": "ab"}), "identities[0].exeSha256", "64 hexadecimal digits"),
        (rules(identity={"exeSha256": "x" * 64}), "identities[0].exeSha256", "64 hexadecimal"),
        (rules(identity={"exeSha256": 7}), "identities[0].exeSha256", "must be a string"),
        (rules(identity={"systemdUnit": "backup"}), "identities[0].systemdUnit", "full name"),
        (rules(identity={"systemdUnit": "a/b.service"}), "identities[0].systemdUnit", "full name"),
        (rules(identity={"systemdUnit": "x.slice"}), "identities[0].systemdUnit", "its path as"),
        (rules(identity={"cgroup": "/"}), "identities[0].cgroup", "below the root"),
        (rules(identity={"cgroup": "a"}), "identities[0].cgroup", "must be a path below"),
        (rules(identity={"cgroup": "/a/"}), "identities[0].cgroup", "must be a path below"),
        (rules(identity={"cgroup": "/a/../b"}), "identities[0].cgroup", "must be a path below"),
        (rules(identity={"cgroup": "/a//b"}), "identities[0].cgroup", "must be a path below"),
        (rules(identity={"containerId": "c" * 12}), "identities[0].containerId", "the whole id"),
        (rules(identity={"containerId": "a/b"}), "identities[0].containerId", "id or the name"),
        (rules(identity={"containerId": ""}), "identities[0].containerId", "is blank"),
        (
            rules(assignment={"notBefore": "2026-01-31"}),
            "roleAssignments[0].notBefore",
            "must be a time in UTC as 2026-01-31T08:00:00Z",
        ),
        (
            rules(assignment={"notBefore": "2026-01-31T08:00:00+01:00"}),
            "roleAssignments[0].notBefore",
            "must be a time in UTC",
        ),
        (
            rules(assignment={"notAfter": "2026-02-30T08:00:00Z"}),
            "roleAssignments[0].notAfter",
            "is no time",
        ),
        (
            rules(assignment={"notAfter": 1769846400}),
            "roleAssignments[0].notAfter",
            "must be a string",
        ),
        (
            rules(assignment={"notBefore": UTC, "notAfter": UTC}),
            "roleAssignments[0].notAfter",
            "would never hold",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    document: dict[str, Any], path: str, words: str
) -> None:
    with pytest.raises(RulesError) as caught:
        read_local_rules(document)
    assert len(caught.value.problems) == 1
    place, message = caught.value.problems[0]
    assert place == f"rules.{path}"
    assert words in message


def test_a_name_near_one_of_ours_is_suggested() -> None:
    with pytest.raises(RulesError, match="did you mean 'exeSha256'"):
        read_local_rules(rules(identity={"userName": "a", "exeSHA256": DIGEST}))


def test_the_methods_are_those_that_the_relay_lets_through() -> None:
    from gpa._native import Snapshot
    from gpa.agent.rules import closed_table
    from gpa.endpoints import Endpoint, Mode

    snapshot = Snapshot(1, closed_table(dict.fromkeys(Endpoint, Mode.DISABLED)))
    for method in METHODS:
        assert snapshot.decide("imds", bytes(256), method, "/")[1] == "disabled"
    for method in ("TRACE", "CONNECT", "get", ""):
        assert snapshot.decide("imds", bytes(256), method, "/")[1] == "method_not_allowed"


def test_a_path_is_looked_at_where_its_endpoint_is_not_disabled() -> None:
    from gpa._native import Snapshot
    from gpa.agent.rules import closed_table
    from gpa.endpoints import Endpoint, Mode

    for mode, reason in ((Mode.DISABLED, "disabled"), (Mode.AUDIT, "path_traversal")):
        snapshot = Snapshot(1, closed_table(dict.fromkeys(Endpoint, mode)))
        assert snapshot.decide("imds", bytes(256), "GET", "/a/../b")[1] == reason
