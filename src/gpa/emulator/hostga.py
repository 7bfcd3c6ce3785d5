"""HostGAPlugin: the host's helper of the VM agent."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import msgspec

from gpa.emulator.documents import container_id
from gpa.emulator.message import Answer, error_answer, json_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpa.emulator.message import Request
    from gpa.emulator.scenario import Machine

SERVER: Final = "Kestrel"
API_VERSION: Final = "2015-09-01"
PLUGIN_VERSION: Final = "1.0.8.155"


def answer(request: Request, machine: Machine) -> Answer:
    """Answer a request; bodies of uploads are taken and forgotten."""
    known = _SERVICES.get(request.path.rstrip("/"))
    if known is None:
        return error_answer(404, "NotFound", "there is nothing of that name")
    methods, make = known
    if request.verb not in methods:
        return error_answer(
            405, "MethodNotAllowed", f"use {methods[0]}", (("Allow", ", ".join(methods)),)
        )
    version = request.value(b"x-ms-version")
    if version is not None and version != API_VERSION:
        return error_answer(400, "BadRequest", f"x-ms-version must be {API_VERSION}")
    return make(request, machine)


def _versions(_request: Request, _machine: Machine) -> Answer:
    return json_answer([API_VERSION])


def _nothing(_request: Request, _machine: Machine) -> Answer:
    return Answer(200)


def _vm_settings(request: Request, machine: Machine) -> Answer:
    """Settings with an ETag; `304` for who has them already."""
    settings = {
        "hostGAPluginVersion": PLUGIN_VERSION,
        "vmSettingsSchemaVersion": "0.0",
        "activityId": machine.vm_id,
        "correlationId": machine.subscription,
        "inSvdSeqNo": machine.goal_state,
        "certificatesRevision": 0,
        "extensionsLastModifiedTickCount": 638_000_000_000_000_000 + machine.goal_state,
        "extensionGoalStatesSource": "Fabric",
        "onHold": False,
        "statusUploadBlob": {
            "statusBlobType": "BlockBlob",
            "value": "https://emulated.blob.core.windows.net/status",
        },
        "inVMMetadata": {
            "subscriptionId": machine.subscription,
            "resourceGroupName": machine.resource_group,
            "vmName": machine.name,
            "location": machine.location,
            "vmId": machine.vm_id,
            "vmSize": machine.size,
            "osType": "Linux",
        },
        "requiredFeatures": [],
        "gaFamilies": [],
        "extensionGoalStates": [],
    }
    tag = str(zlib.crc32(msgspec.json.encode(settings)) or 1)
    fields = (("ETag", tag), ("x-ms-containerid", container_id(machine)))
    known = [word.strip().strip('"') for word in (request.value(b"if-none-match") or "").split(",")]
    if tag in known:
        return Answer(304, fields=fields)
    return json_answer(settings, fields=fields)


def _artifact(request: Request, _machine: Machine) -> Answer:
    """The artifact that a field names; it is made up, and the same for the same name."""
    location = request.value(b"x-ms-artifact-location")
    if not location:
        return error_answer(400, "BadRequest", "the field x-ms-artifact-location is missing")
    body = f"artifact of {location}\n".encode() * 64
    return Answer(200, body, "application/octet-stream")


_READ: Final = ("GET", "HEAD")

_SERVICES: Final[Mapping[str, tuple[tuple[str, ...], Callable[[Request, Machine], Answer]]]] = {
    "/versions": (_READ, _versions),
    "/health": (_READ, _nothing),
    "/vmsettings": (_READ, _vm_settings),
    "/extensionartifact": (_READ, _artifact),
    "/status": (("PUT",), _nothing),
    "/vmagentlog": (("PUT",), _nothing),
}
