"""Cuts secrets out of what is logged. Pure.

A target's query values and a command line may hold tokens, signatures and passwords. Values of a
query are shown only for the few parameters that are known to be harmless; of a command line
everything but what looks like a secret.
"""

from __future__ import annotations

import re
from typing import Final

HARMLESS: Final = frozenset(
    {"api-version", "comp", "extended", "format", "incarnation", "resource", "type"}
)
"""Parameters whose values say what was asked for and never hold a secret."""

CMDLINE_LIMIT: Final = 1024
"""Characters of a command line."""

_HARMLESS_VALUE: Final = re.compile(r"[A-Za-z0-9._~:/%-]{0,128}")
# An address with a query of its own, plain or encoded, may carry a signature.
_NESTED_QUERY: Final = re.compile(r"\?|%3f|sig=|sig%3d", re.IGNORECASE)

_TELLTALE: Final = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|sig(?:nature)?|sas|credential"
    r"|(?:api|access|account|shared|private|client)?[-_]?key|authorization|auth|bearer)"
)
_SECRETS: Final = (
    # user:password@ in an address
    (re.compile(r"(://[^/\s:@]+:)[^@\s/]+(@)"), r"\1…\2"),
    # Authorization: Bearer abc, in a header given to curl
    (re.compile(r"(?i)\b(bearer|basic|sharedkey|azure-hmac-sha256)\s+[^\s'\"]+"), r"\1 …"),
    # --password=x, ?sig=x, AccountKey=x;, "token": "x"
    (
        re.compile(rf"(?i)((?<![a-z]){_TELLTALE}[\w-]*[\"']?\s*[=:]\s*[\"']?)[^\s&;\"',}}]+"),
        r"\1…",
    ),
    # --password x
    (re.compile(rf"(?i)(--?[\w-]*{_TELLTALE}[\w-]*\s+)(?!-)\S+"), r"\1…"),
)


def target(text: str) -> str:
    """A request target with the values of its query cut out, save for harmless ones."""
    path, mark, query = text.partition("?")
    if not mark:
        return path
    return f"{path}?{'&'.join(_pair(pair) for pair in query.split('&'))}"


def _pair(pair: str) -> str:
    name, mark, value = pair.partition("=")
    if not mark or not value:
        return name if not mark else f"{name}="
    harmless = (
        name.lower() in HARMLESS
        and _HARMLESS_VALUE.fullmatch(value)
        and not _NESTED_QUERY.search(value)
    )
    return pair if harmless else f"{name}=…"


def command_line(text: str) -> str:
    """A command line without what looks like a secret, at most `CMDLINE_LIMIT` characters."""
    # Cut first, generously: the patterns are linear, but a command line may have a megabyte.
    shown = text[: 4 * CMDLINE_LIMIT]
    for pattern, replacement in _SECRETS:
        shown = pattern.sub(replacement, shown)
    return shown if len(shown) <= CMDLINE_LIMIT else shown[: CMDLINE_LIMIT - 1] + "…"
