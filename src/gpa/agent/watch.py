"""When a file on which rules depend changes, rules are compiled anew within a tenth of a second.

inotify(7) on the folders, not on the files: passwd, a package's programs and what an editor saves
are replaced by renaming, which a watch on the old file would not see. What cannot be watched (no
inotify, too many folders, a file system whose changes are made elsewhere, a name in a directory
server) is seen at the next poll, which looks at everything anyway; so a lost event costs time and
never correctness.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from gpa.rules.executables import local_folders

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from gpa.agent.audit import Auditor
    from gpa.agent.log import Log

USER_FILES: Final = frozenset({Path("/etc/passwd"), Path("/etc/group"), Path("/etc/nsswitch.conf")})
"""What the user database is read from on the machine itself."""

MAX_FOLDERS: Final = 128
"""Folders watched at once; each is a kilobyte of kernel memory, and rules name a few."""

SETTLE: Final = 0.05
"""Seconds from a change to the look at it: who installs a package or saves a file does so in
several steps."""

SETTLE_MOST: Final = 2.0
"""The same while changes go on, doubling: somebody who may write into a watched folder must not
keep the agent busy."""

LOOK_AGAIN: Final = 1.0
"""Seconds at least between two looks at users and programs because of a refusal."""

# linux/inotify.h.
_CLOSE_WRITE, _ATTRIB, _ONLYDIR = 0x8, 0x4, 0x01000000
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _IGNORED, _OVERFLOW = 0x400, 0x800, 0x8000, 0x4000
_INTERESTING: Final = (_CLOSE_WRITE | _ATTRIB | _ONLYDIR | _MOVED_FROM | _MOVED_TO | _CREATE) | (
    _DELETE | _DELETE_SELF | _MOVE_SELF
)
_EVENT: Final = struct.Struct("=iIII")
_READ: Final = 1 << 16


class Watched(NamedTuple):
    """Files that decide what a table of rules says.

    Attributes:
        files: as this process sees them.
        programs: paths as PID 1 sees them.
    """

    files: frozenset[Path] = frozenset()
    programs: frozenset[str] = frozenset()


NOTHING: Final = Watched()


class Watch:
    """Has rules published anew early."""

    def __init__(self, publish: Callable[[], Awaitable[None]], log: Log) -> None:
        """Prepare; nothing is watched yet.

        Args:
            publish: compiles, and brings into force what has changed.
            log: where it is said that something is not watched.
        """
        self._publish = publish
        self._log = log
        self._inotify = _Inotify.open()
        self._names: dict[int, frozenset[str]] = {}
        self._said = False
        self._changed = trio.Event()
        self._looked_again = -LOOK_AGAIN

    async def run(self) -> None:
        """Publish after changes; until it is cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen)
                await self._publish_changes()
        finally:
            if self._inotify is not None:
                self._inotify.close()
                self._inotify = None

    async def _publish_changes(self) -> None:
        pause = SETTLE
        while True:
            await self._changed.wait()
            await trio.sleep(pause)
            self._changed = trio.Event()
            await self._publish()
            with trio.move_on_after(pause) as quiet:
                await self._changed.wait()
            pause = SETTLE if quiet.cancelled_caught else min(2 * pause, SETTLE_MOST)

    def follow(self, watched: Watched) -> None:
        """Watch these from now on; called after each look at them, which was before they were
        watched, so that what is new is looked at once more."""
        if self._inotify is None:
            if watched != NOTHING:
                self._say("inotify cannot be had")
            return
        names: dict[int, frozenset[str]] = {}
        trouble = ""
        for folder, wanted in _folders(watched).items():
            if len(names) == MAX_FOLDERS:
                trouble = f"they lie in more than {MAX_FOLDERS} folders"
                break
            try:
                number, name = self._inotify.add(folder)
            except OSError as error:
                trouble = error.strerror or str(error)
                continue
            # Further up there is one thing to wait for: the folder in which the files will be.
            found = wanted if name is None else frozenset({name})
            names[number] = names.get(number, frozenset()) | found
        for number in self._names.keys() - names.keys():
            self._inotify.remove(number)
        if names.keys() - self._names.keys():
            self._changed.set()
        self._names = names
        if trouble:
            self._say(trouble)

    async def after_refusals(self, auditor: Auditor) -> None:
        """A program installed a moment ago is not refused until the next poll."""
        now = trio.current_time()
        if auditor.unknown and now - self._looked_again >= LOOK_AGAIN:
            auditor.unknown = False
            self._looked_again = now
            await self._publish()

    async def _listen(self) -> None:
        while self._inotify is not None:
            await trio.lowlevel.wait_readable(self._inotify.fd)
            # Each of them, also when the first matters: some say that a folder is gone.
            matter = [self._matters(*event) for event in self._inotify.read()]
            if any(matter):
                self._changed.set()
            # In a busy folder most of it is about other files: look a few times a second.
            await trio.sleep(SETTLE)

    def _matters(self, number: int, mask: int, name: str) -> bool:
        if mask & _OVERFLOW:
            return True
        if number not in self._names:
            return False
        if mask & _IGNORED:
            # The folder is gone: the next `follow` finds what is in its place.
            del self._names[number]
            return True
        return not name or name in self._names[number]

    def _say(self, why: str) -> None:
        if not self._said:
            self._said = True
            self._log.warn(f"changes of some files count only at the next poll: {why}")


def _folders(watched: Watched) -> Mapping[Path, frozenset[str]]:
    """Names of interest by folder."""
    places = [(file.parent, file.name) for file in watched.files]
    programs = local_folders(watched.programs) if watched.programs else {}
    places += [(folder, Path(program).name) for program, folder in programs.items()]
    found: dict[Path, frozenset[str]] = {}
    for folder, name in sorted(places):
        found[folder] = found.get(folder, frozenset()) | {name}
    return found


class _Inotify:
    """An instance of inotify(7), by the C library."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def open(cls) -> _Inotify | None:
        """None where it cannot be had: not in the kernel, or too many instances."""
        fd = _C.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        return cls(fd) if fd >= 0 else None

    def add(self, folder: Path) -> tuple[int, str | None]:
        """Watch a folder, or the nearest one above it that there is.

        Returns:
            The watch's number, and in the second case the name that must appear in it.

        Raises:
            OSError: it cannot be watched.
        """
        missing: str | None = None
        while True:
            number: int = _C.inotify_add_watch(self.fd, os.fsencode(folder), _INTERESTING)
            if number >= 0:
                return number, missing
            error = OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise error
            if folder == folder.parent:
                raise error
            missing, folder = folder.name, folder.parent

    def remove(self, number: int) -> None:
        """Watch it no more; one that ended by itself is fine, too."""
        _C.inotify_rm_watch(self.fd, number)

    def read(self) -> list[tuple[int, int, str]]:
        """Events that wait: number of the watch, what happened, name in the folder."""
        try:
            data = os.read(self.fd, _READ)
        except BlockingIOError:
            return []
        events, at = [], 0
        while at < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = data[at : at + length].partition(b"\0")[0]
            at += length
            events.append((number, mask, os.fsdecode(name)))
        return events

    def close(self) -> None:
        os.close(self.fd)


_C: Final = ctypes.CDLL(None, use_errno=True)
_C.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
