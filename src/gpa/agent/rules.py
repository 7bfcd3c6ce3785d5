"""From the host's items, the local files and the users of this machine to a table to judge by.

The language itself is `gpa.rules`; here stands when its work is done anew and what happens when
some of it fails: an item of the host that is not valid leaves the last valid one in force, without
one it closes the endpoint; so does a broken local file. A look-up that hangs keeps the answers it
had before.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from gpa.agent.watch import NOTHING, USER_FILES, Watched
from gpa.endpoints import Endpoint, Mode
from gpa.errors import RulesError
from gpa.rules import validity
from gpa.rules.compile import CompiledNames, compile_table, computed_rules, table_check
from gpa.rules.local import FILE_NAMES, read_local_file
from gpa.rules.merge import merge
from gpa.rules.model import EffectiveRules, HostItem, LocalFile
from gpa.rules.resolve import Lookup, Resolution, WantedNames
from gpa.rules.validate import read_host_item

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from gpa._native.records import CallerFields
    from gpa.agent.audit import RuleNames
    from gpa.agent.callers import Callers
    from gpa.rules.executables import Executables
    from gpa.rules.resolve import UserDatabase
    from gpa.rules.validity import Outside

LOOKUP_SECONDS: Final = 2.0
"""How long a publication waits for users and files; what comes later counts at the next poll."""

SHORTEST_PAUSE: Final = 0.01
"""Seconds before a table whose time is over is compiled anew."""

LOOKUPS_AT_ONCE: Final = 4
"""Threads that may hang in a directory server that does not answer."""

YOUNG_NS: Final = 1_000_000_000
"""A file is read again at each look until its last change is so long ago."""

Signature = tuple[int, ...] | None


@dataclass(frozen=True)
class Compiled:
    """Rules ready to be judged by.

    Attributes:
        table: JSON for the native snapshot.
        names: place in the table to the name that people gave, by endpoint.
        ids: of the rules of each endpoint, as shown to operators.
        document: content of AuthorizationRules_{time}.json.
        troubles: what is wrong with rules and which names match nobody, one line each.
        notes: assignments that do not hold now, one line each.
        until: unix time at which some assignment begins or ends to hold; None for never.
        watched: files by which the table would change.
    """

    table: bytes
    names: Mapping[Endpoint, RuleNames]
    ids: Mapping[Endpoint, str]
    document: Mapping[str, Any]
    troubles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    until: float | None = None

    def pause(self, most: float) -> float:
        """Seconds until it is to be compiled anew, at most so many."""
        if self.until is None:
            return most
        # Never nothing: the clock that sleeps may be ahead of the one that tells the time.
        return min(most, max(SHORTEST_PAUSE, self.until - time.time()))

    watched: Watched = NOTHING


class Policy(Protocol):
    """Compiles rules; `HostPolicy` is the real one."""

    async def compile(
        self,
        modes: Mapping[Endpoint, Mode],
        items: Mapping[Endpoint, Mapping[str, object] | None],
        seen: Collection[int],
        *,
        names: bool = True,
    ) -> Compiled:
        """The table for these modes and host's items, with local files and users as they are now.

        Called at each poll. Never raises for what is in rules.

        Args:
            modes: of all endpoints.
            items: of the host.
            seen: uids of callers.
            names: look names up; else only what is new of callers counts.
        """

    def look(self, callers: Sequence[CallerFields]) -> None:
        """Learn more of callers than the kernel's record says; blocking."""


def closed_table(modes: Mapping[Endpoint, Mode]) -> bytes:
    """A table that refuses everything that is judged."""
    endpoints = {e.value: {"mode": modes[e].value, "broken": True, "rules": None} for e in Endpoint}
    return json.dumps({"endpoints": endpoints}).encode()


@dataclass
class _Local:
    """A local file as last read."""

    signature: Signature = None
    file: LocalFile = field(default_factory=LocalFile)


class HostPolicy:
    """Compiles, and remembers what need not be done again.

    Args:
        folder: where local rules files lie.
        load_table: takes a table natively; raises `ValueError` for what the engine cannot use.
        users: the user database.
        files: executables that rules name.
        clock: unix time, by which assignments with `notBefore` and `notAfter` hold.
    """

    def __init__(
        self,
        folder: Path,
        load_table: Callable[[bytes], object],
        users: UserDatabase,
        files: Executables,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._callers: Callers | None = None
        self._clock = clock
        self._folder = folder
        self._check = table_check(load_table)
        self._users = users
        self._files = files
        self._raw: dict[Endpoint, Mapping[str, object] | None] = {}
        self._valid: dict[Endpoint, HostItem | None] = {}
        self._why: dict[Endpoint, str] = {}
        self._local: dict[str, _Local] = {}
        self._resolution = Resolution()
        self._limiter = trio.CapacityLimiter(LOOKUPS_AT_ONCE)
        self._inputs: tuple[object, ...] = ()
        self._compiled: Compiled | None = None

    async def compile(
        self,
        modes: Mapping[Endpoint, Mode],
        items: Mapping[Endpoint, Mapping[str, object] | None],
        seen: Collection[int],
        *,
        names: bool = True,
    ) -> Compiled:
        """See `Policy`."""
        effective = {e: await self._effective(e, items[e]) for e in Endpoint}
        wanted = WantedNames.of(effective.values())
        if names:
            await self._resolve(wanted, seen)
        resolution = self._resolution
        if wanted.callers:
            resolution = self._met().add_to(resolution, wanted)
        now = datetime.fromtimestamp(self._clock(), UTC)
        # Read at each poll, so that a clock that was set anew is noticed at the latest then.
        timed = {e: validity.split(rules, now) for e, rules in effective.items() if rules}
        inputs = (effective, timed, dict(modes), resolution, dict(self._why))
        if self._compiled is None or inputs != self._inputs:
            self._inputs = inputs
            compiled = await trio.to_thread.run_sync(
                self._compile, timed, dict(modes), dict(items), resolution
            )
            until = validity.next_boundary(effective.values(), now)
            self._compiled = replace(compiled, until=None if until is None else until.timestamp())
        return self._compiled

    def look(self, callers: Sequence[CallerFields]) -> None:
        """See `Policy`."""
        self._met().look(callers)

    def _met(self) -> Callers:
        """What was learnt of callers. Nothing is loaded for it before some rule asks."""
        if self._callers is None:
            from gpa.agent.callers import Callers

            self._callers = Callers(self._files)
        return self._callers

    def _compile(
        self,
        timed: Mapping[Endpoint, tuple[EffectiveRules, tuple[Outside, ...]]],
        modes: Mapping[Endpoint, Mode],
        items: Mapping[Endpoint, Mapping[str, object] | None],
        resolution: Resolution,
    ) -> Compiled:
        effective = {e: timed[e][0] if e in timed else None for e in Endpoint}
        outside = {e: left for e, (_, left) in timed.items()}
        broken = [f"{e.label}: {r.broken}" for e, r in effective.items() if r and r.broken]
        kept = [f"{e.label}: {why}, the last valid rules stay" for e, why in self._why.items()]
        unmatched = [f"{name}: {why}" for name, why in resolution.unmatched.items()]
        return Compiled(
            table=compile_table(effective, modes, resolution),
            names={e: CompiledNames.of(rules) for e, rules in effective.items()},
            ids={e: rules.id for e, rules in effective.items() if rules},
            document={
                "inputRules": {e.value: item for e, item in items.items()},
                "computedRules": computed_rules(effective, modes, outside),
            },
            troubles=(*broken, *kept, *unmatched),
            notes=tuple(f"{e.label}: {one}" for e, left in outside.items() for one in left),
            watched=self._watched(WantedNames.of(effective.values())),
        )

    def _watched(self, wanted: WantedNames) -> Watched:
        files = frozenset(self._folder / name for name in FILE_NAMES.values())
        if wanted.users or wanted.groups:
            files |= USER_FILES
        return Watched(files, wanted.executables)

    async def _effective(
        self, endpoint: Endpoint, raw: Mapping[str, object] | None
    ) -> EffectiveRules | None:
        if endpoint not in self._raw or raw != self._raw[endpoint]:
            self._raw[endpoint] = raw
            self._why.pop(endpoint, None)
            try:
                self._valid[endpoint] = self._read_item(raw)
            except RulesError as error:
                if endpoint not in self._valid:
                    # Asked again at each poll: only a valid item may replace this.
                    del self._raw[endpoint]
                    return EffectiveRules("", default_allowed=False, broken=str(error))
                self._why[endpoint] = str(error)
        item = self._valid[endpoint]
        if item is None:
            return None
        if not item.use_local:
            return merge(item)
        return merge(item, await self._local_file(FILE_NAMES[endpoint]))

    def _read_item(self, raw: Mapping[str, object] | None) -> HostItem | None:
        if raw is None:
            return None
        item = read_host_item(dict(raw))
        if item.rules is not None:
            self._check(item.rules)
        return item

    async def _local_file(self, name: str) -> LocalFile:
        """The file as it is now; read again only when it has changed."""
        path = self._folder / name
        known = self._local.setdefault(name, _Local())
        signature = _signature(path)
        if signature is None or signature != known.signature or known.file.trouble is not None:
            known.file = await read_local_file(path, trio.sleep, self._check)
            known.signature = signature
        return known.file

    async def _resolve(self, wanted: WantedNames, seen: Collection[int]) -> None:
        if self._callers is not None and not wanted.callers:
            self._callers.forget()
        if wanted == WantedNames():
            self._resolution = Resolution()
            self._files.forget(())
            return
        lookup = Lookup(
            wanted, self._users, self._files, previous=self._resolution, seen=tuple(seen)
        )
        unread: dict[str, str] = {}

        def work() -> None:
            lookup.run()
            if wanted.read:
                unread.update(self._met().look_at_files(wanted.read))

        with trio.move_on_after(LOOKUP_SECONDS):
            await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)
        found = lookup.result()
        self._resolution = replace(found, unmatched={**found.unmatched, **unread})
        self._files.forget(wanted.executables)


def _signature(path: Path) -> Signature:
    """What tells that a file has changed; None for one that is not there, or whose last change is
    so young that another in the same tick of the kernel's clock would leave the same."""
    try:
        info = path.lstat()
    except OSError:
        return None
    if abs(time.time_ns() - info.st_ctime_ns) < YOUNG_NS:
        return None
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_mode
