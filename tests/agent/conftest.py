"""Fakes of what the agent stands on: keys, the host on the far side of a stream, the relay."""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h11
import pytest
import trio
import trio.testing

from gpa.agent.netns import Opened, Report
from gpa.errors import GpaError, KeyMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpa.agent.nsscan import Home


@dataclass(frozen=True)
class FakeKey:
    guid: str
    incarnation: int | None = None

    def authorization(
        self, method: str, target: str, fields: list[tuple[str, str]], body: bytes
    ) -> str:
        names = ",".join(name for name, _ in fields)
        return f"Azure-HMAC-SHA256 {self.guid} {method} {target} {names} {len(body)}"


class FakeKeys:
    """A key store: `stored` by guid, `given` one after the other by the host."""

    def __init__(self) -> None:
        self.stored: dict[str, FakeKey | GpaError] = {}
        self.given: deque[FakeKey | GpaError] = deque()
        self.log: list[str] = []

    async def load(self, guid: str) -> FakeKey:
        self.log.append(f"load {guid[:2]}")
        found = self.stored.get(guid) or KeyMissingError("none")
        if isinstance(found, GpaError):
            raise found
        return found

    async def acquire(self, stream: trio.abc.Stream, date: str) -> FakeKey:
        assert date.endswith(" GMT")
        self.log.append("acquire")
        found = self.given.popleft() if self.given else KeyMissingError("the host has none")
        if isinstance(found, GpaError):
            raise found
        self.stored[found.guid] = found
        return found


Response = tuple[int, dict[str, str], bytes]


@dataclass
class FakeHost:
    """Answers each connection's one request by `handler`, or with raw bytes."""

    handler: Callable[[h11.Request], Response | bytes]
    nursery: trio.Nursery
    seen: list[h11.Request] = field(default_factory=list)
    connects: int = 0

    async def connect(self) -> trio.abc.Stream:
        self.connects += 1
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(bytes(await stream.receive_some(65536)))
                elif isinstance(event, h11.Request):
                    self.seen.append(event)
                elif isinstance(event, h11.EndOfMessage):
                    break
                elif isinstance(event, h11.ConnectionClosed):
                    return
            answer = self.handler(self.seen[-1])
            if isinstance(answer, bytes):
                await stream.send_all(answer)
            else:
                status, fields, body = answer
                head = h11.Response(
                    status_code=status,
                    headers=[("Content-Length", str(len(body))), *fields.items()],
                )
                for part in (head, h11.Data(data=body), h11.EndOfMessage()):
                    await stream.send_all(connection.send(part) or b"")
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            return
        finally:
            await stream.aclose()


@dataclass
class FakeDoor:
    """Other network namespaces: `homes` by inode number, the cookie is ten times that."""

    log: list[str] = field(default_factory=list)
    homes: dict[int, Home] = field(default_factory=dict)
    troubles: dict[str, Exception] = field(default_factory=dict)
    own: int = 10
    pids: bool = True
    watched: list[int] = field(default_factory=list)
    scans: int = 0
    ports: dict[int, int] = field(default_factory=dict)
    told: list[Report] = field(default_factory=list)

    def __post_init__(self) -> None:
        flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
        self._reports, self._mounts = os.eventfd(0, flags), os.eventfd(0, flags)

    def close(self) -> None:
        os.close(self._reports)
        os.close(self._mounts)

    def report(self, report: Report) -> None:
        self.told.append(report)
        os.eventfd_write(self._reports, 1)

    def mount(self) -> None:
        os.eventfd_write(self._mounts, 1)

    def watch(self, what: int) -> None:
        self.watched.append(what)

    def reports_fd(self) -> int:
        return self._reports

    def reports(self) -> list[Report]:
        os.eventfd_read(self._reports)
        told, self.told = self.told, []
        return told

    def mounts_fd(self) -> int:
        return self._mounts

    def mounts_seen(self) -> None:
        os.eventfd_read(self._mounts)

    def scan(self) -> dict[int, Home]:
        self.scans += 1
        return dict(self.homes)

    def knows_pids(self) -> bool:
        return self.pids

    def inum(self, path: str) -> int:
        for inum, home in self.homes.items():
            if home.path == path:
                return inum
        raise FileNotFoundError(path)

    def open(self, path: str) -> Opened:
        if path in self.troubles:
            raise self.troubles[path]
        cookie = 10 * self.inum(path)
        self.log.append(f"open {cookie}")
        made = socket.socket()
        made.bind(("127.0.0.1", 0))
        return Opened(cookie, made)

    def netlink_elsewhere(self) -> list[Any]:
        return []

    def mark(self, listener: socket.socket) -> None:
        assert listener.fileno() >= 0
        self.log.append("mark")

    def lead(self, cookie: int, port: int) -> None:
        self.log.append(f"lead {cookie}")
        self.ports[cookie] = port

    def forget(self, cookie: int) -> None:
        self.log.append(f"forget {cookie}")
        self.ports.pop(cookie, None)

    def led(self) -> list[int]:
        return list(self.ports)


class FakeRelay:
    """Holds what it is given; `push` makes it wake its reader."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.published: list[Any] = []
        self.records: deque[bytes] = deque()
        self.waiting: list[tuple[int, str, bytes, bool, int | None]] = []
        self.met: list[bytes] = []
        self.answers: dict[int, tuple[int, Any]] = {}
        self.clock: tuple[int, int] | None = None
        self.listeners = 0
        self.door = FakeDoor(self.log)
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._armed = False

    def close(self) -> None:
        os.close(self._fd)
        self.door.close()

    def wake(self) -> None:
        if self._armed:
            self._armed = False
            os.eventfd_write(self._fd, 1)

    def publish(self, snapshot: Any) -> None:
        self.published.append(snapshot)

    def listen(self, fd: int) -> int:
        assert fd >= 0
        self.log.append("listen")
        self.listeners += 1
        return self.listeners

    def unlisten(self, listener: int) -> None:
        self.log.append(f"unlisten {listener}")

    def set_records_map(self, fd: int) -> None:
        assert fd == 99

    def set_clock(self, host_unix_ns: int, boottime_ns: int) -> None:
        self.clock = (host_unix_ns, boottime_ns)

    def wake_fd(self) -> int:
        return self._fd

    def arm(self) -> None:
        self._armed = True

    def take_records(self, limit: int) -> bytes:
        return self.records.popleft() if self.records else b""

    def questions(self) -> Sequence[tuple[int, str, bytes, bool, int | None]]:
        waiting, self.waiting = self.waiting, []
        return waiting

    def strangers(self) -> Sequence[bytes]:
        met, self.met = self.met, []
        return met

    def answer(self, token: int, status: int, body: bytes) -> None:
        self.answers[token] = (status, json.loads(body))

    def counters(self) -> dict[str, int]:
        return {}

    def drain(self, seconds: float, take_waiting: bool) -> bool:
        self.log.append("drain all" if take_waiting else "drain")
        return True

    def stop(self) -> None:
        self.log.append("stop")


@dataclass(frozen=True)
class Fakes:
    """The classes, for tests that cannot import this file by name."""

    Key: type[FakeKey] = FakeKey
    Keys: type[FakeKeys] = FakeKeys
    Host: type[FakeHost] = FakeHost
    Relay: type[FakeRelay] = FakeRelay


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
def relay() -> Iterator[FakeRelay]:
    fake = FakeRelay()
    yield fake
    fake.close()
