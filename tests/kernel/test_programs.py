"""Which program the kernel names, and whether a rule on a path holds for it: docs/rules.md, "What
exePath means where"."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.kernel.conftest import HERE, PYTHON, build

from gpa.demo.machine import PATH, tool
from gpa.errors import CannotCreateError
from gpa.rules.executables import Executables
from gpa.rules.resolve import NoMatchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.conftest import Interceptor

pytestmark = pytest.mark.kernel

CONNECT = ["plain", "169.254.169.254", "80"]
BTRFS_BYTES = 1 << 27
"""Of the smallest file system that mkfs.btrfs makes, and some."""


class Programs:
    """A static program to run as whatever it is made to be."""

    def __init__(self, interceptor: Interceptor, folder: Path) -> None:
        self.interceptor = interceptor
        self.folder = folder
        self.source = build(interceptor.lab, HERE / "ways.c")

    def copy(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.source, path)
        path.chmod(0o755)
        return path

    def who(self, *words: str | Path, uid: int = 1234) -> dict[str, Any]:
        """Whom the kernel names when these words, and those that say where to, are run."""
        argv = [*map(str, words), *CONNECT]
        done = self.interceptor.lab.run_as(uid, uid, argv)
        assert done.returncode == 0, done.stderr
        return self.interceptor.accepted(json.loads(done.stdout)["pid"])


@pytest.fixture
def programs(interceptor: Interceptor) -> Iterator[Programs]:
    folder = interceptor.lab.make_folder("programs", 0o755)
    yield Programs(interceptor, folder)
    shutil.rmtree(folder)


def holds(path: Path, who: dict[str, Any]) -> bool:
    """A rule on that path lets this caller in."""
    files = Executables()
    try:
        return tuple(who["exe"]) in files.find(str(path))
    except NoMatchError:
        return False
    finally:
        files.close()


@pytest.fixture
def mount(programs: Programs) -> Iterator[Path]:
    """Where to mount something, as PID 1 sees it."""
    point = programs.folder / "mount"
    point.mkdir()
    yield point
    with contextlib.suppress(CannotCreateError):  # a test that was skipped has mounted nothing
        tool(["umount", "--lazy", str(point)])


def test_the_file_counts_and_not_its_content(programs: Programs) -> None:
    mine, copy = (programs.copy(programs.folder / name) for name in ("tool", "copy"))
    who = programs.who(mine)
    assert holds(mine, who)
    assert not holds(copy, who)


def test_hard_links_are_one_program(programs: Programs) -> None:
    mine, other = programs.copy(programs.folder / "tool"), programs.folder / "other"
    other.hardlink_to(mine)
    who = programs.who(other)
    assert holds(mine, who)
    assert holds(other, who)
    assert who["exe_name"] == "other"


def test_bind_mounts_for_all_are_one_program(programs: Programs, mount: Path) -> None:
    mine = programs.copy(programs.folder / "below" / "tool")
    tool(["mount", "--bind", str(mine.parent), str(mount)])
    for path in (mine, mount / "tool"):
        who = programs.who(path)
        assert holds(mine, who)
        assert holds(mount / "tool", who)


def test_a_file_system_in_memory_is_as_good_as_any(programs: Programs, mount: Path) -> None:
    tool(["mount", "-t", "tmpfs", "programs", str(mount)])
    mine = programs.copy(mount / "tool")
    assert holds(mine, programs.who(mine))


def test_overlay_whose_devices_stat_tells_otherwise(programs: Programs, mount: Path) -> None:
    lower = programs.copy(programs.folder / "lower" / "tool")
    tool(["mount", "-t", "tmpfs", "upper", str(mount)])
    merged = mount / "merged"
    for name in ("upper", "work", "merged"):
        (mount / name).mkdir()
    options = f"lowerdir={lower.parent},upperdir={mount}/upper,workdir={mount}/work"
    tool(["mount", "-t", "overlay", "-o", options, "overlay", str(merged)])
    try:
        who = programs.who(merged / "tool")
        device = (merged / "tool").stat().st_dev
        assert who["exe"][0] != os.major(device) << 20 | os.minor(device)
        assert holds(merged / "tool", who)
        # What lies below is another file.
        assert not holds(lower, who)
        assert not holds(merged / "tool", programs.who(lower))
    finally:
        tool(["umount", "--lazy", str(merged)])


def test_btrfs_whose_devices_stat_tells_otherwise(programs: Programs, mount: Path) -> None:
    maker = shutil.which("mkfs.btrfs", path=PATH)
    if maker is None or "btrfs" not in Path("/proc/filesystems").read_text():
        pytest.skip("btrfs is not installed")
    image = programs.folder / "image"
    with image.open("wb") as file:
        file.truncate(BTRFS_BYTES)
    tool([maker, "--quiet", str(image)])
    tool(["mount", "-o", "loop", str(image), str(mount)])
    mine = programs.copy(mount / "tool")
    who = programs.who(mine)
    device = mine.stat().st_dev
    assert who["exe"][0] != os.major(device) << 20 | os.minor(device)
    assert holds(mine, who)


@pytest.mark.parametrize("what", ["removed", "replaced"])
def test_a_running_file_is_named_when_its_path_is_gone(programs: Programs, what: str) -> None:
    """The name is another's or nobody's; the record is still the file's, with the change time that
    losing the name gave it. Who knew the file before knows it on: tests/rules."""
    mine, new = programs.copy(programs.folder / "tool"), programs.copy(programs.folder / "new")
    fd = os.open(mine, os.O_PATH)
    command = f'exec 3<"{mine}"; ' + ("rm" if what == "removed" else f'mv "{new}"') + f' "{mine}"'
    # By a descriptor, as its path leads elsewhere by now.
    who = programs.who("sh", "-c", f'{command}; exec /proc/self/fd/3 "$@"', "sh", uid=0)
    info = os.fstat(fd)
    os.close(fd)
    assert who["exe"][1:] == [info.st_ino, *divmod(info.st_ctime_ns, 10**9)]
    assert not holds(mine, who)


def test_a_script_is_its_interpreter(programs: Programs) -> None:
    interpreter = programs.folder / "interpreter"
    shutil.copyfile(PYTHON, interpreter)
    script = programs.folder / "script"
    connect = (
        f"import os; os.execv({str(programs.source)!r}, ['ways', *__import__('sys').argv[1:]])"
    )
    ask = (HERE / "caller.py").read_text()
    script.write_text(f"#!{interpreter} -IS\n{ask}")
    for file in (interpreter, script):
        file.chmod(0o755)
    who = programs.who(script)
    assert holds(interpreter, who)
    assert not holds(script, who)
    assert who["exe_name"] == "interpreter"
    # What it executes is what it becomes.
    script.write_text(f"#!{interpreter} -IS\n{connect}")
    assert holds(programs.source, programs.who(script))


def test_the_path_that_is_seen_in_a_chroot_is_not_ours(programs: Programs) -> None:
    outside = programs.copy(programs.folder / "bin" / "tool")
    inside = programs.copy(programs.folder / "root" / outside.relative_to("/"))
    who = programs.who("chroot", programs.folder / "root", outside, uid=0)
    assert not holds(outside, who)
    assert holds(inside, who)


def test_a_container_has_files_of_its_own(programs: Programs) -> None:
    """A mount that PID 1 does not have: no rule can name what is on it. What it has in common with
    PID 1 is the same file, under PID 1's name."""
    mine = programs.copy(programs.folder / "tool")
    put = f'mount -t tmpfs own /mnt && cp "{mine}" /mnt/tool && exec /mnt/tool "$@"'
    who = programs.who("unshare", "--mount", "sh", "-c", put, "sh", uid=0)
    assert who["exe_name"] == "tool"
    assert not holds(mine, who)
    assert who["exe"] is not None
    put = f'mount --bind "{mine.parent}" /mnt && exec /mnt/tool "$@"'
    assert holds(mine, programs.who("unshare", "--mount", "sh", "-c", put, "sh", uid=0))


def test_what_was_never_a_file_has_no_path(programs: Programs) -> None:
    mine = programs.copy(programs.folder / "tool")
    execute = """
import os, sys
with open(sys.argv[2], "rb") as program:
    fd = program.fileno()
    if sys.argv[1] == "memory":
        fd = os.memfd_create("tool")
        os.write(fd, program.read())
    os.execve(fd, ["tool", *sys.argv[3:]], {})
"""
    who = programs.who(PYTHON, "-ISc", execute, "memory", mine)
    assert who["exe_name"].startswith("memfd:")
    assert not holds(mine, who)
    assert holds(mine, programs.who(PYTHON, "-ISc", execute, "file", mine))
