"""What is published anew because a file has changed, and how soon.

The kernel queues an event before the call that caused it returns, so a clock that jumps when
nothing is left to do shows exactly what follows from it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from gpa.agent import watch
from gpa.agent.log import Log
from gpa.agent.watch import LOOK_AGAIN, MAX_FOLDERS, NOTHING, SETTLE, SETTLE_MOST, Watch, Watched

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOON = 0.1
"""Seconds within which a change is to count."""


class Lines(Log):
    def __init__(self) -> None:
        super().__init__(None)
        self.lines: list[str] = []

    def warn(self, text: str) -> None:
        self.lines.append(text)


class Bench:
    """A watch, and the times at which it published."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.log = Lines()
        self.times: list[float] = []
        self.watched = NOTHING
        self.watch = Watch(self.publish, self.log)
        nursery.start_soon(self.watch.run)

    async def publish(self) -> None:
        await trio.lowlevel.checkpoint()
        self.times.append(trio.current_time())
        self.watch.follow(self.watched)

    async def follow(self, *files: Path, programs: tuple[Path, ...] = ()) -> None:
        self.watched = Watched(frozenset(files), frozenset(map(str, programs)))
        self.watch.follow(self.watched)
        await self.quiet()

    async def quiet(self) -> None:
        """All that follows from what was done so far has been done."""
        await trio.sleep(10 * SETTLE_MOST)
        self.times.clear()

    async def delay(self, change: Callable[[], object]) -> float | None:
        """Seconds from a change until it was published, if it was."""
        before = trio.current_time()
        change()
        await trio.sleep(10 * SETTLE_MOST)
        first = self.times[0] - before if self.times else None
        self.times.clear()
        return first


@pytest.fixture
async def bench(nursery: trio.Nursery) -> Bench:
    return Bench(nursery)


def replace(path: Path, text: str = "new") -> None:
    """As useradd, dpkg and editors do it."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(text)
    draft.rename(path)


async def test_each_change_counts_soon(
    bench: Bench, autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    file = tmp_path / "passwd"
    await bench.follow(file)
    changes: list[Callable[[], object]] = [
        lambda: file.write_text("made"),
        lambda: file.write_text("written in place"),
        lambda: replace(file),
        lambda: file.chmod(0o666),
        lambda: file.rename(tmp_path / "gone"),
        lambda: (tmp_path / "gone").rename(file),
        file.unlink,
        lambda: tmp_path.chmod(0o777),
    ]
    for number, change in enumerate(changes):
        delay = await bench.delay(change)
        assert delay is not None, number
        assert delay <= SOON, number


async def test_other_files_of_the_folder_wake_nobody(
    bench: Bench, autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    await bench.follow(tmp_path / "passwd")
    assert await bench.delay(lambda: replace(tmp_path / "shadow")) is None
    (tmp_path / "passwd").write_text("x")
    await bench.quiet()
    assert await bench.delay((tmp_path / "passwd").read_text) is None, "who reads changes nothing"


async def test_what_is_new_is_looked_at_once_more(
    bench: Bench, autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    """It may have changed after it was looked at, and before it was watched."""
    bench.watched = Watched(frozenset({tmp_path / "passwd"}))
    assert await bench.delay(lambda: bench.watch.follow(bench.watched)) is not None
    assert await bench.delay(lambda: bench.watch.follow(bench.watched)) is None


async def test_a_program_is_watched_where_pid_1_sees_it(
    bench: Bench, autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    await bench.follow(programs=(tmp_path / "bin" / "tool",))
    (tmp_path / "bin").mkdir()
    await bench.quiet()
    delay = await bench.delay(lambda: (tmp_path / "bin" / "tool").write_text("#!"))
    assert delay is not None
    assert delay <= SOON


async def test_a_folder_that_comes_goes_and_is_replaced(
    bench: Bench, autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    folder = tmp_path / "opt" / "vendor"
    await bench.follow(folder / "tool")
    assert await bench.delay(lambda: folder.mkdir(parents=True)) is not None
    assert await bench.delay(lambda: (folder / "tool").write_text("1")) is not None
    draft = tmp_path / "opt" / "draft"

    def swap() -> None:
        draft.mkdir()
        (draft / "tool").write_text("2")
        folder.rename(tmp_path / "opt" / "old")
        draft.rename(folder)

    assert await bench.delay(swap) is not None
    assert await bench.delay(lambda: replace(folder / "tool")) is not None, "of the new folder"
    assert await bench.delay(lambda: replace(tmp_path / "opt" / "old" / "tool")) is None


async def test_a_burst_is_one_publication(
    bench: Bench, autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    files = [tmp_path / f"tool{n}" for n in range(500)]
    await bench.follow(*files)
    before = trio.current_time()
    for file in files:
        replace(file)
    await trio.sleep(SOON)
    assert [time - before for time in bench.times] == [pytest.approx(SETTLE)]


async def test_who_changes_files_all_the_time_is_looked_at_less_and_less(
    bench: Bench, autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    await bench.follow(tmp_path / "tool")
    for _ in range(250):
        replace(tmp_path / "tool")
        await trio.sleep(0.08)
    assert len(bench.times) <= 20 / SETTLE_MOST + 8
    assert bench.times[-1] >= trio.current_time() - SETTLE_MOST
    await bench.quiet()
    delay = await bench.delay(lambda: replace(tmp_path / "tool"))
    assert delay is not None
    assert delay <= SOON, "and at once when it is over"


async def test_more_events_than_the_kernel_keeps_are_a_change(
    bench: Bench, autojump_clock: trio.abc.Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.follow(tmp_path / "tool")
    real = os.read
    lost = watch._EVENT.pack(-1, 0x4000, 0, 0)
    monkeypatch.setattr(os, "read", lambda fd, size: (real(fd, size), lost)[1])
    assert await bench.delay(lambda: (tmp_path / "other").write_text("")) is not None


async def test_no_more_folders_than_a_number_and_that_is_said(
    bench: Bench, autojump_clock: trio.abc.Clock, tmp_path: Path
) -> None:
    folders = [tmp_path / f"{n:04}" for n in range(MAX_FOLDERS + 1)]
    for folder in folders:
        folder.mkdir()
    await bench.follow(*(folder / "tool" for folder in folders))
    await bench.follow(*(folder / "tool" for folder in folders), tmp_path / "tool")
    assert len(bench.log.lines) == 1
    assert f"more than {MAX_FOLDERS} folders" in bench.log.lines[0]
    assert await bench.delay(lambda: (folders[-1] / "tool").write_text("")) is None
    await bench.follow(folders[-1] / "tool")
    assert await bench.delay(lambda: (folders[-1] / "tool").unlink()) is not None
    assert await bench.delay(lambda: (folders[0] / "tool").write_text("")) is None


async def test_without_inotify_the_poll_is_left_and_that_is_said_once(
    nursery: trio.Nursery,
    tmp_path: Path,
    autojump_clock: trio.abc.Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch._Inotify, "open", lambda: None)
    bench = Bench(nursery)
    await bench.follow()
    assert bench.log.lines == []
    await bench.follow(tmp_path / "tool")
    await bench.follow(tmp_path / "tool")
    assert bench.log.lines == [
        "changes of some files count only at the next poll: inotify cannot be had"
    ]


async def test_refusals_of_unknown_programs_have_it_looked_at_now_and_then(
    bench: Bench,
    autojump_clock: trio.abc.Clock,
) -> None:
    class Refused:
        unknown = True

    refused = Refused()
    for _ in range(10):
        refused.unknown = True
        await bench.watch.after_refusals(refused)  # type: ignore[arg-type]
        await trio.sleep(LOOK_AGAIN / 4)
    assert len(bench.times) == 3
    bench.times.clear()
    refused.unknown = False
    await trio.sleep(LOOK_AGAIN)
    await bench.watch.after_refusals(refused)  # type: ignore[arg-type]
    assert bench.times == []
