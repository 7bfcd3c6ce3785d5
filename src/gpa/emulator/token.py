"""Tokens of the VM's managed identity: in the shape of real ones, and good for nothing."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

from gpa.emulator.instance import resource_id
from gpa.emulator.message import Answer, error_answer, json_answer

if TYPE_CHECKING:
    from gpa.emulator.message import Request
    from gpa.emulator.scenario import Scenario

_MAX_RESOURCE: Final = 2048
"""A resource is a URI or a GUID; it is repeated in the answer."""


def token_answer(request: Request, scenario: Scenario, now: float) -> Answer:
    """OAuth form, every member a string; errors in the OAuth form as well."""
    identity = scenario.identity
    resource = request.parameter("resource")
    if not resource or len(resource) > _MAX_RESOURCE:
        return error_answer(400, "invalid_request", "Required query variable 'resource' is missing")
    wanted = {
        identity.client_id: request.parameter("client_id"),
        identity.object_id: request.parameter("object_id") or request.parameter("principal_id"),
        identity.resource_id: request.parameter("msi_res_id") or request.parameter("mi_res_id"),
    }
    if not identity.client_id or any(
        asked and asked.lower() != ours.lower() for ours, asked in wanted.items()
    ):
        return error_answer(400, "invalid_request", "Identity not found")
    begin, end = int(now), int(now) + identity.expires_in
    claims = {
        "aud": resource,
        "iss": f"https://sts.windows.net/{identity.tenant_id}/",
        "iat": begin,
        "nbf": begin,
        "exp": end,
        "appid": identity.client_id,
        "oid": identity.object_id,
        "sub": identity.object_id,
        "tid": identity.tenant_id,
        "xms_mirid": resource_id(scenario.machine),
    }
    return json_answer(
        {
            "access_token": _jwt(claims),
            "client_id": identity.client_id,
            "expires_in": str(identity.expires_in),
            "expires_on": str(end),
            "ext_expires_in": str(identity.expires_in),
            "not_before": str(begin),
            "resource": resource,
            "token_type": "Bearer",
        },
        fields=(("Cache-Control", "no-store"), ("Pragma", "no-cache")),
    )


def _jwt(claims: dict[str, object]) -> str:
    """It parses as a JSON Web Token, and its signature says that it is none."""
    header = {"typ": "JWT", "alg": "RS256", "kid": "emulated"}
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in (header, claims)]
    parts.append(b"emulated: this token opens nothing")
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
