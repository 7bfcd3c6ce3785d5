"""From an audit log to the smallest rules that would have allowed it, each with its evidence.

Learnt is what went on to the host, in audit mode too: those are the rules with which enforce mode
breaks nothing that ran. Nothing is granted beyond what was seen, as far as the language can say it:

- a caller is a user, by number where he has no name, and a program, by full path where it is
  known, else by name;
- what is asked for is a path with the methods that were seen, and those parameters that select what
  is given (`SELECTING`), with the value that was seen. How it is given (`api-version`, `format`) is
  not told apart;
- a privilege holds beneath its path, too. Where that, or a parameter that cannot be told, grants
  more than was seen, the evidence says so.

The host's own rules know neither methods nor numbers of users: those that are made for it are
wider, and the evidence says so.

What cannot be expressed narrowly is left out and told, with what would have to be asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gpa._native import canonical_rule
from gpa.rules.grants import Evidence, What, Who, smallest
from gpa.rules.learnt import document
from gpa.rules.model import METHODS
from gpa.rules.replay import Seen, request_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpa.rules.effect import Path
    from gpa.rules.facts import Request
    from gpa.rules.replay import Asker, Kind, Log

SELECTING: Final = frozenset({"comp", "resource", "type"})
"""Parameters that say what is asked for: which document of WireServer, a token for whom."""

PEOPLE: Final = 1000
"""The first uid of people; below are root and the system's services."""

BY: Final = ("user+exe", "user", "exe")
"""What an identity may be made of."""


@dataclass(slots=True)
class Learnt:
    """Rules, and what there is to say about them.

    Attributes:
        document: a local file.
        requests: how many it is learnt from.
        left_out: what is not granted, why, and how often it was seen.
    """

    document: dict[str, object]
    requests: int
    left_out: Mapping[str, Seen]


def learn(
    log: Log,
    *,
    rules_id: str | None = None,
    by: str = "user+exe",
    widen_query: bool = False,
    depth: int | None = None,
    include_refused: bool = False,
    any_method: bool = False,
    host: bool = False,
) -> Learnt:
    """Make rules of a log.

    Args:
        log: what was asked for.
        rules_id: of the rules.
        by: one of `BY`; without the user or the program, more is granted than was seen.
        widen_query: ask for no parameter.
        depth: grant the first so many segments of a path, and all beneath.
        include_refused: learn from what was refused, too.
        any_method: ask for no method.
        host: say only what the host's rules can say.
    """
    gathered = _Gathering(
        log, by, widen_query=widen_query, depth=depth, any_method=any_method or host, host=host
    )
    for kind, seen in log.kinds.items():
        if kind.through or include_refused:
            gathered.add(kind, seen)
    grants = {who: smallest(found) for who, found in gathered.grants.items()}
    rules = document(grants, gathered.spelling, rules_id, host=host)
    total = sum(e.seen.count for found in grants.values() for e in found.values())
    return Learnt(rules, total, gathered.left_out)


class _Gathering:
    def __init__(
        self,
        log: Log,
        by: str,
        *,
        widen_query: bool,
        depth: int | None,
        any_method: bool,
        host: bool,
    ) -> None:
        self.grants: dict[Who, dict[What, Evidence]] = {}
        self.spelling: dict[Path, str] = {}
        self.left_out: dict[str, Seen] = {}
        self._log = log
        self._by = by
        self._depth = depth
        self._any_method = any_method
        self._host = host
        wanted = frozenset() if widen_query else SELECTING
        self._twice = wanted & self._ambiguous()
        self._selecting = wanted - self._twice

    def _ambiguous(self) -> frozenset[str]:
        """Parameters that some request had twice: named in a rule, they would have it refused."""
        found = set()
        for kind in self._log.kinds:
            if "&" not in kind.target or (request := request_of(self._log.endpoint, kind)) is None:
                continue
            names = [name for name, _ in request.query]
            values = set(request.query)
            found |= {
                name
                for name in SELECTING.intersection(names)
                if names.count(name) > 1
                and (len([n for n, _ in values if n == name]) > 1 or (name, None) in values)
            }
        return frozenset(found)

    def add(self, kind: Kind, seen: Seen) -> None:
        """One kind of request."""
        request = request_of(self._log.endpoint, kind)
        if request is None:
            return self._leave("its form is refused, whatever the rules", seen)
        if kind.method not in METHODS:
            return self._leave("no request with its method comes through", seen)
        who = self._who(kind.asker)
        if isinstance(who, str):
            return self._leave(who, seen)
        if request.path_cut:
            return self._leave("the path did not fit into the record", seen)
        known = {n: v for n, v in request.query if n in self._selecting and v is not None}
        unsure = {n for n, v in request.query if n in self._selecting and v is None}
        unsure |= {n for n, _ in request.query if n in self._twice}
        if request.cut:
            unsure |= self._selecting - known.keys()
        # A rule asks for a value, and cannot ask that there be none.
        query = {name: value for name, value in known.items() if _can_be_asked(value)}
        methods = frozenset[str]() if self._any_method else frozenset((kind.method,))
        what = What(request.segments[: self._depth], frozenset(query.items()), methods)
        if not (what.path or what.query):
            return self._leave("the path / covers every path", seen)
        spelling = _spelling(kind, request, len(what.path))
        self.spelling.setdefault(what.path, spelling)
        evidence = self.grants.setdefault(who, {}).setdefault(what, Evidence())
        evidence.join(Evidence(seen, {kind.method}, unsure | (known.keys() - query.keys())))
        return None

    def _leave(self, why: str, seen: Seen) -> None:
        self.left_out.setdefault(why, Seen()).join(seen)

    def _who(self, asker: Asker) -> Who | str:
        """Whom a rule would mean; or why there can be none."""
        if asker.uid is None:
            return "who asked is not known"
        user = uid = exe = process = None
        if "user" in self._by:
            if asker.uid != asker.euid:
                return "real and effective user differ, so that no rule on users holds"
            names = sorted(self._log.known.users(asker).values)
            if names:
                user = names[0]
            elif self._host:
                return f"uid {asker.uid} has no name in the log (--machine), and the host needs one"
            else:
                uid = asker.uid
        if "exe" in self._by:
            exe = self._log.known.path(asker)
            process = None if exe else asker.program
            if exe is None and (process is None or (user is None and uid is None)):
                return "the program's path is not known (--exe, or --by user for all programs)"
        return Who("user" in self._by and asker.uid < PEOPLE, user, uid, exe, process)


def _can_be_asked(value: str) -> bool:
    """Whether a rule may have the value: text, and not blank."""
    return bool(value.strip()) and not any("\ud800" <= c <= "\udfff" for c in value)


def _spelling(kind: Kind, request: Request, depth: int) -> str:
    """The path as the caller wrote it where a rule may have it so, else in canonical form."""
    path = kind.target.partition("?")[0]
    if path.startswith("/") and canonical_rule(path, [])[0] == list(request.segments):
        segments: list[str] = [one for one in path.split("/") if one]
    else:
        segments = [segment.replace("%", "%25") for segment in request.segments]
    return "/" + "/".join(segments[:depth])
