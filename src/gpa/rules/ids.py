"""The id of a rule set, which may carry a flag in disguise.

docs/protocol.md, "Ids and local rules": any text, or base64 of `{"id": "…", "useLocalFileRules":
true}`. What is not exactly that is plain text, and then no local file is read.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

import msgspec


class DecodedId(NamedTuple):
    """The id inside, and whether the local file is to be merged in."""

    id: str
    use_local: bool


class _Inside(msgspec.Struct, frozen=True):
    id: str
    use_local: bool = msgspec.field(name="useLocalFileRules")


def decode_id(text: str) -> DecodedId | None:
    """Take the id apart; None when it is plain text."""
    try:
        document = msgspec.json.decode(base64.b64decode(text, validate=True))
        inside = msgspec.convert(
            document, _Inside
        )  # in two steps: the last of a repeated key counts
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        return None
    return DecodedId(inside.id, inside.use_local)


def shown_id(plain: str, use_local: bool | None, local_id: str | None = None) -> str:
    """The id that operators see."""
    if use_local is None:
        return plain
    shown = f"{plain}-useLocalFileRules-{'true' if use_local else 'false'}"
    return f"{shown}_{local_id}" if use_local and local_id is not None else shown
