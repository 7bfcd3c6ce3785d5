"""A list of requests that somebody thought up, one JSON object a line, for judging without a log.

    {"user": "alice", "exe": "/usr/bin/curl", "url": "/metadata/instance", "expect": "allow"}

docs/rules-tools.md describes the members. A list is written by hand, so that a mistake in it is an
error with its line, not something to pass over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import msgspec

from gpa.endpoints import Endpoint
from gpa.errors import ConfigError, RequestFormError
from gpa.rules.facts import Request
from gpa.rules.replay import Asker, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES: Final = 64 << 20
"""Some hundred thousand requests."""

ROOT: Final = "root"


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line; None is what it does not say, and then nobody knows."""

    url: str
    method: str = "GET"
    endpoint: Literal["imds", "wireserver", "hostga"] | None = None
    user: str | None = None
    uid: int | None = None
    groups: tuple[str, ...] | None = None
    exe: str | None = None
    process: str | None = None
    expect: Literal["allow", "deny"] | None = None


def read_requests(path: Path, endpoint: Endpoint) -> Iterator[Kind]:
    """Requests of a list that are for an endpoint.

    Args:
        path: the list.
        endpoint: also of those requests that do not say one.

    Raises:
        ConfigError: the list cannot be read, or a line of it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES >> 20} MiB")
    decoder = msgspec.json.Decoder(Asked)
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            asked = decoder.decode(line)
            of, target = _where(asked, endpoint)
            Request.read(of, asked.method, target)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{path}:{number}: is not a request: {error}") from None
        except (RequestFormError, ValueError) as error:
            raise ConfigError(f"{path}:{number}: {asked.url[:200]!a}: {error}") from None
        if of is endpoint:
            yield Kind(_asker(asked), asked.method, target, _through(asked))


def _where(asked: Asked, endpoint: Endpoint) -> tuple[Endpoint, str]:
    """The endpoint that is meant, and the target in origin-form."""
    if not asked.url.lower().startswith("http://"):
        return Endpoint(asked.endpoint or endpoint), asked.url
    url = urlsplit(asked.url)
    meant = next((e for e in Endpoint if e.address == (url.hostname, url.port or 80)), None)
    if meant is None:
        raise ValueError("leads to no endpoint of the host")
    start = asked.url.find("/", len("http://"))
    return meant, "/" if start < 0 else asked.url[start:]


def _asker(asked: Asked) -> Asker:
    uid = 0 if asked.uid is None and asked.user == ROOT else asked.uid
    process = asked.process
    if process is None and asked.exe is not None:
        process = asked.exe.rpartition("/")[2]
    return Asker(
        uid=uid,
        euid=uid,
        user=asked.user,
        groups=asked.groups,
        exe=msgspec.UNSET if process is None else process,
        path=asked.exe,
        in_full=False,
    )


def _through(asked: Asked) -> bool | None:
    return None if asked.expect is None else asked.expect == "allow"
