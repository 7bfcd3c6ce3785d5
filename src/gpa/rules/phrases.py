"""Callers, paths and queries in words, for the tools on rules. Foreign text is left as it is: who
prints it escapes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

SELECTOR_WORDS: Final = {
    "userName": "user {}",
    "groupName": "in group {}",
    "exePath": "running {}",
    "processName": "running a program called {}",
    "uid": "with uid {}",
    "exeSha256": "running a file with SHA-256 {}",
    "systemdUnit": "in unit {}",
    "cgroup": "in cgroup {}",
    "containerId": "in container {}",
    "notBefore": "from {} on",
    "notAfter": "until {}",
}

DEFAULTS: Final = {True: "the default is to allow", False: "the default is to deny"}


def who(selectors: Iterable[tuple[str, str]]) -> str:
    """Whom an identity means: `user alice running /usr/bin/curl`."""
    wanted = dict(selectors)
    words = [text.format(wanted[key]) for key, text in SELECTOR_WORDS.items() if key in wanted]
    return " ".join(words) or "everybody"


def path(segments: Iterable[str]) -> str:
    """A path in canonical form."""
    return "/" + "/".join(segments)


def query(pairs: Iterable[tuple[str, str]]) -> str:
    """Parameters in canonical form; one without a name is the method."""
    return " and ".join(
        f"{name}={value}" if name else f"method {value}" for name, value in sorted(pairs)
    )


def listed(names: Iterable[str], most: int) -> str:
    """Names in a row, at most so many."""
    shown = list(names)
    more = len(shown) >= most
    return ", ".join(shown[: most - 1] if more else shown) + (" and others" if more else "")


def quoted(names: Collection[str], most: int) -> str:
    """Names of rules: `privilege 'a'`, `privileges 'a', 'b'`."""
    word = "privilege" if len(names) == 1 else "privileges"
    return f"{word} {listed((repr(name) for name in names), most)}"


def count(number: int, word: str) -> str:
    """`1 request`, `1,200 requests`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def span(first: str, last: str) -> str:
    """From when to when."""
    return f"at {first}" if first == last else f"{first} to {last}"
