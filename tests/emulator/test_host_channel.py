"""The host's end of the secure channel: modes, the order of latching, resets, the key file."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest
from tests.emulator.guest import NOW

from gpa.emulator import scenario_file
from gpa.emulator.channel import MAX_PENDING, Channel, ChannelError
from gpa.emulator.key import KeyFile
from gpa.emulator.message import ENDPOINTS
from gpa.errors import CannotCreateError, ConfigError, UntrustedPathError

if TYPE_CHECKING:
    from pathlib import Path

SCHEME = "Azure-HMAC-SHA256"


def channel(text: str = "", path: Path | None = None) -> Channel:
    scenario = scenario_file.parse(text.encode(), "test.toml")
    return Channel(scenario, lambda: NOW, KeyFile(path) if path else None)


def latched(host: Channel) -> str:
    guid = str(host.acquire(SCHEME)["guid"])
    host.attest(guid)
    return guid


@pytest.mark.parametrize(
    ("state", "imds", "wireserver"),
    [
        ("Disabled", "disabled", "disabled"),
        ("Audit", "audit", "audit"),
        ("wireserver", "audit", "enforce"),
        ("WIRESERVERANDIMDS", "enforce", "enforce"),
    ],
)
def test_modes_of_version_1(state: str, imds: str, wireserver: str) -> None:
    host = channel(f'[channel]\nversion = "1.0"\nstate = "{state}"\n')
    assert [host.mode(name) for name in ENDPOINTS] == [imds, wireserver, wireserver]
    status = host.status()
    assert status["secureChannelState"] == state
    assert "secureChannelEnabled" not in status
    assert status["authorizationRules"] == dict.fromkeys(ENDPOINTS)


@pytest.mark.parametrize(
    ("text", "modes"),
    [
        ("", ["enforce", "enforce", "enforce"]),
        ("[channel]\nenabled = false\n", ["disabled", "disabled", "disabled"]),
        ('[rules.imds]\nmode = "Audit"\n', ["audit", "enforce", "enforce"]),
        ('[rules.wireserver]\nmode = "audit"\n', ["enforce", "audit", "audit"]),
        ('[rules.hostga]\nmode = "disabled"\n', ["enforce", "enforce", "disabled"]),
        ('[rules.hostga]\nmode = "absent"\n', ["enforce", "enforce", "enforce"]),
        ('[rules.imds]\nmode = "absent"\n', ["disabled", "enforce", "enforce"]),
        ('[channel]\nversion = "none"\n', ["disabled", "disabled", "disabled"]),
    ],
)
def test_modes_of_version_2(text: str, modes: list[str]) -> None:
    host = channel(text)
    assert [host.mode(name) for name in ENDPOINTS] == modes


def test_a_status_has_the_members_of_the_protocol() -> None:
    host = channel()
    guid = latched(host)
    items = {
        name: {"defaultAccess": "allow", "mode": "enforce", "id": f"emulated-{name}", "rules": None}
        for name in ("imds", "wireserver")
    }
    assert host.status() == {
        "authorizationScheme": SCHEME,
        "keyDeliveryMethod": "http",
        "keyGuid": guid,
        "keyIncarnationId": 1,
        "requiredClaimsHeaderPairs": ["isRoot"],
        "secureChannelEnabled": True,
        "version": "2.0",
        "authorizationRules": {**items, "hostga": None},
    }


def test_rules_go_out_as_the_protocol_writes_them() -> None:
    text = """
    [rules.imds]
    id = "one"
    defaultAccess = "deny"
    [[rules.imds.rules.privileges]]
    name = "p"
    path = "/metadata/instance"
    queryParameters = { api-version = "2021-02-01" }
    [[rules.imds.rules.roles]]
    name = "r"
    privileges = ["p"]
    [[rules.imds.rules.identities]]
    name = "i"
    userName = "somebody"
    exePath = "/usr/bin/curl"
    [[rules.imds.rules.roleAssignments]]
    role = "r"
    identities = ["i"]
    [rules.wireserver]
    raw = '{"mode": 7}'
    """
    rules = channel(text).status()["authorizationRules"]
    assert isinstance(rules, dict)
    assert rules["wireserver"] == {"mode": 7}
    assert rules["imds"] == {
        "defaultAccess": "deny",
        "mode": "enforce",
        "id": "one",
        "rules": {
            "privileges": [
                {
                    "name": "p",
                    "path": "/metadata/instance",
                    "queryParameters": {"api-version": "2021-02-01"},
                }
            ],
            "roles": [{"name": "r", "privileges": ["p"]}],
            "identities": [{"name": "i", "userName": "somebody", "exePath": "/usr/bin/curl"}],
            "roleAssignments": [{"role": "r", "identities": ["i"]}],
        },
    }


def test_a_key_counts_once_it_is_attested_and_not_before() -> None:
    host = channel()
    document = host.acquire(SCHEME)
    guid, key = str(document["guid"]), str(document["key"])
    assert len(bytes.fromhex(key)) == 32
    assert document["incarnationId"] == 1
    assert host.status()["keyGuid"] is None
    host.attest(guid.upper())
    host.attest(guid)  # an answer that was lost is asked for again
    assert host.status()["keyGuid"] == guid


def test_attesting_one_key_kills_the_others() -> None:
    host = channel()
    first, second = (str(host.acquire(SCHEME)["guid"]) for _ in range(2))
    host.attest(second)
    with pytest.raises(ChannelError, match="no such key") as caught:
        host.attest(first)
    assert caught.value.status == 404


def test_a_latched_key_is_for_life() -> None:
    host = channel()
    guid = latched(host)
    with pytest.raises(ChannelError, match=guid) as caught:
        host.acquire(SCHEME)
    assert caught.value.status == 403
    assert host.reset() == 2
    assert host.status()["keyGuid"] is None
    assert host.find(guid) is None
    assert host.acquire(SCHEME)["incarnationId"] == 2


def test_a_host_that_lets_keys_be_acquired_again_counts_up() -> None:
    host = channel("[channel]\nreacquire = true\n")
    latched(host)
    document = host.acquire(SCHEME)
    assert document["incarnationId"] == 2
    assert host.status()["keyIncarnationId"] == 1
    host.attest(str(document["guid"]))
    assert host.status()["keyIncarnationId"] == 2


def test_an_incarnation_can_be_absent() -> None:
    host = channel('[channel]\nincarnation = "absent"\n')
    assert "incarnationId" not in host.acquire(SCHEME)
    assert "keyIncarnationId" not in host.status()


def test_pending_keys_are_bounded() -> None:
    host = channel()
    guids = [str(host.acquire(SCHEME)["guid"]) for _ in range(MAX_PENDING + 1)]
    assert host.pending == tuple(guids[1:])


@pytest.mark.parametrize("scheme", [None, "", "azure-hmac-sha256", 7])
def test_another_scheme_is_refused(scheme: object) -> None:
    with pytest.raises(ChannelError) as caught:
        channel().acquire(scheme)
    assert caught.value.status == 400


def test_a_host_without_the_protocol_answers_404() -> None:
    host = channel('[channel]\nversion = "none"\n')
    for call in (host.status, lambda: host.acquire(SCHEME), lambda: host.attest("x")):
        with pytest.raises(ChannelError) as caught:
            call()
        assert caught.value.status == 404


def test_a_latched_key_outlives_the_emulator(tmp_path: Path) -> None:
    path = tmp_path / "key"
    host = channel(path=path)
    guid = latched(host)
    assert path.stat().st_mode & 0o777 == 0o600
    again = channel(path=path)
    assert again.latched == host.latched
    assert again.status()["keyGuid"] == guid
    again.reset()
    assert channel(path=path).latched is None
    assert channel(path=path).incarnation == 2
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    latched(channel(path=path))
    path.chmod(0o640)
    with pytest.raises(UntrustedPathError, match="chmod 600"):
        channel(path=path)
    path.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(ConfigError):
        channel(path=link)


def test_a_broken_key_file_is_named_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "key"
    host = channel(path=path)
    latched(host)
    whole = json.loads(path.read_text())
    broken: list[object] = [
        {name: value for name, value in whole.items() if name != gone} for gone in whole
    ]
    broken += [whole | {"key": whole["key"][:-1]}, whole | {"guid": "../x"}, [whole], 7]
    for document, cut in itertools.product(broken, (0, 1)):
        if isinstance(document, dict) and "guid" not in document and not cut:
            continue  # a reset leaves no more
        text = json.dumps(document)
        path.write_text(text[: len(text) - cut])
        with pytest.raises(ConfigError, match="is not a key file: remove it") as caught:
            channel(path=path)
        assert whole["key"][:16] not in repr(caught.value)


def test_a_key_that_cannot_be_written_is_not_latched(tmp_path: Path) -> None:
    host = channel(path=tmp_path / "missing" / "key")
    guid = str(host.acquire(SCHEME)["guid"])
    with pytest.raises(CannotCreateError, match="cannot write"):
        host.attest(guid)
    assert host.latched is None
