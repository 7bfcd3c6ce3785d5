"""Every verdict of the judge, on requests that are right but for one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.emulator.guest import NOW, Clock, Fields, request, sign, signed

from gpa.emulator.dates import http_date
from gpa.emulator.judge import Judgement, Verdict

if TYPE_CHECKING:
    from gpa.emulator.host import Host
    from gpa.emulator.message import EndpointName

TARGET = "/metadata/instance?api-version=2021-02-01"
SCHEME = "Azure-HMAC-SHA256"


@pytest.fixture
def key(host: Host) -> dict[str, Any]:
    """Acquired and attested."""
    document = host.channel.acquire(SCHEME)
    host.channel.attest(str(document["guid"]))
    return document


def judge(
    host: Host,
    fields: Fields,
    body: bytes = b"",
    *,
    endpoint: EndpointName = "imds",
    method: str = "GET",
    target: str = TARGET,
) -> Judgement:
    examination = host.judge.examine(request(endpoint, method, target, fields))
    examination.update(body)
    return examination.judge()


def replaced(fields: Fields, name: str, value: str | None) -> Fields:
    """The field with another value or taken away; the signature stays."""
    rest = [(n, v) for n, v in fields if n.lower() != name]
    return rest if value is None else [*rest, (name, value)]


def signed_again(key: dict[str, Any], fields: Fields, method: str = "GET") -> Fields:
    """The fields with a right signature."""
    rest = replaced(fields, "x-ms-azure-host-authorization", None)
    authorization = sign(key["key"], key["guid"], method, TARGET, rest, b"")
    return [*rest, ("x-ms-azure-host-authorization", authorization)]


def test_a_right_request_is_valid(host: Host, key: dict[str, Any]) -> None:
    found = judge(host, signed(key, "GET", TARGET, is_root=False))
    assert found == Judgement(Verdict.VALID, "", key["guid"], False, 0.0)


def test_a_body_is_part_of_the_signature(host: Host, key: dict[str, Any]) -> None:
    fields = signed(key, "POST", TARGET, body=b"a\nbody")
    assert judge(host, fields, b"a\nbodY", method="POST").verdict is Verdict.MISMATCH
    assert judge(host, fields, b"a\nbody", method="POST").verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "169.254.169.253"),
        ("metadata", None),
        ("x-new", "1"),
        ("x-ms-azure-host-claims", '{ "isRoot": "false"}'),
        ("x-ms-azure-host-date", http_date(NOW + 1)),
    ],
)
def test_a_changed_field_is_a_mismatch(
    host: Host, key: dict[str, Any], name: str, value: str | None
) -> None:
    fields = replaced(signed(key, "GET", TARGET), name, value)
    assert judge(host, fields).verdict is Verdict.MISMATCH


@pytest.mark.parametrize(
    ("method", "target"), [("HEAD", TARGET), ("GET", TARGET + "&x"), ("GET", TARGET.upper())]
)
def test_a_changed_method_or_target_is_a_mismatch(
    host: Host, key: dict[str, Any], method: str, target: str
) -> None:
    fields = signed(key, "GET", TARGET)
    assert judge(host, fields, method=method, target=target).verdict is Verdict.MISMATCH


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.upper(),
        lambda a: a.replace(" ", "  ", 1),
        lambda a: a + " ",
        lambda a: a[:-1],
        lambda a: a + "0",
        lambda a: a.replace(SCHEME, "azure-hmac-sha256"),
        lambda _: "value",
        lambda _: "",
    ],
)
def test_an_authorization_in_another_form_is_malformed(
    host: Host, key: dict[str, Any], change: Any
) -> None:
    fields = signed(key, "GET", TARGET)
    changed = [(n, change(v) if n.endswith("authorization") else v) for n, v in fields]
    # Trailing white space belongs to the line, not to the value: HTTP takes it away.
    expected = Verdict.VALID if changed[-1][1].endswith(" ") else Verdict.MALFORMED
    assert judge(host, changed).verdict is expected


@pytest.mark.parametrize("name", ["authorization", "claims", "date"])
def test_a_field_of_ours_twice_is_malformed(host: Host, key: dict[str, Any], name: str) -> None:
    fields = signed(key, "GET", TARGET)
    twice = [f for f in fields if f[0].endswith(name)]
    assert judge(host, signed_again(key, [*twice, *fields])).verdict is (
        Verdict.VALID if name == "authorization" else Verdict.MALFORMED
    )
    assert judge(host, [*fields, *twice]).verdict is Verdict.MALFORMED


@pytest.mark.parametrize(
    "value",
    ['{"isRoot": "true"}', '{ "isRoot": true}', '{ "isRoot": "True"}', "", '{ "isRoot": "true" }'],
)
def test_claims_in_other_bytes_are_malformed(host: Host, key: dict[str, Any], value: str) -> None:
    fields = replaced(signed(key, "GET", TARGET), "x-ms-azure-host-claims", value)
    found = judge(host, signed_again(key, fields))
    assert (found.verdict, found.is_root) == (Verdict.MALFORMED, None)


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-01T00:00:00Z",
        "Thu, 1 Jan 2026 00:00:00 GMT",
        "Fri, 01 Jan 2026 00:00:00 GMT",
        "Thu, 01 Jan 2026 00:00:00 UTC",
        "Thu, 01 Jan 2026 24:00:00 GMT",
        "",
    ],
)
def test_a_date_in_another_form_is_malformed(host: Host, key: dict[str, Any], value: str) -> None:
    fields = replaced(signed(key, "GET", TARGET), "x-ms-azure-host-date", value)
    assert judge(host, signed_again(key, fields)).verdict is Verdict.MALFORMED


@pytest.mark.parametrize(
    ("skew", "verdict"),
    [(-301, "stale"), (-300, "valid"), (0, "valid"), (300, "valid"), (301, "stale")],
)
def test_a_date_may_be_five_minutes_off(
    host: Host, key: dict[str, Any], skew: int, verdict: str
) -> None:
    found = judge(host, signed(key, "GET", TARGET, date=NOW + skew))
    assert (found.verdict, found.skew) == (verdict, skew)


@pytest.mark.parametrize("scenario_text", ["[channel]\nclock_offset = -3600.0\n"])
def test_the_clock_is_the_hosts(host: Host, key: dict[str, Any]) -> None:
    assert judge(host, signed(key, "GET", TARGET)).verdict is Verdict.STALE
    assert judge(host, signed(key, "GET", TARGET, date=NOW - 3600)).verdict is Verdict.VALID


def test_equal_requests_of_one_second_are_legitimate_and_later_ones_a_replay(
    host: Host, key: dict[str, Any], clock: Clock
) -> None:
    fields = signed(key, "GET", TARGET)
    assert judge(host, fields).verdict is Verdict.VALID
    clock.now += 5.0  # replay_seconds
    assert judge(host, fields).verdict is Verdict.VALID
    clock.now += 0.1
    assert judge(host, fields).verdict is Verdict.REPLAY
    assert judge(host, signed(key, "GET", TARGET, date=clock.now)).verdict is Verdict.VALID
    clock.now += 400
    assert judge(host, fields).verdict is Verdict.STALE


def test_what_did_not_verify_is_not_remembered(
    host: Host, key: dict[str, Any], clock: Clock
) -> None:
    fields = signed(key, "GET", TARGET)
    assert judge(host, fields, target="/other").verdict is Verdict.MISMATCH
    clock.now += 60
    assert judge(host, fields).verdict is Verdict.VALID


@pytest.mark.parametrize(
    "name", ["x_ms_azure_host_claims", "x-ms-azure_host-date", "x.ms.azure.host.authorization"]
)
def test_a_field_that_some_servers_take_for_ours_is_ambiguous(
    host: Host, key: dict[str, Any], name: str
) -> None:
    fields = signed(key, "GET", TARGET, more=[(name, "1")])
    assert judge(host, fields).verdict is Verdict.AMBIGUOUS


@pytest.mark.parametrize("endpoint", ["wireserver", "hostga"])
def test_a_caller_that_is_not_root_has_no_business_there(
    host: Host, key: dict[str, Any], endpoint: EndpointName
) -> None:
    fields = signed(key, "GET", TARGET, is_root=False)
    assert judge(host, fields, endpoint=endpoint).verdict is Verdict.NOT_ROOT


def test_keys_that_do_not_count(host: Host, key: dict[str, Any]) -> None:
    host.channel.reset()
    assert judge(host, signed(key, "GET", TARGET)).verdict is Verdict.UNKNOWN_KEY
    pending = host.channel.acquire(SCHEME)
    assert judge(host, signed(pending, "GET", TARGET)).verdict is Verdict.NOT_ATTESTED


@pytest.mark.parametrize(
    ("endpoint", "method", "target", "verdict"),
    [
        ("imds", "GET", TARGET, "unsigned"),
        ("hostga", "PUT", "/vmAgentLog", "exempt"),
        ("hostga", "PUT", "/VMAGENTLOG", "exempt"),
        ("hostga", "POST", "/vmAgentLog", "unsigned"),
        ("hostga", "PUT", "/vmAgentLog?", "unsigned"),
        ("hostga", "PUT", "/vmAgentLog/", "unsigned"),
        ("wireserver", "PUT", "/vmAgentLog", "unsigned"),
        ("wireserver", "POST", "/machine/?comp=telemetrydata", "exempt"),
        ("wireserver", "POST", "/Machine/?COMP=telemetryData", "exempt"),
        ("wireserver", "POST", "/machine?comp=telemetrydata", "unsigned"),
        ("wireserver", "POST", "/machine/?comp=telemetrydata&x", "unsigned"),
        ("imds", "POST", "/machine/?comp=telemetrydata", "unsigned"),
        ("wireserver", "GET", "/secure-channel/status", "exempt"),
        ("wireserver", "POST", "/secure-channel/key", "exempt"),
        ("wireserver", "POST", f"/secure-channel/key/{'0' * 8}/key-attestation", "unsigned"),
        ("imds", "GET", "/secure-channel/status", "unsigned"),
    ],
)
def test_what_may_come_unsigned(
    host: Host, endpoint: EndpointName, method: str, target: str, verdict: str
) -> None:
    found = judge(host, [("Host", "x")], endpoint=endpoint, method=method, target=target)
    assert found.verdict == verdict


@pytest.mark.parametrize("scenario_text", ['[rules.imds]\nmode = "disabled"\n'])
def test_an_unprotected_endpoint_wants_no_signature(host: Host) -> None:
    assert judge(host, [("Host", "x")]).verdict is Verdict.DISABLED


def test_nothing_that_is_said_holds_a_key_or_a_signature(host: Host, key: dict[str, Any]) -> None:
    fields = signed(key, "GET", TARGET)
    found = judge(host, fields, target="/other")
    said = repr(found) + repr(host.channel.latched) + str(host.channel.status())
    assert key["key"].lower() not in said.lower()
    assert fields[-1][1].split()[-1] not in said
