"""WireServer: versions, goal state and configuration as XML, health and telemetry taken in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gpa.emulator import documents
from gpa.emulator.certificates import CertificateError, package
from gpa.emulator.channel import ChannelError
from gpa.emulator.message import Answer, error_answer, json_answer, xml_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpa.emulator.channel import Channel
    from gpa.emulator.message import Request
    from gpa.emulator.scenario import Machine

SERVER: Final = "Microsoft-IIS/10.0"


def answer(request: Request, machine: Machine) -> Answer:
    """Answer what is not the secure channel."""
    path = request.path.rstrip("/")
    component = (request.parameter("comp") or "").lower()
    if path == "" and component == "versions":
        return _only("GET", request, lambda: xml_answer(documents.versions()))
    if path == "/healthservice":
        return _only("POST", request, lambda: Answer(200))
    if path != "/machine" and not path.startswith("/machine/"):
        return error_answer(404, "NotFound", "there is nothing of that name")
    if component in ("health", "telemetrydata", "roleproperties"):
        return _only("POST", request, lambda: Answer(200))
    if component == "certificates":
        return _only("GET", request, lambda: _certificates(request, machine))
    kind = (request.parameter("type") or "").lower()
    make = _DOCUMENTS.get((component, kind)) or _DOCUMENTS.get((component, ""))
    if make is None:
        return error_answer(404, "NotFound", "there is no such component")
    if trouble := _version_trouble(request):
        return trouble
    return _only("GET", request, lambda: xml_answer(make(machine)))


def channel_answer(request: Request, body: bytes, channel: Channel, *, attested: bool) -> Answer:
    """Answer a call of the secure channel (docs/protocol.md, "Secure channel").

    Args:
        attested: the request is signed with the key that it is about.
    """
    try:
        return _channel_answer(request, body, channel, attested=attested)
    except ChannelError as error:
        return error_answer(error.status, "SecureChannel", str(error))


def _channel_answer(request: Request, body: bytes, channel: Channel, *, attested: bool) -> Answer:
    if (request.value(b"metadata") or "").lower() != "true":
        return error_answer(400, "BadRequest", "Required metadata header not specified")
    path = request.path
    if path == "/secure-channel/status":
        return _only("GET", request, lambda: json_answer(channel.status()))
    if path == "/secure-channel/key":
        if request.verb != "POST":
            return _not_allowed("POST")
        try:
            document = msgspec.json.decode(body, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise ChannelError(400, "the body is not a JSON object") from error
        return json_answer(channel.acquire(document.get("authorizationScheme")))
    guid = path.removeprefix("/secure-channel/key/").removesuffix("/key-attestation")
    if "/" in guid or not path.endswith("/key-attestation"):
        return error_answer(404, "NotFound", "there is nothing of that name")
    if request.verb != "POST":
        return _not_allowed("POST")
    if body:
        raise ChannelError(400, "an attestation has no body")
    if not attested and channel.find(guid) is not None:
        raise ChannelError(401, "an attestation is signed with the key that it is about")
    channel.attest(guid)
    return Answer(200)


def _certificates(request: Request, machine: Machine) -> Answer:
    """Certificates are encrypted to a certificate of the agent's, which comes in a field."""
    recipient = request.value(b"x-ms-guest-agent-public-x509-cert")
    if not recipient:
        return error_answer(
            400, "BadRequest", "the field x-ms-guest-agent-public-x509-cert is missing"
        )
    try:
        return xml_answer(documents.certificates(machine, package(recipient)))
    except CertificateError as error:
        return error_answer(400, "BadRequest", str(error))


def _version_trouble(request: Request) -> Answer | None:
    version = request.value(b"x-ms-version")
    if version is None or version in documents.SUPPORTED:
        return None
    return error_answer(400, "BadRequest", "x-ms-version names a version that is not supported")


def _only(method: str, request: Request, make: Callable[[], Answer]) -> Answer:
    if request.verb == method or (method == "GET" and request.verb == "HEAD"):
        return make()
    return _not_allowed(method)


def _not_allowed(methods: str) -> Answer:
    return error_answer(405, "MethodNotAllowed", f"use {methods}", (("Allow", methods),))


_DOCUMENTS: Final[Mapping[tuple[str, str], Callable[[Machine], str]]] = {
    ("goalstate", ""): documents.goal_state,
    ("config", "hostingenvironmentconfig"): documents.hosting_environment,
    ("config", "sharedconfig"): documents.shared_config,
    ("config", "extensionsconfig"): documents.extensions_config,
    ("config", "fullconfig"): documents.full_config,
    ("config", ""): documents.hosting_environment,
    ("remoteaccess", ""): documents.remote_access,
    ("acmsextensions", ""): documents.extensions_config,
}
