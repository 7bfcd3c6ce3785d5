"""Names that people would give to learnt rules: `token`, `token-reader`, `backup-restic`."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gpa.rules.grants import What, Who

LONGEST: Final = 60
"""Characters; a record shows 32 of a name in short, 128 in full."""

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Names:
    """Names of each kind, every one once: the second `token` is `token-2`."""

    def __init__(self) -> None:
        self._taken: set[tuple[str, str]] = set()
        self._numbers: Counter[tuple[str, str]] = Counter()

    def new(self, kind: str, wanted: str) -> str:
        """The name, or with a number the next like it."""
        name = wanted
        while (kind, name) in self._taken:
            self._numbers[kind, wanted] += 1
            name = f"{wanted}-{self._numbers[kind, wanted] + 1}"
        self._taken.add((kind, name))
        return name


def slug(text: str) -> str:
    """Words of a name: letters, digits, dots and lines between them."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:LONGEST].rstrip("-.")


class Endings:
    """How many of some paths end alike."""

    def __init__(self, all_of_them: Iterable[What]) -> None:
        paths = {what.path for what in all_of_them}
        self._count = Counter(path[-n:] for path in paths for n in range(1, len(path) + 1))

    def depth(self, path: tuple[str, ...]) -> int:
        """Segments from its end that tell it from the others; all of them where none do."""
        unlike = (n for n in range(1, len(path)) if self._count[path[-n:]] == 1)
        return next(unlike, max(1, len(path)))


def privilege_name(what: What, endings: Endings) -> str:
    """As many segments from the end of the path as tell it from the others, the values, and the
    methods where more than GET is meant."""
    depth = endings.depth(what.path)
    words = [*what.path[-depth:], *(_short(value) for _, value in sorted(what.query))]
    words += sorted(what.methods) if what.methods != {"GET"} else ()
    return slug("-".join(words)) or "everything"


def _short(value: str) -> str:
    """The host of an address, else the value."""
    address = re.match(r"[a-z]+://([^/]+)", value)
    return address[1] if address else value


def identity_name(who: Who) -> str:
    """User and program, once where they are called alike."""
    program = (who.exe or who.process or "").rpartition("/")[2]
    user = who.user or ("" if who.uid is None else f"uid-{who.uid}")
    words = [slug(word) for word in (user, program) if word]
    return "-".join(dict.fromkeys(word for word in words if word)) or "caller"


def role_name(privileges: Sequence[str], identities: Sequence[str], *, reads: bool) -> str:
    """After what it gives, or where that is much, after who has it."""
    ending = "reader" if reads else "user"
    if len(privileges) <= 2:
        return f"{'-and-'.join(privileges)}-{ending}"
    return f"{identities[0]}-role"
