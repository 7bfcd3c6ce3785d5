import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpa.rules.compile import ExeId
from gpa.rules.executables import MAX_REPLACED, Executables, Mount, local_folders, read_mounts
from gpa.rules.resolve import NoMatchError

SELF = Path("/proc/self")


@pytest.fixture
def files() -> Iterator[Executables]:
    """Looks with the eyes of this process, whatever PID 1 may see."""
    before = open_descriptors()
    executables = Executables(SELF)
    yield executables
    executables.close()
    assert open_descriptors() == before, "a descriptor is left open"


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def program(path: Path) -> Path:
    shutil.copy("/bin/sleep", path)
    return path


def expected(path: Path) -> tuple[int, int, int]:
    info = path.stat()
    return info.st_ino, *divmod(info.st_ctime_ns, 1_000_000_000)


def test_a_file_is_known_by_inode_and_change_time(files: Executables, tmp_path: Path) -> None:
    path = program(tmp_path.resolve() / "tool")
    (found,) = files.find(str(path))
    assert found[1:] == expected(path)
    path.chmod(0o700)
    (changed,) = files.find(str(path))
    assert changed[1:] == expected(path)


def test_the_device_is_the_one_of_the_mount(files: Executables, tmp_path: Path) -> None:
    path = program(tmp_path.resolve() / "tool")
    (found,) = files.find(str(path))
    mounts = read_mounts((SELF / "mountinfo").read_text())
    assert found.dev in {mount.device for mount in mounts}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("bin/sleep", "full path"),
        ("", "full path"),
        ("/", "full path"),
        ("//bin/sleep", "full path"),
        ("/bin/../bin/sleep", "full path"),
        ("/bin/./sleep", "full path"),
        ("/bin/sleep/", "full path"),
        ("/bin/sl\0eep", "NUL"),
        ("/no/such/file", "No such file"),
        ("/etc/passwd/x", "cannot be looked up"),
        ("/dev", "not a plain file"),
        ("/dev/null", "not a plain file"),
        ("/" + "x" * 300, "too long"),
    ],
)
def test_what_is_no_full_path_of_a_file_matches_nobody(
    files: Executables, path: str, words: str
) -> None:
    with pytest.raises(NoMatchError, match=words):
        files.find(path)


def test_a_link_is_not_followed_anywhere_in_the_path(files: Executables, tmp_path: Path) -> None:
    folder = tmp_path.resolve() / "folder"
    folder.mkdir()
    program(folder / "tool")
    (folder / "link").symlink_to("tool")
    (folder.parent / "other").symlink_to(folder)
    with pytest.raises(NoMatchError, match="link is a link: name the file itself"):
        files.find(str(folder / "link"))
    with pytest.raises(NoMatchError, match="other is a link: name the file itself"):
        files.find(str(folder.parent / "other" / "tool"))


def test_a_fifo_is_not_waited_for(files: Executables, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NoMatchError, match="not a plain file"):
        files.find(str(tmp_path.resolve() / "fifo"))


def test_a_replaced_file_matches_while_its_process_lives(
    files: Executables, tmp_path: Path
) -> None:
    path = program(tmp_path.resolve() / "tool")
    (old,) = files.find(str(path))
    with subprocess.Popen([path, "100"]) as process:
        program(tmp_path / "new").replace(path)
        found = files.find(str(path))
        running = Path(f"/proc/{process.pid}/exe").stat()
        assert {exe.ino for exe in found} == {old.ino, path.stat().st_ino}
        # The kernel now says a later change time of the old one, and so do we.
        seconds, nanoseconds = divmod(running.st_ctime_ns, 1_000_000_000)
        assert ExeId(old.dev, old.ino, seconds, nanoseconds) in found
        process.kill()
    (now,) = files.find(str(path))
    assert now[1:] == expected(path)


def test_a_removed_file_matches_while_its_process_lives(files: Executables, tmp_path: Path) -> None:
    path = program(tmp_path.resolve() / "tool")
    (old,) = files.find(str(path))
    with subprocess.Popen([path, "100"]) as process:
        path.unlink()
        assert {exe.ino for exe in files.find(str(path))} == {old.ino}
        process.kill()
    with pytest.raises(NoMatchError, match="No such file"):
        files.find(str(path))


def test_a_file_that_comes_back_is_known_again(files: Executables, tmp_path: Path) -> None:
    path = program(tmp_path.resolve() / "tool")
    (old,) = files.find(str(path))
    path.rename(tmp_path / "aside")
    with pytest.raises(NoMatchError):
        files.find(str(path))
    (tmp_path / "aside").rename(path)
    (again,) = files.find(str(path))
    assert again.ino == old.ino


def test_not_every_upgrade_is_remembered(tmp_path: Path) -> None:
    processes = tmp_path / "proc"
    processes.mkdir()
    files = Executables(SELF, processes)
    path = program(tmp_path.resolve() / "tool")
    for n in range(MAX_REPLACED + 5):
        files.find(str(path))
        # Every one of them still runs.
        (processes / str(n)).mkdir()
        os.link(path, processes / str(n) / "exe")
        program(tmp_path / "new").replace(path)
    assert len(files.find(str(path))) == MAX_REPLACED + 1
    files.close()


def test_forgetting_lets_go(files: Executables, tmp_path: Path) -> None:
    path = program(tmp_path.resolve() / "tool")
    before = open_descriptors()
    files.find(str(path))
    files.find(sys.executable if not Path(sys.executable).is_symlink() else str(path))
    assert open_descriptors() > before
    files.forget({str(path)})
    files.forget(())
    assert open_descriptors() == before


def test_a_mount_of_somebody_elses_files_is_not_touched(tmp_path: Path) -> None:
    init = tmp_path / "init"
    init.mkdir()
    (init / "mountinfo").write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:50 / /srv/a\\040b rw shared:1 - nfs4 x:/ rw\n"
    )
    # There is no root below: to touch anything would fail otherwise.
    files = Executables(init)
    with pytest.raises(NoMatchError, match="is on nfs4"):
        files.find("/srv/a b/tool")
    with pytest.raises(NoMatchError, match="cannot be looked up"):
        files.find("/srv/a bc/tool")
    paths = ("/srv/a b/tool", "/srv/a bc/tool", "/tool", "tool", "/a\0b", "")
    root = init / "root"
    watched = {"/srv/a bc/tool": root / "srv/a bc", "/tool": root}
    assert local_folders(paths, init) == watched
    assert local_folders(paths, tmp_path) == {}


def test_without_the_mounts_of_pid_1_nothing_matches(tmp_path: Path) -> None:
    with pytest.raises(NoMatchError, match="mounts of PID 1"):
        Executables(tmp_path).find("/bin/sleep")


def test_mountinfo_is_read() -> None:
    text = "36 35 98:5 /mnt1 /mnt\\0402 rw,noatime master:1 - fuse.sshfs /dev/root rw,errors=x\n"
    (mount,) = read_mounts(text)
    assert mount == Mount(36, 98 << 20 | 5, "/mnt 2", "fuse.sshfs")
    assert mount.foreign
