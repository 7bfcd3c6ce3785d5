import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpa.agent.channel import MAX_DEPTH, parse_status
from gpa.endpoints import Endpoint, Mode
from gpa.errors import HostAnswerError

GUID = "9CF7A7D5-4F5E-4A6A-B0C7-5B2A3B4C5D6E"
D, A, E = Mode.DISABLED, Mode.AUDIT, Mode.ENFORCE


def v1(**fields: Any) -> bytes:
    base = {
        "authorizationScheme": "Azure-HMAC-SHA256",
        "keyDeliveryMethod": "http",
        "secureChannelState": "Wireserver",
        "version": "1.0",
    }
    return json.dumps(base | fields).encode()


def v2(rules: Any = None, **fields: Any) -> bytes:
    base = {
        "authorizationScheme": "Azure-HMAC-SHA256",
        "keyDeliveryMethod": "http",
        "secureChannelEnabled": True,
        "version": "2.0",
        "authorizationRules": rules,
    }
    return json.dumps(base | fields).encode()


@pytest.mark.parametrize(
    ("state", "imds", "wireserver"),
    [
        ("Disabled", D, D),
        ("AUDIT", A, A),
        ("Wireserver", A, E),
        ("WireserverAndImds", E, E),
    ],
)
def test_version_1_states(state: str, imds: Mode, wireserver: Mode) -> None:
    status = parse_status(v1(secureChannelState=state))
    assert status.modes == {
        Endpoint.IMDS: imds,
        Endpoint.WIRESERVER: wireserver,
        Endpoint.HOSTGA: wireserver,
    }
    assert status.state == state.lower()
    assert status.enabled is (state != "Disabled")


def test_version_2_takes_the_modes_of_the_items() -> None:
    status = parse_status(v2({"imds": {"mode": "Audit"}, "wireserver": {"mode": "ENFORCE"}}))
    assert status.modes == {Endpoint.IMDS: A, Endpoint.WIRESERVER: E, Endpoint.HOSTGA: E}
    assert status.state == "WireServer Enforce -  IMDS Audit - HostGA Enforce"
    assert status.rules[Endpoint.HOSTGA] == {"mode": "ENFORCE"}


def test_version_2_hostga_may_have_its_own_item() -> None:
    status = parse_status(v2({"wireserver": {"mode": "enforce"}, "hostga": {"mode": "audit"}}))
    assert status.modes == {Endpoint.IMDS: D, Endpoint.WIRESERVER: E, Endpoint.HOSTGA: A}


def test_version_1_hostga_is_wireservers() -> None:
    rules = {"wireserver": {"id": "w"}, "hostga": {"id": "h"}}
    status = parse_status(v1(authorizationRules=rules))
    assert status.rules[Endpoint.HOSTGA] == {"id": "w"}


def test_version_2_disabled() -> None:
    status = parse_status(v2({"imds": {"mode": "enforce"}}, secureChannelEnabled=False))
    assert set(status.modes.values()) == {D}
    assert status.state == "disabled"


def test_the_rest_of_a_status() -> None:
    status = parse_status(
        b"\xef\xbb\xbf"
        + v1(keyGuid=GUID, keyIncarnationId=3, requiredClaimsHeaderPairs=["isRoot", "x\ny"])
    )
    assert status.key_guid == GUID.lower()
    assert status.incarnation == 3
    assert status.claims == ("'x\\ny'",)
    assert parse_status(v1(keyGuid="")).key_guid is None
    assert parse_status(v1(keyGuid=None)).key_guid is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b"null",
        v1(secureChannelState=None),
        v1(secureChannelState="Maybe"),
        v1(secureChannelState=7),
        v1(version="3.0"),
        v1(version=None),
        v1(version=1.0),
        v1(authorizationScheme="Basic"),
        v1(keyDeliveryMethod="pigeon"),
        v1(keyGuid="../../etc/shadow"),
        v1(keyGuid=GUID + "\n"),
        v1(keyGuid=GUID[:-1]),
        v1(keyIncarnationId="1"),
        v1(keyIncarnationId=True),
        v1(requiredClaimsHeaderPairs="isRoot"),
        v1(authorizationRules=[]),
        v2(secureChannelEnabled=None),
        v2(secureChannelEnabled=1),
        v2({"imds": []}),
        v2({"imds": {}}),
        v2({"imds": {"mode": "off"}}),
        v2({"imds": {"mode": 1}}),
        v2({"imds": {"mode": "enforced"}}, secureChannelEnabled=False),
    ],
)
def test_what_is_not_the_protocol_is_refused(body: bytes) -> None:
    with pytest.raises(HostAnswerError):
        parse_status(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    "authorizationScheme",
    "keyDeliveryMethod",
    "keyGuid",
    "keyIncarnationId",
    "requiredClaimsHeaderPairs",
    "secureChannelState",
    "secureChannelEnabled",
    "version",
    "authorizationRules",
]


@given(st.dictionaries(st.sampled_from(KEYS), json_values), st.sampled_from(["1.0", "2.0"]))
def test_nothing_but_a_host_answer_error_comes_out(fields: dict[str, Any], version: str) -> None:
    body = json.dumps({"version": version} | fields).encode()
    with contextlib.suppress(HostAnswerError):
        status = parse_status(body)
        assert set(status.modes) == set(Endpoint)
        assert Mode.UNKNOWN not in status.modes.values()


@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_a_status_that_is_nested_without_end_is_refused(brackets: tuple[str, str]) -> None:
    begin, end = brackets
    for depth in (MAX_DEPTH, 500, 900, 990, 5000, 200_000):
        deep = begin * depth + "1" + end * depth
        item = f'{{"id": "x", "mode": "audit", "defaultAccess": "deny", "more": {deep}}}'
        with pytest.raises(HostAnswerError, match=r"nested|not JSON"):
            parse_status(v2("RULES").replace(b'"RULES"', f'{{"imds": {item}}}'.encode()))
    status = parse_status(v1(more=[[[[[[[[1]]]]]]]]))
    assert status.state == "wireserver"
