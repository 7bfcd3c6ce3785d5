"""Which network namespaces get a listener and when it is closed, with fakes for the kernel and a
clock that jumps."""

from __future__ import annotations

import socket
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
from gpa.agent.nsscan import Home
from gpa.agent.systemd import Notifier
from gpa.endpoints import Endpoint, Mode
from gpa.errors import PortTakenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpa.agent.systemd import Kept

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    async def in_place(work: Callable[..., Any], *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", in_place)
    return trio.testing.MockClock(autojump_threshold=0)


class Manager(Notifier):
    """A service manager that keeps names."""

    def __init__(self) -> None:
        super().__init__({})
        self.kept: list[str] = []

    def store(self, name: str, kept: socket.socket) -> None:
        self.kept.append(name)

    def forget(self, name: str) -> None:
        self.kept.remove(name)


class Stage:
    """A `Namespaces` that runs on fakes."""

    def __init__(self, relay: Any, nursery: trio.Nursery) -> None:
        self.relay, self.door, self.nursery = relay, relay.door, nursery
        self.manager = Manager()

    async def start(self, choice: str = "all", *, kept: Kept = (), **options: Any) -> Namespaces:
        made = Namespaces(choice, self.relay, Log(None), self.manager, kept=kept, **options)
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
    made.close(forget=True)
    assert stage.relay.log[-1] == "unlisten 1"
    assert not made.listeners


async def test_a_report_opens_a_listener_once(stage: Stage, clock: trio.abc.Clock) -> None:
    made = await stage.start()
    stage.process(2)
    for kind in (SEEN, WAITS, SEEN):
        await stage.report(2, kind)
    assert stage.relay.log == ["open 20", "listen", "lead 20"]
    made.close(forget=True)


async def test_copies_are_kept_until_a_listener_is_closed_for_good(
    stage: Stage, clock: trio.abc.Clock
) -> None:
    stage.process(2)
    stage.process(3)
    made = await stage.start()
    assert stage.manager.kept == ["gpa-netns-20-2-0", "gpa-netns-30-3-0"]
    del stage.door.homes[2]
    await trio.sleep(CHECK + 1)
    assert stage.manager.kept == ["gpa-netns-30-3-0"]
    made.close(forget=False)
    assert not made.listeners
    assert stage.manager.kept == ["gpa-netns-30-3-0"]


async def test_what_was_kept_is_taken_over(
    stage: Stage, clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what does not listen, is named by nobody we know, or comes twice."""
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    monkeypatch.setattr("gpa.agent.namespaces.listens_on", lambda sock: sock in listening)
    names = ["gpa-netns-20-2-7", "gpa-netns-x", "gpa-netns-20-2-7", "gpa-netns-40-4-0"]
    kept = list(zip(names, [*listening, socket.socket()], strict=True))
    stage.manager.kept = [*names]
    stage.door.ports = {20: 3080, 770: 3080}
    stage.process(2)
    made = await stage.start(kept=kept)
    assert stage.relay.log == ["mark", "listen", "lead 20", "forget 770"]
    assert {cookie: one.socket for cookie, one in made.listeners.items()} == {20: listening[0]}
    assert [sock.fileno() for _, sock in kept[1:]] == [-1, -1, -1]
    assert stage.manager.kept == ["gpa-netns-20-2-7"] * 2
    made.close(forget=False)


async def test_with_host_what_was_kept_is_closed(stage: Stage, clock: trio.abc.Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        stage.manager.kept = ["gpa-netns-20-2-0"]
        made = await stage.start("host", kept=[("gpa-netns-20-2-0", sock)])
        assert (sock.fileno(), stage.manager.kept, made.listeners) == (-1, [], {})


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
    made.close(forget=True)


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
    made.close(forget=True)


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
    made.close(forget=True)


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
    made.close(forget=True)


async def test_one_user_has_a_quarter(stage: Stage, clock: trio.abc.Clock) -> None:
    made = await stage.start(most=8)
    for inum in (2, 3, 4):
        stage.process(inum, uid=7)
        await stage.report(inum, uid=7)
    stage.process(5, uid=8)
    await stage.report(5, uid=8)
    assert set(made.listeners) == {20, 30, 50}
    made.close(forget=True)


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
    made.close(forget=True)


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
    made.close(forget=True)


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
    made.close(forget=True)


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
    made.close(forget=True)


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
