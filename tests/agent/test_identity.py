import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpa.agent.identity import NS_PER_TICK, PROCESSES_KEPT, Names, User


def start_of(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    return int(stat[stat.rindex(b")") + 2 :].split()[19]) * NS_PER_TICK + 5


def test_a_process_is_described_while_it_is_the_same() -> None:
    names = Names()
    pid, start = os.getpid(), start_of(os.getpid())
    program = names.program(pid, start)
    assert program is not None
    assert program.path == str(Path(sys.executable).resolve())
    assert "pytest" in program.command_line
    assert names.seen(pid, start)
    assert names.program(pid, start + NS_PER_TICK) is None, "another process had this pid"
    ctime = divmod(Path(sys.executable).stat().st_ctime_ns, 1_000_000_000)
    assert Names().program(pid, start, (0, 0, *ctime)) == program
    assert Names().program(pid, start, (0, 0, ctime[0], 1)) is None, "another program by now"


def test_a_process_that_has_gone_is_described_only_by_what_was_seen() -> None:
    names = Names()
    child = subprocess.Popen([str(shutil.which("sleep")), "60"])
    try:
        start = start_of(child.pid)
        for _ in range(100):  # between fork and exec it is still us
            program = Names().program(child.pid, start)
            if program is not None and "sleep" in program.command_line:
                break
            time.sleep(0.01)
        before = names.program(child.pid, start)
        assert before is not None
        assert before.command_line.endswith("sleep 60")
    finally:
        child.kill()
        child.wait()
    assert names.program(child.pid, start) == before
    assert Names().program(child.pid, start) is None


def test_users() -> None:
    names = Names()
    root = names.user(0)
    assert root is not None
    assert root.name == "root"
    assert root.groups is not None
    assert "root" in root.groups
    assert names.user(4_000_000_123) is None


def test_groups_that_cannot_be_told_are_not_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[int]:
        raise OSError

    monkeypatch.setattr(os, "getgrouplist", broken)
    assert Names().user(0) == User("root", None)


def test_caches_are_bounded(tmp_path: Path) -> None:
    names = Names(tmp_path)
    for pid in range(PROCESSES_KEPT + 5):
        assert names.program(pid, 1) is None
    assert not names.seen(0, 1)
    assert names.seen(PROCESSES_KEPT + 4, 1)


def test_a_name_with_parentheses_does_not_shift_the_fields(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    fields = " ".join(str(n) for n in range(3, 53))
    (folder / "stat").write_text(f"7 (a) 1 (b)) S {fields.partition(' ')[2]}")
    (folder / "exe").symlink_to("/bin/x")
    (folder / "cmdline").write_bytes(b"x\0--password\0secret\0")
    program = Names(tmp_path).program(7, 22 * NS_PER_TICK)
    assert program is not None
    assert program.path == "/bin/x"
    assert program.command_line == "x --password …"
    (folder / "stat").write_text("7 (a")
    assert Names(tmp_path).program(7, 22 * NS_PER_TICK) is None
