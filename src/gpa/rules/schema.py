"""The form of rules as JSON Schema 2020-12, for editors and for `gpa rules lint`.

A schema says what one member may hold; what holds across members (references that are defined,
names that are unique) only `validate` says, and what a path may be only the engine. The files
beside this one are made from here: `gpa rules schema > src/gpa/rules/local-rules.schema.json`, and
with `--host` host-item.schema.json; a test keeps them equal.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gpa.rules.source import join
from gpa.rules.validate import MAX_LIST

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL_FILE: Final = "local-rules.schema.json"
HOST_FILE: Final = "host-item.schema.json"

MAX_ERRORS: Final = 100
"""Nobody mends more at a time."""

Schema = dict[str, Any]

# Written out: what \\S is differs between languages. These are the blanks of str.strip().
_BLANKS: Final = r"\x09-\x0d\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_NOT_BLANK: Final[Schema] = {"pattern": f"[^{_BLANKS}]"}

_ALLOW: Final[Schema] = {"pattern": "^[Aa][Ll][Ll][Oo][Ww]$", "maxLength": 5}
_DENY: Final[Schema] = {"pattern": "^[Dd][Ee][Nn][Yy]$", "maxLength": 4}

# Each selector of the host's language: title, description, example.
_SELECTORS: Final = {
    "userName": (
        "User",
        "Name of the user, byte for byte as the machine's user database has it. Matches nobody"
        " while the name is not known, and no setuid program.",
        "backup",
    ),
    "groupName": (
        "Group",
        "Name of a group that the user is in by the user database, or with whose id it connected.",
        "metadata-readers",
    ),
    "exePath": (
        "Executable",
        "Full path of the executable file, without links and without . or .. in it. Scripts run as"
        " their interpreter.",
        "/usr/bin/restic",
    ),
    "processName": (
        "Process name",
        "Last component of the executable's path. Any user can give any program any name: use it"
        " beside exePath or userName, not alone.",
        "restic",
    ),
}


_NO_FORM: Final = {
    "Default access": "must be allow or deny",
    "Identity": f"has no selector: give at least one of {', '.join(_SELECTORS)}",
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
            "id": _optional(
                _text("Id", "Shown behind the host's id in status and records.", "site-7")
            ),
            "defaultAccess": _optional(
                _access("Replaces the host's answer to a request that no privilege matches.")
            ),
            "mode": {
                "title": "Mode",
                "description": "Ignored: the mode is the host's alone.",
                "examples": ["enforce"],
            },
            "rules": _optional(_rules()),
        },
        "examples": [_EXAMPLE],
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
            "id": _text(
                "Id",
                "Any text, or the base64 of an object with id and useLocalFileRules: true, which"
                " asks for the local file.",
                "sha256-of-the-rules",
            ),
            "defaultAccess": _access("What happens to a request that no privilege matches."),
            "mode": {
                "title": "Mode",
                "description": "disabled: nothing is judged; audit: refusals are recorded only;"
                " enforce: they are answered 403.",
                "type": "string",
                "examples": ["disabled", "audit", "enforce"],
            },
            "rules": _optional(_rules()),
        },
        "examples": [_EXAMPLE | {"defaultAccess": "deny", "mode": "enforce"}],
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


_EXAMPLE: Final[Schema] = {
    "id": "site-7",
    "rules": {
        "privileges": [{"name": "token", "path": "/metadata/identity/oauth2/token"}],
        "roles": [{"name": "token-reader", "privileges": ["token"]}],
        "identities": [{"name": "backup", "userName": "backup", "exePath": "/usr/bin/restic"}],
        "roleAssignments": [{"role": "token-reader", "identities": ["backup"]}],
    },
}


# Parts. A member that is null counts as one that is not there.


def _optional(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


def _text(title: str, description: str, *examples: str) -> Schema:
    head = {"title": title, "description": description, "type": "string"}
    return head | _NOT_BLANK | {"examples": list(examples)}


def _access(description: str) -> Schema:
    return {
        "title": "Default access",
        "description": f"{description} allow or deny, in any case of letters.",
        "type": "string",
        # The first is what editors offer, the others what is read as well.
        "anyOf": [{"enum": ["allow", "deny"]}, _ALLOW, _DENY],
        "examples": ["deny"],
    }


def _list(title: str, description: str, items: Schema) -> Schema:
    head: Schema = {"title": title, "description": description, "type": "array"}
    return head | {"maxItems": MAX_LIST, "items": items, "examples": [items["examples"]]}


def _names(title: str, description: str, item: Schema) -> Schema:
    return _list(title, description, item) | {"minItems": 1, "uniqueItems": True}


def _object(
    title: str, description: str, required: list[str], properties: Schema, example: Schema
) -> Schema:
    return {
        "title": title,
        "description": description,
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
        "examples": [example],
    }


def _rules() -> Schema:
    lists = {
        "privileges": ("Privileges", "What may be asked for.", _privilege()),
        "roles": ("Roles", "Privileges under one name.", _role()),
        "identities": ("Identities", "Who may ask.", _identity()),
        "roleAssignments": ("Role assignments", "Who has which role.", _assignment()),
    }
    return {
        "title": "Rules",
        "description": "Privileges, granted through roles to identities. Each list may be absent.",
        "type": "object",
        "properties": {key: _optional(_list(*parts)) for key, parts in lists.items()},
        "examples": [_EXAMPLE["rules"]],
    }


def _privilege() -> Schema:
    query = {
        "title": "Query parameters",
        "description": "Each must be in the request with this value; case-insensitive.",
        "type": "object",
        "propertyNames": _NOT_BLANK,
        "additionalProperties": _text(
            "Value", "Compared after percent-decoding once.", "2021-02-01"
        ),
        "examples": [{"resource": "https://vault.azure.net"}],
    }
    return _object(
        "Privilege",
        "A path with all that is below it, by whole segments, and the query parameters that a"
        " request must have.",
        ["name", "path"],
        {
            "name": _text("Name", "Unique among the privileges.", "token"),
            "path": _text(
                "Path",
                "Begins with a slash. Matches itself and everything below; / is every path.",
                "/metadata/identity/oauth2/token",
            )
            | {"pattern": "^/"},
            "queryParameters": _optional(query),
        },
        {"name": "token", "path": "/metadata/identity/oauth2/token"},
    )


def _role() -> Schema:
    item = _text("Privilege", "Name of a privilege of this document.", "token")
    return _object(
        "Role",
        "Privileges under one name.",
        ["name", "privileges"],
        {
            "name": _text("Name", "Unique among the roles.", "token-reader"),
            "privileges": _names("Privileges", "What the role may ask for.", item),
        },
        {"name": "token-reader", "privileges": ["token"]},
    )


def _identity() -> Schema:
    selectors = {key: _optional(_text(*parts)) for key, parts in _SELECTORS.items()}
    body = _object(
        "Identity",
        "A caller for whom every selector here holds. At least one is needed.",
        ["name"],
        {"name": _text("Name", "Unique among the identities.", "backup"), **selectors},
        {"name": "backup", "userName": "backup", "exePath": "/usr/bin/restic"},
    )
    present: list[Schema] = [
        {"required": [key], "properties": {key: {"not": {"type": "null"}}}} for key in selectors
    ]
    return body | {"anyOf": present}


def _assignment() -> Schema:
    item = _text("Identity", "Name of an identity of this document.", "backup")
    return _object(
        "Role assignment",
        "A role, and who has it.",
        ["role", "identities"],
        {
            "role": _text("Role", "Name of a role of this document.", "token-reader"),
            "identities": _names("Identities", "Who has the role.", item),
        },
        {"role": "token-reader", "identities": ["backup"]},
    )
