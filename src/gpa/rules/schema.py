"""The form of rules as JSON Schema 2020-12, for editors and for `gpa rules lint`.

A schema says what one member may hold; what holds across members (references that are defined,
names that are unique) only `validate` says, and what a path may be only the engine. The files
beside this one are made from here: `gpa rules schema > src/gpa/rules/local-rules.schema.json`, and
with `--host` host-item.schema.json; a test keeps them equal.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Final, NamedTuple

from gpa.rules.schema_parts import EXAMPLE, access, optional, rules, text
from gpa.rules.source import join

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.rules.schema_parts import Schema

LOCAL_FILE: Final = "local-rules.schema.json"
HOST_FILE: Final = "host-item.schema.json"

MAX_ERRORS: Final = 100
"""Nobody mends more at a time."""

_NO_FORM: Final = {
    "Default access": "must be allow or deny",
    "Identity": "has no selector: give at least one",
}
"""What an `anyOf` says, by the title of its schema; the validator says only that none fits."""


class SchemaError(NamedTuple):
    """What the schema says against a document.

    Attributes:
        place: as `validate` writes it; of an unknown member, the object that has it.
        message: what is wrong.
        unknown: members that must not be there.
    """

    place: str
    message: str
    unknown: tuple[str, ...] = ()


def local_schema() -> Schema:
    """Of a local file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:guest-proxy-agent:local-rules",
        "title": "Local rules",
        "description": "Rules of this machine for one endpoint: IMDS_Rules.json or"
        " WireServer_Rules.json in the rules folder. They are merged with the host's where the host"
        " says so (useLocalFileRules).",
        "type": "object",
        "properties": {
            "$schema": {
                "title": "Schema",
                "description": "Where the editor finds this schema. The agent does not look at it.",
                "type": "string",
                "examples": [f"./{LOCAL_FILE}"],
            },
            "id": optional(
                text("Id", "Shown behind the host's id in status and records.", "site-7")
            ),
            "defaultAccess": optional(
                access("Replaces the host's answer to a request that no privilege matches.")
            ),
            "mode": {
                "title": "Mode",
                "description": "Ignored: the mode is the host's alone.",
                "examples": ["enforce"],
            },
            "rules": optional(rules(local=True)),
        },
        "examples": [EXAMPLE],
    }


def host_schema() -> Schema:
    """Of what the host says about one endpoint."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:guest-proxy-agent:host-item",
        "title": "The host's item",
        "description": "What the host says about one endpoint.",
        "type": "object",
        "required": ["id", "defaultAccess"],
        "properties": {
            "id": text(
                "Id",
                "Any text, or the base64 of an object with id and useLocalFileRules: true, which"
                " asks for the local file.",
                "sha256-of-the-rules",
            ),
            "defaultAccess": access("What happens to a request that no privilege matches."),
            "mode": {
                "title": "Mode",
                "description": "disabled: nothing is judged; audit: refusals are recorded only;"
                " enforce: they are answered 403.",
                "type": "string",
                "examples": ["disabled", "audit", "enforce"],
            },
            "rules": optional(rules(local=False)),
        },
        "examples": [EXAMPLE | {"defaultAccess": "deny", "mode": "enforce"}],
    }


def text_of(schema: Schema) -> str:
    """As it is printed and shipped."""
    return json.dumps(schema, indent=2) + "\n"


def errors(document: object, *, host: bool = False) -> Iterator[SchemaError]:
    """What the schema says against a document, at most `MAX_ERRORS`."""
    import jsonschema  # 0.1 s, and only tools validate by it

    validator = jsonschema.Draft202012Validator(host_schema() if host else local_schema())
    for error in itertools.islice(validator.iter_errors(document), MAX_ERRORS):
        unknown: tuple[str, ...] = ()
        if error.validator == "additionalProperties":
            unknown = tuple(sorted(error.instance.keys() - error.schema["properties"].keys()))
        message = _NO_FORM[error.schema["title"]] if error.validator == "anyOf" else error.message
        yield SchemaError(join(*error.absolute_path), _words(message), unknown)


def _words(message: str) -> str:
    """The validator quotes what is wrong, whatever its length."""
    return message if len(message) <= 200 else f"{message[:100]} … {message[-80:]}"
