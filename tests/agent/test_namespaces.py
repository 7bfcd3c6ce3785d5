"""Which network namespaces get a listener and when it is closed, with fakes for the kernel and a
clock that jumps; and how namespaces are found, in a procfs made for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from gpa.agent.log import Log
from gpa.agent.namespaces import CHECK, Namespaces
from gpa.agent.netns import (
    PASSED,
    REFUSED,
    REPORT,
    SEEN,
    WAITS,
    WATCH,
    WATCH_CONNECTS,
    WATCH_NOTHING,
    WATCH_SOCKETS,
    Report,
)
from gpa.agent.nsledger import LINE_EVERY, SAME_LINE_EVERY, Ledger, Pace, Served
from gpa.agent.nsscan import Home, MountWatch, Scope, inum_of, pids_are_the_kernels, scan, tables
from gpa.endpoints import Endpoint, Mode
from gpa.errors import PortTakenError

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    async def in_place(work: Callable[..., Any], *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", in_place)
    return trio.testing.MockClock(autojump_threshold=0)


class Stage:
    """A `Namespaces` that runs on fakes."""

    def __init__(self, relay: Any, nursery: trio.Nursery) -> None:
        self.relay, self.door, self.nursery = relay, relay.door, nursery

    async def start(self, choice: str = "all", **options: Any) -> Namespaces:
        made = Namespaces(choice, self.relay, Log(None), **options)
        self.nursery.start_soon(made.run, self.door)
        await trio.sleep(1)
        return made

    def process(self, inum: int, uid: int = 0) -> None:
        """A namespace appears, by a process whose pid is its number."""
        self.door.homes[inum] = Home(f"/proc/{inum}/ns/net", uid, wanted=True)

    async def report(self, inum: int, kind: int = SEEN, uid: int = 0, cookie: int = 0) -> None:
        self.door.report(Report(cookie or 10 * inum, kind, inum, inum, uid, "curl"))
        await trio.sleep(0.1)


@pytest.fixture
def stage(relay: Any, nursery: trio.Nursery, clock: trio.abc.Clock) -> Stage:
    return Stage(relay, nursery)


def all_modes(mode: Mode) -> dict[Endpoint, Mode]:
    return dict.fromkeys(Endpoint, mode)


async def test_what_is_there_at_the_start_is_served_and_what_was_left_is_dropped(
    stage: Stage,
    clock: trio.abc.Clock,
) -> None:
    stage.door.ports = {770: 3080}
    stage.process(2)
    made = await stage.start()
    assert stage.relay.log == ["forget 770", "open 20", "listen", "lead 20"]
    assert stage.door.watched[-1] == WATCH_SOCKETS
    assert set(made.listeners) == {20}
    made.close()
    assert stage.relay.log[-1] == "unlisten 1"
    assert not made.listeners


async def test_a_report_opens_a_listener_once(stage: Stage, clock: trio.abc.Clock) -> None:
    made = await stage.start()
    stage.process(2)
    for kind in (SEEN, WAITS, SEEN):
        await stage.report(2, kind)
    assert stage.relay.log == ["open 20", "listen", "lead 20"]
    made.close()


async def test_one_without_a_process_is_closed_within_a_minute(
    stage: Stage, clock: trio.abc.Clock
) -> None:
    stage.process(2)
    stage.process(3)
    made = await stage.start()
    del stage.door.homes[2]
    await trio.sleep(CHECK + 1)
    assert stage.relay.log[-2:] == ["forget 20", "unlisten 1"]
    assert set(made.listeners) == {30}
    made.close()


async def test_a_mount_that_goes_is_looked_at_at_once(stage: Stage, clock: trio.abc.Clock) -> None:
    stage.door.homes[2] = Home("/run/netns/blue", 0, wanted=True)
    made = await stage.start()
    assert set(made.listeners) == {20}
    stage.door.homes.clear()
    stage.door.mount()
    await trio.sleep(0.5)
    assert not made.listeners
    stage.door.homes[4] = Home("/run/netns/green", 0, wanted=True)
    stage.door.mount()
    await trio.sleep(0.5)
    assert set(made.listeners) == {40}
    made.close()


async def test_nobody_looks_while_there_is_nothing_to_look_after(
    stage: Stage, clock: trio.abc.Clock
) -> None:
    await stage.start()
    await trio.sleep(3600)
    assert stage.door.scans == 1


async def test_what_comes_while_we_look_is_not_taken_for_gone(
    stage: Stage, clock: trio.abc.Clock
) -> None:
    made = await stage.start()
    stage.process(2)
    scan = stage.door.scan

    def slow() -> Any:
        homes = dict(scan())
        homes.pop(2)
        if not made.listeners:
            stage.process(2)
            made._on_report(stage.door, Report(20, SEEN, 2, 2, 0, "x"))
        return homes

    stage.door.scan = slow
    stage.door.mount()
    await trio.sleep(0.1)
    assert set(made.listeners) == {20}
    made.close()


async def test_no_more_than_the_bound(
    stage: Stage, clock: trio.abc.Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    made = await stage.start(most=2)
    for inum in (2, 3, 4):
        stage.process(inum)
        await stage.report(inum)
    await stage.report(4, REFUSED)
    assert set(made.listeners) == {20, 30}
    said = capsys.readouterr().err
    assert "pid 4 (curl, uid 0) in network namespace 40 was refused: the agent serves 2" in said
    del stage.door.homes[2]
    await trio.sleep(CHECK + 1)
    assert set(made.listeners) == {30, 40}, "room is used as soon as it is there"
    made.close()


async def test_one_user_has_a_quarter(stage: Stage, clock: trio.abc.Clock) -> None:
    made = await stage.start(most=8)
    for inum in (2, 3, 4):
        stage.process(inum, uid=7)
        await stage.report(inum, uid=7)
    stage.process(5, uid=8)
    await stage.report(5, uid=8)
    assert set(made.listeners) == {20, 30, 50}
    made.close()


async def test_a_taken_port_is_tried_again_and_said_once(
    stage: Stage, clock: trio.abc.Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.process(2)
    stage.door.troubles["/proc/2/ns/net"] = PortTakenError("taken by pid 9 (nc)")
    made = await stage.start()
    for _ in range(20):
        await stage.report(2, REFUSED)
    await trio.sleep(300)
    said = capsys.readouterr().err
    assert said.count("net:[2] is not served: taken by pid 9 (nc)") == 1
    assert said.count("in network namespace 20 was refused: taken by pid 9 (nc)") == 1
    scans = stage.door.scans
    await trio.sleep(300)
    assert 9 <= stage.door.scans - scans <= 11, "backed off to once in 30 s"
    stage.door.troubles.clear()
    await trio.sleep(40)
    assert set(made.listeners) == {20}
    made.close()


async def test_what_nobody_wants_any_more_is_not_tried_again(
    stage: Stage, clock: trio.abc.Clock
) -> None:
    stage.process(2)
    stage.door.troubles["/proc/2/ns/net"] = PortTakenError("taken")
    made = await stage.start()
    stage.door.homes[2] = Home("/proc/2/ns/net", 0, wanted=False)
    await trio.sleep(60)
    scans = stage.door.scans
    await trio.sleep(600)
    assert stage.door.scans == scans
    stage.process(2)
    await stage.report(2)
    made.set_modes(all_modes(Mode.DISABLED))
    await trio.sleep(60)
    scans = stage.door.scans
    await trio.sleep(600)
    assert stage.door.scans == scans


async def test_a_full_map_leaves_nothing_open(stage: Stage, clock: trio.abc.Clock) -> None:
    stage.process(2)

    def full(cookie: int, port: int) -> None:
        raise OSError(7, "the map is full")

    stage.door.lead = full
    made = await stage.start()
    assert stage.relay.log == ["open 20", "listen", "unlisten 1"]
    assert not made.listeners


async def test_a_process_that_moved_is_said(
    stage: Stage, clock: trio.abc.Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    made = await stage.start()
    stage.process(2)
    await stage.report(2, REFUSED, cookie=99)
    assert "network namespace 99 was refused: its process is in another" in capsys.readouterr().err
    await stage.report(3, REFUSED)
    await trio.sleep(2)
    await stage.report(3, WAITS)
    assert "network namespace 30 waits in vain: its process has ended" in capsys.readouterr().err
    made.close()


async def test_only_the_host_when_told_so(
    stage: Stage, clock: trio.abc.Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.process(2)
    made = await stage.start("host")
    await stage.report(2, PASSED)
    assert not made.listeners
    assert stage.door.watched == [WATCH_CONNECTS]
    assert "was left alone: networkNamespaces is host" in capsys.readouterr().err


async def test_where_all_is_disabled_nobody_is_served(stage: Stage, clock: trio.abc.Clock) -> None:
    stage.process(2)
    made = await stage.start()
    made.set_modes(all_modes(Mode.DISABLED))
    await trio.sleep(1)
    assert stage.relay.log[-2:] == ["forget 20", "unlisten 1"]
    assert stage.door.watched[-1] == WATCH_NOTHING
    await stage.report(2)
    assert not made.listeners
    made.set_modes(all_modes(Mode.AUDIT))
    await trio.sleep(1)
    assert set(made.listeners) == {20}
    assert stage.door.watched[-1] == WATCH_SOCKETS
    made.close()


async def test_in_a_container_pids_of_reports_are_not_believed(
    stage: Stage, clock: trio.abc.Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.door.pids = False
    made = await stage.start()
    assert "not in the initial pid namespace" in capsys.readouterr().err
    stage.door.homes[3] = Home("/proc/77/ns/net", 0, wanted=True)
    await stage.report(3)
    await trio.sleep(1)
    assert set(made.listeners) == {30}, "found by looking, not by the number"
    made.close()


def test_layouts_are_those_of_the_kernel_half() -> None:
    source = (ROOT / "bpf/record.h").read_text()
    for name, layout in (("gpa_report", REPORT), ("gpa_watch", WATCH)):
        assert f"sizeof(struct {name}) == {layout.size}," in source


def test_a_failure_is_new_once() -> None:
    ledger = Ledger(2)
    assert ledger.next_try() == float("inf")
    assert ledger.fail(5, "taken", 0)
    assert not ledger.fail(5, "taken", 1)
    assert ledger.fail(5, "other", 3)
    assert ledger.objection(5, 0, 6.9) == "other"
    assert ledger.objection(5, 0, 7.0) == ""
    ledger.gone({}, frozenset())
    assert ledger.next_try() == float("inf"), "what is gone is not tried"
    ledger.add(50, Served(5, 0))
    assert ledger.has(5)
    assert 50 in ledger
    assert len(ledger) == 1


def test_lines_are_paced() -> None:
    pace = Pace()
    assert pace.line("a", "text", 0) == "text"
    assert pace.line("a", "text", 5) == ""
    assert pace.line("b", "text", LINE_EVERY / 2) == ""
    assert pace.line("c", "text", LINE_EVERY) == "text (and 1 such lines left out)"
    assert pace.line("a", "text", SAME_LINE_EVERY) == "text"
    for number in range(1000):
        pace.line(number, "text", 10_000 + number)
    assert pace.line(0, "text", 11_000) == "text", "memory is bounded"


# --- what there is -------------------------------------------------------------------------------

MOUNTS = r"""
22 1 0:21 / /proc rw - proc proc rw
90 1 0:4 net:[4026532001] /run/netns/a\040b rw shared:7 - nsfs nsfs rw
91 1 0:4 net:[4026531840] /run/netns/ours rw - nsfs nsfs rw
92 1 0:4 mnt:[4026532002] /run/snapd/ns/x.mnt rw - nsfs nsfs rw
93 1 0:4 net:[4026532003] /fake rw - tmpfs nsfs rw
"""


def make_process(proc: Path, pid: int, uid: int, cgroup: str) -> int:
    """Its namespace is a plain file; the inode number is what counts."""
    folder = proc / str(pid)
    (folder / "ns").mkdir(parents=True)
    (folder / "ns/net").touch()
    (folder / "cgroup").write_text(f"12:devices:/x\n0::{cgroup}\n")
    (folder / "status").write_text(f"Name:\tx\nUid:\t{uid}\t0\t0\t0\n")
    return (folder / "ns/net").stat().st_ino


def test_namespaces_are_found_by_mount_and_by_process(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_text(MOUNTS.lstrip())
    inside = make_process(tmp_path, 5, 7, "/vm/users")
    outside = make_process(tmp_path, 6, 8, "/vm2")
    own = make_process(tmp_path, 7, 0, "/vm")
    (tmp_path / "8/ns").mkdir(parents=True)  # it ends just now

    homes = scan(own, Scope("/vm", everything=False), tmp_path)
    assert homes.pop(4026531840).path == "/run/netns/ours"
    assert homes == {
        4026532001: Home("/run/netns/a b", 0, wanted=False),
        inside: Home(f"{tmp_path}/5/ns/net", 7, wanted=True),
        outside: Home(f"{tmp_path}/6/ns/net", 0, wanted=False),
    }
    everything = scan(own, Scope("/", everything=True), tmp_path)
    assert all(home.wanted for home in everything.values())
    assert tables(inside, tmp_path) == tmp_path / "5/net"
    assert tables(1, tmp_path) == tmp_path / "none"


def test_this_process_is_described_as_it_is() -> None:
    own = inum_of("/proc/self/ns/net")
    assert own not in scan(own, Scope("/", everything=True))
    assert pids_are_the_kernels() == (inum_of("/proc/self/ns/pid") == 0xEFFFFFFC)


async def test_mounts_that_do_not_change_wake_nobody() -> None:
    watch = MountWatch()
    with trio.move_on_after(0.05) as scope:
        await trio.lowlevel.wait_readable(watch.fileno())
    assert scope.cancelled_caught
    watch.close()
    watch.close()
