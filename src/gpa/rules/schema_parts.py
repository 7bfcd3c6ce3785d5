"""The members of rules, as parts of a JSON Schema; `schema` puts them together.

A member that is null counts as one that is not there. What only a local file may say stands beside
what the host may, too, so that both schemas come from one text.
"""

from __future__ import annotations

from typing import Any, Final

from gpa.rules.extensions import MAX_UID
from gpa.rules.model import HOST_SELECTORS, METHODS
from gpa.rules.validate import MAX_LIST

Schema = dict[str, Any]

_END: Final = r"(?![\s\S])"
"""The end of a text. In Python, $ would let a line feed follow."""

# Written out: what \S is differs between languages. These are the blanks of str.strip().
_BLANKS: Final = r"\x09-\x0d\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_NOT_BLANK: Final[Schema] = {"pattern": f"[^{_BLANKS}]"}

_MOMENT: Final = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3])(:[0-5][0-9]){2}"
    rf"(\.[0-9]{{1,6}})?(Z|\+00:00){_END}"
)
_SEGMENT: Final = rf"/(?!\.{{1,2}}(/|{_END}))[^/\x00]+"

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
    "exeSha256": (
        "Digest of the executable",
        "SHA-256 of the executable file, as sha256sum prints it.",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ),
    "systemdUnit": (
        "Unit",
        "Full name of the systemd unit that the caller runs in. A slice is given as cgroup.",
        "backup.service",
    ),
    "cgroup": (
        "Cgroup",
        "Path of a cgroup below the root of cgroup v2, without a slash at its end.",
        "/system.slice/backup.service",
    ),
    "containerId": (
        "Container",
        "The whole id of the container that the caller runs in, or its name.",
        "0f2a6c1b8e4d5f7093b1a2c3d4e5f60718293a4b5c6d7e8f9012a3b4c5d6e7f8",
    ),
}
"""Selectors that are text: title, description, example."""

_FORMS: Final = {
    "exeSha256": rf"^[0-9A-Fa-f]{{64}}{_END}",
    "systemdUnit": rf"^[A-Za-z0-9:_.\\@-]+\.(service|scope|socket|mount|swap){_END}",
    "cgroup": rf"^({_SEGMENT})+{_END}",
    # Not the first digits of an id, which another container may share.
    "containerId": rf"^(?![0-9A-Fa-f]{{12,63}}{_END})[^/\x00]*[^/\x00{_BLANKS}][^/\x00]*{_END}",
}
"""What the text of a selector must be like, where it is not any text."""

EXAMPLE: Final[Schema] = {
    "id": "site-7",
    "rules": {
        "privileges": [{"name": "token", "path": "/metadata/identity/oauth2/token"}],
        "roles": [{"name": "token-reader", "privileges": ["token"]}],
        "identities": [{"name": "backup", "userName": "backup", "exePath": "/usr/bin/restic"}],
        "roleAssignments": [{"role": "token-reader", "identities": ["backup"]}],
    },
}


def optional(schema: Schema) -> Schema:
    """The same, or null."""
    return schema | {"type": [schema["type"], "null"]}


def text(title: str, description: str, *examples: str) -> Schema:
    """A text that is not blank."""
    head = {"title": title, "description": description, "type": "string"}
    return head | _NOT_BLANK | {"examples": list(examples)}


def access(description: str) -> Schema:
    """`defaultAccess`."""
    return {
        "title": "Default access",
        "description": f"{description} allow or deny, in any case of letters.",
        "type": "string",
        # The first is what editors offer, the others what is read as well.
        "anyOf": [
            {"enum": ["allow", "deny"]},
            {"pattern": f"^[Aa][Ll][Ll][Oo][Ww]{_END}"},
            {"pattern": f"^[Dd][Ee][Nn][Yy]{_END}"},
        ],
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


def rules(*, local: bool) -> Schema:
    """The four lists.

    Args:
        local: with what only a local file may say.
    """
    lists = {
        "privileges": ("Privileges", "What may be asked for.", _privilege(local)),
        "roles": ("Roles", "Privileges under one name.", _role()),
        "identities": ("Identities", "Who may ask.", _identity(local)),
        "roleAssignments": ("Role assignments", "Who has which role.", _assignment(local)),
    }
    return {
        "title": "Rules",
        "description": "Privileges, granted through roles to identities. Each list may be absent.",
        "type": "object",
        "properties": {key: optional(_list(*parts)) for key, parts in lists.items()},
        "examples": [EXAMPLE["rules"]],
    }


def _privilege(local: bool) -> Schema:
    query = {
        "title": "Query parameters",
        "description": "Each must be in the request with this value; case-insensitive.",
        "type": "object",
        "propertyNames": _NOT_BLANK,
        "additionalProperties": text(
            "Value", "Compared after percent-decoding once.", "https://vault.azure.net"
        ),
        "examples": [{"resource": "https://vault.azure.net"}],
    }
    properties = {
        "name": text("Name", "Unique among the privileges.", "token"),
        "path": text(
            "Path",
            "Begins with a slash. Matches itself and everything below; / is every path.",
            "/metadata/identity/oauth2/token",
        )
        | {"pattern": "^/"},
        "queryParameters": optional(query),
    }
    if local:
        method = {
            "title": "Method",
            "description": "Compared with its case.",
            "type": "string",
            "enum": list(METHODS),
            "examples": ["GET"],
        }
        words = "Those that are meant; without the list, any."
        properties["methods"] = optional(_names("Methods", words, method))
    return _object(
        "Privilege",
        "A path with all that is below it, by whole segments, and the query parameters that a"
        " request must have.",
        ["name", "path"],
        properties,
        {"name": "token", "path": "/metadata/identity/oauth2/token"},
    )


def _role() -> Schema:
    item = text("Privilege", "Name of a privilege of this document.", "token")
    return _object(
        "Role",
        "Privileges under one name.",
        ["name", "privileges"],
        {
            "name": text("Name", "Unique among the roles.", "token-reader"),
            "privileges": _names("Privileges", "What the role may ask for.", item),
        },
        {"name": "token-reader", "privileges": ["token"]},
    )


def _identity(local: bool) -> Schema:
    selectors = {}
    for key, words in _SELECTORS.items():
        if local or key in HOST_SELECTORS:
            form = {"pattern": _FORMS[key]} if key in _FORMS else {}
            selectors[key] = optional(text(*words) | form)
    if local:
        selectors["uid"] = optional(
            {
                "title": "User id",
                "description": "Number of the user, which holds without any user database.",
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_UID,
                "examples": [1000],
            }
        )
    body = _object(
        "Identity",
        "A caller for whom every selector here holds. At least one is needed.",
        ["name"],
        {"name": text("Name", "Unique among the identities.", "backup"), **selectors},
        {"name": "backup", "userName": "backup", "exePath": "/usr/bin/restic"},
    )
    present: list[Schema] = [
        {"required": [key], "properties": {key: {"not": {"type": "null"}}}} for key in selectors
    ]
    return body | {"anyOf": present}


def _assignment(local: bool) -> Schema:
    item = text("Identity", "Name of an identity of this document.", "backup")
    properties = {
        "role": text("Role", "Name of a role of this document.", "token-reader"),
        "identities": _names("Identities", "Who has the role.", item),
    }
    if local:
        for key, title, words in (
            ("notBefore", "Not before", "From when on it holds, in UTC."),
            (
                "notAfter",
                "Not after",
                "Until when it holds, in UTC, that moment left out.",
            ),
        ):
            moment = text(title, words, "2026-01-31T08:00:00Z")
            properties[key] = optional(moment | {"pattern": _MOMENT})
    return _object(
        "Role assignment",
        "A role, and who has it.",
        ["role", "identities"],
        properties,
        {"role": "token-reader", "identities": ["backup"]},
    )
