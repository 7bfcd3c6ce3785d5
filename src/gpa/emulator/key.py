"""The host's keys, and the file by which a latched one outlives the emulator."""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gpa.emulator.dates import iso_date
from gpa.emulator.signature import SCHEME
from gpa.errors import CannotCreateError, ConfigError, UntrustedPathError

if TYPE_CHECKING:
    from pathlib import Path

GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SECRET: Final = re.compile(r"[0-9a-fA-F]{64}")

MAX_FILE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the secure channel.

    Attributes:
        guid: its name, in lower case.
        secret: 32 bytes, never shown.
        incarnation: how often the key was reset before.
        issued: ISO 8601.
    """

    guid: str
    secret: bytes = field(repr=False)
    incarnation: int
    issued: str


def make_key(incarnation: int, now: float) -> Key:
    """A new one."""
    return Key(str(uuid.uuid4()), secrets.token_bytes(32), incarnation, iso_date(now))


class KeyFile:
    """`--key-file`: the latched key and the count of resets, 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[Key | None, int] | None:
        """The latched key, if any, and the incarnation in force; None without a file.

        Raises:
            ConfigError: it holds something else.
            UntrustedPathError: somebody else could have read or written it.
        """
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"cannot read {self._path}: {error.strerror}") from error
        try:
            info = os.fstat(fd)
            if (
                not stat.S_ISREG(info.st_mode)
                or info.st_uid != os.geteuid()
                or info.st_mode & 0o077
            ):
                raise UntrustedPathError(
                    f"{self._path} holds a key: make it a plain file of yours (chmod 600)"
                )
            data = os.read(fd, MAX_FILE_BYTES)
        finally:
            os.close(fd)
        try:
            return _parse(data)
        except (ValueError, KeyError, TypeError):  # its text may be a key: not a word of it
            raise ConfigError(f"{self._path} is not a key file: remove it") from None

    def store(self, key: Key | None, incarnation: int) -> None:
        """Replace the file in one step.

        Raises:
            CannotCreateError: it cannot be written.
        """
        document: dict[str, object] = {"incarnation": incarnation}
        if key is not None:
            document |= {
                "guid": key.guid,
                "key": key.secret.hex(),
                "keyIncarnation": key.incarnation,
                "issued": key.issued,
            }
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(draft, flags, 0o600)
            try:
                os.write(fd, json.dumps(document).encode())
                os.fsync(fd)
            finally:
                os.close(fd)
            draft.replace(self._path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise CannotCreateError(f"cannot write {self._path}: {error.strerror}") from error


def _parse(data: bytes) -> tuple[Key | None, int]:
    document = json.loads(data)
    incarnation = document["incarnation"]
    if not isinstance(incarnation, int):
        raise TypeError("incarnation")
    if "guid" not in document:
        return None, incarnation
    guid, secret, issued = document["guid"], document["key"], document["issued"]
    if not GUID.fullmatch(guid) or not _SECRET.fullmatch(secret):
        raise ValueError("guid or key")
    return Key(
        guid, bytes.fromhex(secret), int(document["keyIncarnation"]), str(issued)
    ), incarnation


def acquire_document(key: Key, *, with_incarnation: bool) -> dict[str, object]:
    """The host's answer to acquire (docs/protocol.md, "Secure channel"); the only place that shows
    a key."""
    document: dict[str, object] = {
        "authorizationScheme": SCHEME,
        "guid": key.guid,
        "issued": key.issued,
        "key": key.secret.hex().upper(),
    }
    if with_incarnation:
        document["incarnationId"] = key.incarnation
    return document
