"""The kernel, asked for real: programs loaded and attached where nobody lives, and what others have
attached. The only file of this room that calls libbpf.

A trial has a cgroup of its own below `cgroupRoot`, maps of its own and links without pins: the
kernel lets go of all but the empty cgroup when this process ends, however it ends, and the cgroup
is taken away by the next trial. Nothing of a running agent is touched.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import os
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from gpa.agent import interception, libbpf
from gpa.agent.cgroup import LEAF_NAME
from gpa.agent.libbpf import ATTACH_TYPES
from gpa.agent.pins import NEIGHBOURHOOD, OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

PREFIX: Final = "gpa.doctor."
"""Of the trial's cgroup."""

PROGRAMS: Final = tuple(dict.fromkeys((*OPTIONS, *NEIGHBOURHOOD, *ATTACH_TYPES)))
"""Every program, in the order in which the agent attaches them."""


@dataclass(frozen=True)
class Verdict:
    """What the kernel said to one program; empty words: nothing against it.

    Attributes:
        load: its refusal to load it.
        attach: its refusal to attach it; None when it was loaded and there was no place to try.
    """

    load: str = ""
    attach: str | None = ""


class Trial:
    """The throw-away cgroup, from `with` to its end."""

    def __init__(self, cgroup_root: Path) -> None:
        self._root = cgroup_root
        self._folder = cgroup_root
        self._fd = -1

    def __enter__(self) -> Self:
        """Make it, after what dead trials left.

        Raises:
            OSError: the kernel does not let us.
        """
        sweep(self._root)
        self._folder = self._root / f"{PREFIX}{secrets.token_hex(4)}"
        try:
            self._folder.mkdir()
            self._fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # says that we are alive
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        _rmdir(self._folder)

    @property
    def folder(self) -> Path:
        """The cgroup."""
        return self._folder

    @property
    def cgroup(self) -> int:
        """Its descriptor."""
        return self._fd


def try_programs(cgroup: int | None) -> dict[str, Verdict]:
    """Load every program and attach it for a moment.

    Args:
        cgroup: descriptor of the cgroup to attach to; None: there is none, they are only loaded.
    """
    try:
        whole = interception.load(None)
    except libbpf.BpfError as error:
        return _try_each(cgroup, error)
    try:
        return {name: _attach(whole, name, cgroup) for name in PROGRAMS}
    finally:
        whole.close()


def _try_each(cgroup: int | None, whole: libbpf.BpfError) -> dict[str, Verdict]:
    """The kernel stops at the first that it refuses: alone, each has its own answer."""
    verdicts = {}
    for name in PROGRAMS:
        try:
            alone = interception.load(None, only=name)
        except libbpf.BpfError as error:
            verdicts[name] = Verdict(load=f"{error}: {libbpf.last_words()}")
            continue
        try:
            verdicts[name] = _attach(alone, name, cgroup)
        finally:
            alone.close()
    if not any(verdict.load for verdict in verdicts.values()):
        # Each alone is taken, together they are not: too much of something.
        verdicts = dict.fromkeys(verdicts, Verdict(load=str(whole)))
    return verdicts


def _attach(programs: libbpf.Object, name: str, cgroup: int | None) -> Verdict:
    if cgroup is None:
        return Verdict(attach=None)
    try:
        link = libbpf.Link.create(programs.program(name), cgroup, name)
    except libbpf.BpfError as error:
        return Verdict(attach=str(error))
    link.detach()
    link.close()
    return Verdict()


def sweep(cgroup_root: Path) -> None:
    """Remove the cgroups of trials that were killed; best effort."""
    for folder in cgroup_root.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _rmdir_leaf(folder)
                folder.rmdir()
            finally:
                os.close(fd)


def _rmdir_leaf(folder: Path) -> None:
    """What the trial of capture.py makes inside."""
    with contextlib.suppress(FileNotFoundError):
        (folder / LEAF_NAME).rmdir()


def _rmdir(folder: Path) -> None:
    for _ in range(20):
        try:
            _rmdir_leaf(folder)
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)  # who was in it may be on the way out for a moment
        else:
            return


class Sharing(enum.Enum):
    """How a cgroup's programs on one hook get along with others."""

    EXCLUSIVE = "exclusive"
    OVERRIDE = "override"
    MULTI = "multi"


@dataclass(frozen=True)
class Neighbour:
    """Programs of one hook at one cgroup.

    Attributes:
        hook: our name of it.
        folder: the cgroup.
        sharing: how they get along with others.
        programs: name and id, for people.
        ours: all of them are this agent's kind.
    """

    hook: str
    folder: Path
    sharing: Sharing
    programs: tuple[str, ...]
    ours: bool


def neighbours(folder: Path) -> Iterator[Neighbour]:
    """What is attached to this very cgroup on the hooks that we use.

    Raises:
        OSError: the cgroup is gone, or not for us.
        BpfError: we may not ask.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for hook in PROGRAMS:
            try:
                there = libbpf.attached_programs(fd, hook)
            except libbpf.BpfError as error:
                if error.errno == errno.EINVAL:
                    continue  # a kernel without this hook: nobody can be on it
                raise
            if there:
                labels = tuple(
                    f"{program.name or 'a program without a name'} (id {program.id})"
                    for program in there
                )
                ours = all(program.name.startswith("gpa_") for program in there)
                yield Neighbour(hook, folder, _sharing(there[0]), labels, ours)
    finally:
        os.close(fd)


def _sharing(program: libbpf.Attached) -> Sharing:
    if program.allows_multi:
        return Sharing.MULTI
    return Sharing.OVERRIDE if program.allows_override else Sharing.EXCLUSIVE


def cgroup_of_pin(path: Path) -> int:
    """The id of the cgroup to which the pinned link is attached, 0 when it is to none."""
    link = libbpf.Link.pinned(path)
    if link is None:
        return 0
    try:
        return link.cgroup_id()
    finally:
        link.close()
