"""IMDS answers what its clients look for, errors included."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from tests.emulator.guest import NOW, request

from gpa.emulator import imds, scenario_file

if TYPE_CHECKING:
    from gpa.emulator.message import Answer
    from gpa.emulator.scenario import Scenario

METADATA = [("Metadata", "true")]
VERSION = "api-version=2021-02-01"


def scenario(text: str = "") -> Scenario:
    return scenario_file.parse(text.encode(), "test.toml")


def ask(
    target: str,
    method: str = "GET",
    fields: list[tuple[str, str]] = METADATA,
    text: str = "",
    body: bytes = b"",
) -> Answer:
    return imds.answer(request("imds", method, target, fields), body, scenario(text), NOW)


def document(answer: Answer) -> Any:
    return json.loads(answer.body)


def test_the_whole_instance() -> None:
    found = document(ask(f"/metadata/instance?{VERSION}"))
    assert found["compute"]["vmId"] == "02aab8a4-74ef-476e-8182-f6d2ba4166a6"
    assert found["compute"]["azEnvironment"] == "AzurePublicCloud"
    assert found["network"]["interface"][0]["macAddress"] == "000D3A000001"


@pytest.mark.parametrize(
    "path", ["/metadata/instance/", "/Metadata/Instance", "/metadata/%69nstance"]
)
def test_paths_are_read_leniently(path: str) -> None:
    assert ask(f"{path}?{VERSION}").status == 200


def test_the_scenario_describes_the_vm() -> None:
    text = '[machine]\nname = "one"\nlocation = "northeurope"\ntags = { a = "b", c = "d" }\n'
    compute = document(ask(f"/metadata/instance/compute?{VERSION}", text=text))
    assert (compute["name"], compute["location"]) == ("one", "northeurope")
    assert compute["tags"] == "a:b;c:d"
    assert compute["tagsList"] == [{"name": "a", "value": "b"}, {"name": "c", "value": "d"}]
    assert compute["resourceId"].endswith("/Microsoft.Compute/virtualMachines/one")


def test_a_leaf_wants_text() -> None:
    leaf = "/metadata/instance/compute/location"
    assert ask(f"{leaf}?{VERSION}&format=text").body == b"westeurope"
    assert ask(f"{leaf}?{VERSION}").status == 400
    assert ask(f"{leaf}?{VERSION}&format=json").status == 400
    address = "/metadata/instance/network/interface/0/ipv4/ipAddress/0/privateIpAddress"
    assert ask(f"{address}?{VERSION}&format=text").body == b"10.0.0.4"


def test_a_branch_as_text_lists_what_is_below() -> None:
    found = ask(f"/metadata/instance?{VERSION}&format=text")
    assert found.body == b"compute/\nnetwork/"
    found = ask(f"/metadata/instance/network/interface?{VERSION}&format=text")
    assert found.body == b"0/"


@pytest.mark.parametrize(
    "path", ["compute/nothing", "network/interface/1", "network/interface/x", "compute/location/x"]
)
def test_what_is_not_there_is_404(path: str) -> None:
    assert ask(f"/metadata/instance/{path}?{VERSION}&format=text").status == 404


@pytest.mark.parametrize("fields", [[], [("Metadata", "false")], [("Metadata", "")]])
def test_without_the_metadata_field_it_is_400(fields: list[tuple[str, str]]) -> None:
    answer = ask(f"/metadata/instance?{VERSION}", fields=fields)
    assert answer.status == 400
    assert document(answer) == {"error": "Bad request. Required metadata header not specified"}


@pytest.mark.parametrize("value", ["true", "True", "TRUE", "True "])
def test_the_metadata_field_in_any_case(value: str) -> None:
    assert ask(f"/metadata/instance?{VERSION}", fields=[("Metadata", value)]).status == 200


def test_what_a_proxy_relayed_is_400() -> None:
    fields = [*METADATA, ("X-Forwarded-For", "10.0.0.1")]
    assert ask(f"/metadata/instance?{VERSION}", fields=fields).status == 400


@pytest.mark.parametrize("query", ["", "?", "?api-version=", "?api-version=1999-01-01"])
def test_without_a_known_version_it_is_400_and_names_the_newest(query: str) -> None:
    answer = ask(f"/metadata/instance{query}")
    assert answer.status == 400
    found = document(answer)
    assert found["error"].startswith("Bad request. api-version ")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", v) for v in found["newest-versions"])


def test_versions_want_no_version() -> None:
    found = document(ask("/metadata/versions"))
    assert "2021-02-01" in found["apiVersions"]
    assert ask("/metadata/versions", fields=[]).status == 400


@pytest.mark.parametrize(
    "target",
    ["/metadata/versions", f"/metadata/instance?{VERSION}", f"/metadata/loadbalancer?{VERSION}"],
)
def test_only_reading(target: str) -> None:
    answer = ask(target, "DELETE")
    assert answer.status == 405
    assert ("Allow", "GET") in answer.fields


@pytest.mark.parametrize("target", ["/", "/latest/api/token", "/metadata", "/metadata/other"])
def test_paths_of_other_clouds_are_a_quick_4xx(target: str) -> None:
    assert 400 <= ask(target, "PUT", []).status < 500
    assert ask(f"{target}?{VERSION}").status == 404


TOKEN = "/metadata/identity/oauth2/token?api-version=2018-02-01"
RESOURCE = "resource=https%3A%2F%2Fmanagement.azure.com%2F"


def test_a_token_is_all_strings() -> None:
    found = document(ask(f"{TOKEN}&{RESOURCE}"))
    assert all(isinstance(value, str) for value in found.values())
    assert found["token_type"] == "Bearer"
    assert found["resource"] == "https://management.azure.com/"
    assert found["expires_in"] == "86399"
    assert found["expires_on"] == str(int(NOW) + 86399)
    claims = found["access_token"].split(".")[1]
    padded = claims + "=" * (-len(claims) % 4)
    assert json.loads(base64.urlsafe_b64decode(padded))["aud"] == found["resource"]


def test_a_token_is_for_the_identity_that_is_asked_for() -> None:
    ours = "a9ba1a70-9a0f-4e22-ae12-3bb4e4b1a7f5"
    assert ask(f"{TOKEN}&{RESOURCE}&client_id={ours.upper()}").status == 200
    for other in ("client_id=other", "object_id=other", "mi_res_id=other"):
        answer = ask(f"{TOKEN}&{RESOURCE}&{other}")
        assert answer.status == 400
        assert document(answer)["error_description"] == "Identity not found"


def test_a_vm_without_an_identity() -> None:
    answer = ask(f"{TOKEN}&{RESOURCE}", text='[identity]\nclient_id = ""\n')
    assert (answer.status, document(answer)["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("target", "fields", "words"),
    [
        (TOKEN, METADATA, "Required query variable 'resource' is missing"),
        (f"{TOKEN}&{RESOURCE}", [], "Required metadata header not specified"),
        (f"/metadata/identity/oauth2/token?{RESOURCE}", METADATA, "api-version was not specified"),
    ],
)
def test_token_errors_are_in_the_oauth_form(
    target: str, fields: list[tuple[str, str]], words: str
) -> None:
    answer = ask(target, fields=fields)
    assert answer.status == 400
    found = document(answer)
    assert found["error"] == "invalid_request"
    assert words in found["error_description"]


def test_an_attested_document_is_signed_and_has_the_nonce() -> None:
    found = document(ask(f"/metadata/attested/document?{VERSION}&nonce=12345"))
    assert found["encoding"] == "pkcs7"
    assert b'"nonce": "12345"' in base64.b64decode(found["signature"])
    assert ask(f"/metadata/attested/document?{VERSION}&nonce={'1' * 33}").status == 400


def test_scheduled_events() -> None:
    target = "/metadata/scheduledevents?api-version=2020-07-01"
    assert ask(target).status == 400  # a version that this service never had
    target = "/metadata/scheduledevents?api-version=2019-08-01"
    assert document(ask(target)) == {"DocumentIncarnation": 1, "Events": []}
    assert ask(target, "POST", body=b'{"StartRequests": []}').status == 200
    assert ask(target, "POST", body=b"x").status == 400
    assert ask(target, "PUT").status == 405


def test_load_balancer() -> None:
    target = f"/metadata/loadbalancer?{VERSION}"
    assert document(ask(target))["loadbalancer"]["publicIpAddresses"] == []
    text = '[machine]\npublic_address = "203.0.113.1"\n'
    assert document(ask(target, text=text))["loadbalancer"]["publicIpAddresses"] == [
        {"frontendIpAddress": "203.0.113.1", "privateIpAddress": "10.0.0.4"}
    ]
