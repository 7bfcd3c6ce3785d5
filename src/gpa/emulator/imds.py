"""The instance metadata service: which request gets which answer, in the words of the real one.

Clients tell "no metadata service here" from "ask otherwise" by these statuses and words: the 400s
for a missing `Metadata` field or api-version are what probes look for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gpa.emulator import attested, instance
from gpa.emulator.message import Answer, error_answer, json_answer, text_answer
from gpa.emulator.token import token_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpa.emulator.message import Request
    from gpa.emulator.scenario import Scenario

SERVER: Final = "IMDS/150.870.65.1854"

VERSIONS: Final = (
    "2017-03-01", "2017-04-02", "2017-08-01", "2017-10-01", "2017-12-01", "2018-02-01",
    "2018-04-02", "2018-10-01", "2019-02-01", "2019-03-11", "2019-04-30", "2019-06-01",
    "2019-06-04", "2019-08-01", "2019-08-15", "2019-11-01", "2020-05-01", "2020-06-01",
    "2020-07-15", "2020-09-01", "2020-10-01", "2020-12-01", "2021-01-01", "2021-02-01",
    "2021-03-01", "2021-05-01", "2021-08-01", "2021-10-01", "2021-11-01", "2021-11-15",
    "2021-12-13", "2022-08-01", "2023-07-01", "2023-11-15", "2024-03-15", "2024-07-17",
)  # fmt: skip

_NEWEST: Final = tuple(reversed(VERSIONS[-5:]))
_HELP: Final = "For more information refer to aka.ms/azureimds"
_DATE: Final = re.compile(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]")

_READ: Final = ("GET", "HEAD")


def answer(request: Request, body: bytes, scenario: Scenario, now: float) -> Answer:
    """Answer a request of a caller whom the agent let through. `now` is the host's clock."""
    path = request.path.rstrip("/")
    if not path.startswith("/metadata"):
        return error_answer(404, "Not found", "there is nothing of that name")
    if trouble := _unasked(request, path):
        return trouble
    if path == "/metadata/versions":
        if request.verb not in _READ:
            return _not_allowed("GET")
        return json_answer({"apiVersions": list(VERSIONS)})
    name, _, rest = path.removeprefix("/metadata/").partition("/")
    known = _SERVICES.get(name)
    if known is None:
        return _error(404, "Not found")
    if trouble := _version_trouble(request, oauth=name == "identity"):
        return trouble
    return known(request, rest, body, scenario, now)


def _unasked(request: Request, path: str) -> Answer | None:
    """A request that somebody was tricked into: no `Metadata` field, or relayed by a proxy."""
    oauth = path.startswith("/metadata/identity")
    if (request.value(b"metadata") or "").strip().lower() != "true":
        words = "Required metadata header not specified"
        if oauth:
            return error_answer(400, "invalid_request", words)
        return _error(400, f"Bad request. {words}")
    if request.values(b"x-forwarded-for"):
        words = "Header X-Forwarded-For is not allowed"
        if oauth:
            return error_answer(400, "invalid_request", words)
        return _error(400, f"Bad request. {words}")
    return None


def _version_trouble(request: Request, *, oauth: bool) -> Answer | None:
    version = request.parameter("api-version")
    if version and (version in VERSIONS or (oauth and _DATE.fullmatch(version))):
        return None
    said = "is invalid or was not specified" if version else "was not specified"
    words = f"api-version {said} in the request. {_HELP}"
    if oauth:
        return error_answer(400, "invalid_request", words)
    return _error(400, f"Bad request. {words}", {"newest-versions": list(_NEWEST)})


def _error(status: int, words: str, more: Mapping[str, object] | None = None) -> Answer:
    return json_answer({"error": words, **(more or {})}, status)


def _not_allowed(methods: str) -> Answer:
    return json_answer({"error": "Method not allowed"}, 405, (("Allow", methods),))


def _instance(request: Request, rest: str, _body: bytes, scenario: Scenario, _now: float) -> Answer:
    if request.verb not in _READ:
        return _not_allowed("GET")
    document: object = instance.document(scenario.machine)
    for word in rest.split("/") if rest else ():
        if isinstance(document, dict):
            document = {key.lower(): value for key, value in document.items()}.get(word)
        elif isinstance(document, list) and word.isdecimal() and int(word) < len(document):
            document = document[int(word)]
        else:
            document = None
        if document is None:
            return _error(404, "Not found")
    form = (request.parameter("format") or "json").lower()
    is_leaf = not isinstance(document, dict | list)
    if form not in ("json", "text") or (is_leaf and form == "json"):
        return _error(400, "Bad request. Format is invalid. A leaf needs format=text")
    if form == "json":
        return json_answer(document)
    return text_answer(instance.as_text(document))


def _identity(request: Request, rest: str, _body: bytes, scenario: Scenario, now: float) -> Answer:
    if request.verb not in _READ:
        return _not_allowed("GET")
    if rest == "info":
        return json_answer({"tenantId": scenario.identity.tenant_id})
    if rest != "oauth2/token":
        return _error(404, "Not found")
    return token_answer(request, scenario, now)


def _attested(request: Request, rest: str, _body: bytes, scenario: Scenario, now: float) -> Answer:
    if request.verb not in _READ:
        return _not_allowed("GET")
    if rest != "document":
        return _error(404, "Not found")
    nonce = request.parameter("nonce") or ""
    if len(nonce) > 32:
        return _error(400, "Bad request. nonce is longer than 32 characters")
    return json_answer(attested.document(scenario.machine, nonce, now))


def _scheduled_events(
    request: Request, rest: str, body: bytes, _scenario: Scenario, _now: float
) -> Answer:
    if rest:
        return _error(404, "Not found")
    if request.verb == "POST":
        if not body.strip().startswith(b"{"):
            return _error(400, "Bad request. The body is not a JSON object")
        return Answer(200)
    if request.verb not in _READ:
        return _not_allowed("GET, POST")
    return json_answer({"DocumentIncarnation": 1, "Events": []})


def _load_balancer(
    request: Request, rest: str, _body: bytes, scenario: Scenario, _now: float
) -> Answer:
    if request.verb not in _READ:
        return _not_allowed("GET")
    if rest:
        return _error(404, "Not found")
    machine = scenario.machine
    addresses = []
    if machine.public_address:
        addresses = [
            {
                "frontendIpAddress": machine.public_address,
                "privateIpAddress": machine.private_address,
            }
        ]
    return json_answer(
        {
            "loadbalancer": {
                "publicIpAddresses": addresses,
                "inboundRules": [],
                "outboundRules": [],
            }
        }
    )


_SERVICES: Final[Mapping[str, Callable[[Request, str, bytes, Scenario, float], Answer]]] = {
    "instance": _instance,
    "identity": _identity,
    "attested": _attested,
    "scheduledevents": _scheduled_events,
    "loadbalancer": _load_balancer,
}
