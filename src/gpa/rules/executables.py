"""Paths of executables in rules to files as the kernel tells them apart.

A path is read as PID 1 sees it: from its root, without links and without `..`, so that it is the
full path of the file, as a rule must have it. The device comes from mountinfo, since stat(2) has
another one on overlayfs and btrfs than the kernel's record of a caller.

Each file is held open (O_PATH: its name only), so that its inode number cannot come to another
file while a rule names it. A file that was replaced matches on while a process runs it: what is
held open then tells its new ctime, which the replacement changed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from gpa.rules.compile import ExeId
from gpa.rules.resolve import NoMatchError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

INIT: Final = Path("/proc/1")
OURSELVES: Final = Path("/proc/self")
MAX_REPLACED: Final = 8
"""Replaced files kept per path; who runs one that is older than as many upgrades is refused."""

FOREIGN: Final = frozenset(
    {"9p", "afs", "autofs", "ceph", "cifs", "coda", "fuse", "fuseblk", "gfs2", "glusterfs", "kafs"}
    | {"lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs", "virtiofs"}
)
"""File systems whose content somebody else decides, or that may hang; ext/policy/selectors.rs has
the same by number. Any `fuse.…` is one, too."""


class Mount(NamedTuple):
    """One line of mountinfo."""

    number: int
    device: int
    point: str
    kind: str

    @property
    def foreign(self) -> bool:
        """True when rules on executables do not hold there."""
        return self.kind in FOREIGN or self.kind.startswith("fuse.")


def read_mounts(text: str) -> list[Mount]:
    """Parse mountinfo (proc(5)); `device` is `major << 20 | minor`."""
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        number, _, device, _, point, *_ = before.split(" ")
        major, _, minor = device.partition(":")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)
        mounts.append(
            Mount(int(number), int(major) << 20 | int(minor), point, after.partition(" ")[0])
        )
    return mounts


def judge_of_paths() -> Path:
    """Folder in /proc of the process whose view of files counts: PID 1, or ourselves where the
    kernel does not let us look through it (PID 1 has more capabilities, or is another user's).

    Our own view is as good a judge: only root could have made it another one.
    """
    try:
        (INIT / "root").readlink()
    except OSError:
        return OURSELVES
    return INIT


class Executables:
    """All executables that rules name; an `resolve.ExecutableFiles`. Owns descriptors."""

    def __init__(self, init: Path | None = None, processes: Path = Path("/proc")) -> None:
        """Prepare.

        Args:
            init: folder in /proc of the process whose view of files counts; `judge_of_paths()`
                when None.
            processes: where to look for processes that run a replaced file.
        """
        self._init = init or judge_of_paths()
        self._processes = processes
        self._tracked: dict[str, _Tracked] = {}

    def find(self, path: str) -> frozenset[ExeId]:
        """Files behind `path` now, and those it replaced that still run.

        Raises:
            NoMatchError: there is none, and why.
        """
        tracked = self._tracked.setdefault(path, _Tracked())
        # A look-up that was given up still hangs: do not hang behind it.
        if not tracked.lock.acquire(blocking=False):
            raise NoMatchError("an earlier look at this path has not come back")
        try:
            return self._find(path, tracked)
        finally:
            tracked.lock.release()

    def mounts(self) -> list[Mount]:
        """What is mounted where paths in rules are looked up."""
        return read_mounts((self._init / "mountinfo").read_text(errors="surrogateescape"))

    def opened(self, path: str) -> list[int]:
        """Descriptors (O_PATH) of the files found behind `path`; the caller closes them."""
        tracked = self._tracked.get(path)
        if tracked is None or not tracked.lock.acquire(blocking=False):
            return []
        try:
            return tracked.copies()
        finally:
            tracked.lock.release()

    def forget(self, keep: Collection[str]) -> None:
        """Let go of all paths but these."""
        for path in self._tracked.keys() - set(keep):
            tracked = self._tracked[path]
            if tracked.lock.acquire(blocking=False):
                del self._tracked[path]
                tracked.close()

    def close(self) -> None:
        """Let go of all."""
        self.forget(())

    def _find(self, path: str, tracked: _Tracked) -> frozenset[ExeId]:
        try:
            mounts = self.mounts()
        except OSError as error:
            raise NoMatchError(f"the mounts of PID 1 cannot be read: {error.strerror}") from error
        why = None
        try:
            tracked.current(_open(self._init / "root", path, mounts), mounts)
        except NoMatchError as error:
            tracked.gone()
            why = str(error)
        tracked.drop_finished(self._processes)
        found = tracked.ids()
        if not found:
            raise NoMatchError(why or "there is no such file")
        return found


class _Tracked:
    """Files of one path, newest last."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._files: list[_File] = []
        self._present = False

    def current(self, fd: int, mounts: list[Mount]) -> None:
        """`fd` is what the path is now."""
        file = _File(fd, _device(fd, mounts))
        for known in self._files:
            if known.same(file):
                file.close()
                self._files.remove(known)
                file = known
                break
        self._files.append(file)
        self._present = True
        while len(self._files) > MAX_REPLACED + 1:
            self._files.pop(0).close()

    def gone(self) -> None:
        """Nothing is at the path now."""
        self._present = False

    def drop_finished(self, processes: Path) -> None:
        """Forget replaced files that no process runs."""
        replaced = self._files[:-1] if self._present else self._files
        if not replaced:
            return
        running = set(_running(processes))
        for file in list(replaced):
            if file.stat_key() not in running:
                self._files.remove(file)
                file.close()

    def ids(self) -> frozenset[ExeId]:
        """As the kernel will say it of processes that run them."""
        return frozenset(file.id() for file in self._files)

    def copies(self) -> list[int]:
        """Descriptors of all, of their own."""
        return [file.copy() for file in self._files]

    def close(self) -> None:
        """Let go of all."""
        for file in self._files:
            file.close()
        self._files.clear()


class _File:
    """One file, held by name."""

    def __init__(self, fd: int, device: int) -> None:
        self._fd = fd
        self._device = device

    def id(self) -> ExeId:
        info = os.fstat(self._fd)
        return ExeId(self._device, info.st_ino, *divmod(info.st_ctime_ns, 1_000_000_000))

    def stat_key(self) -> tuple[int, int]:
        info = os.fstat(self._fd)
        return info.st_dev, info.st_ino

    def copy(self) -> int:
        return os.dup(self._fd)

    def same(self, other: _File) -> bool:
        return (self._device, self.stat_key()) == (other._device, other.stat_key())

    def close(self) -> None:
        os.close(self._fd)


def _open(root: Path, path: str, mounts: list[Mount]) -> int:
    """A descriptor of the plain file that `path` names below `root`, by O_PATH."""
    parts = path.split("/")
    if parts[0] or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
        raise NoMatchError("not the full path of a file: it must start with / and have no . or ..")
    if "\0" in path:
        raise NoMatchError("has a NUL, as no path does")
    # Looked at before anything is touched: a name on a dead server would hang.
    if (mount := mount_over(path, mounts)) and mount.foreign:
        raise NoMatchError(f"is on {mount.kind}: rules on executables hold on local file systems")
    flags = os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(root, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
        for i, part in enumerate(parts[1:], 2):
            above = fd
            try:
                fd = os.open(part, flags, dir_fd=above)
            finally:
                os.close(above)
            mode = os.fstat(fd).st_mode
            last = i == len(parts)
            if stat.S_ISLNK(mode) or (last and not stat.S_ISREG(mode)):
                os.close(fd)
                kind = "a link: name the file itself" if stat.S_ISLNK(mode) else "not a plain file"
                raise NoMatchError(f"{'/'.join(parts[:i])} is {kind}")
    except (OSError, UnicodeEncodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a file's name"
        raise NoMatchError(f"cannot be looked up: {reason}") from error
    return fd


def local_folders(paths: Collection[str], init: Path | None = None) -> dict[str, Path]:
    """For each path that may name an executable here its folder, to be watched for changes.

    Only words are compared: a folder on a server that does not answer is not touched, and is left
    out, as `find` leaves it out.
    """
    init = init or judge_of_paths()
    try:
        mounts = read_mounts((init / "mountinfo").read_text(errors="surrogateescape"))
    except OSError:
        return {}
    folders = {}
    for path in paths:
        mount = mount_over(path, mounts)
        if path.startswith("/") and "\0" not in path and not (mount and mount.foreign):
            folders[path] = init / "root" / path.rpartition("/")[0].lstrip("/")
    return folders


def mount_over(path: str, mounts: list[Mount]) -> Mount | None:
    """The mount that a path lies on, by its words; a later mount covers an earlier one."""
    best = None
    for mount in mounts:
        below = mount.point.rstrip("/") + "/"
        if path.startswith(below) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _device(fd: int, mounts: list[Mount]) -> int:
    """The device of a descriptor's mount. Closes `fd` when there is none."""
    mount = _mount_of(fd, mounts)
    if mount is not None and not mount.foreign:
        return mount.device
    os.close(fd)
    raise NoMatchError("is on a mount that PID 1 does not have, or not on a local file system")


def _mount_of(fd: int, mounts: Iterable[Mount]) -> Mount | None:
    number = -1
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == "mnt_id":
            number = int(value)
    return next((mount for mount in mounts if mount.number == number), None)


def identify(fd: int, mounts: Iterable[Mount]) -> tuple[ExeId, str] | None:
    """What the kernel says of who runs this file, and the kind of its file system; None when it is
    on none of these mounts."""
    mount = _mount_of(fd, mounts)
    return None if mount is None else (_File(fd, mount.device).id(), mount.kind)


def _running(processes: Path) -> Iterator[tuple[int, int]]:
    """Device and inode, as stat(2) has them, of every process's executable."""
    for process in processes.iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):  # a kernel thread, or gone by now
                info = (process / "exe").stat()
                yield info.st_dev, info.st_ino
