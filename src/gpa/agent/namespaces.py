"""Listeners in other network namespaces: opened when the first socket is made there, closed when
nothing but the listener keeps the namespace alive. The service manager keeps copies (systemd.py),
so that callers there wait for the next start as those at home do.

127.0.0.1 is another loopback in each namespace, so connects there need a listener there. The kernel
half reports a namespace without one (bpf/namespaces.h), mounts tell of those that get a name; what
was there before us is found once. While foreign namespaces are served, /proc is looked through each
`CHECK` seconds for those whose last process has gone: the one thing nobody tells us.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from gpa.agent import netns
from gpa.agent.listener import listens_on
from gpa.agent.log import one_line
from gpa.agent.nsledger import MAX_NAMESPACES, Ledger, Pace, Served
from gpa.endpoints import Mode
from gpa.errors import GpaError

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from gpa.agent.log import Log
    from gpa.agent.netns import Report
    from gpa.agent.relay import Relay
    from gpa.agent.systemd import Kept, Notifier
    from gpa.agent.tools import NamespaceDoor
    from gpa.endpoints import Endpoint

CHECK: Final = 30.0
"""Seconds between two looks for namespaces whose last process has gone."""

SETTLE: Final = 0.2
"""Seconds between two looks, whatever happens; and those that connects on their way get when a
listener is closed that could be used."""

WORDS: Final = {
    netns.REFUSED: "was refused",
    netns.PASSED: "was left alone",
    netns.WAITS: "waits in vain",
}
"""What the kernel half did with a connect."""


PREFIX: Final = "gpa-netns-"
"""Of the names of copies with the service manager; cookie, inode number and uid follow."""


def is_elsewhere(name: str) -> bool:
    """Whether a kept socket is one of those here."""
    return name.startswith(PREFIX)


@dataclass(frozen=True)
class Listener:
    """A listening socket in another namespace.

    Attributes:
        socket: ours, and so to be closed by us.
        id: the relay's name for it.
        name: of its copy with the service manager.
    """

    socket: socket.socket
    id: int
    name: str


class Namespaces:
    """The policy and its tasks.

    Attributes:
        listeners: by cookie of the namespace: the one place that owns them.
    """

    def __init__(
        self,
        choice: str,
        relay: Relay,
        log: Log,
        manager: Notifier,
        *,
        kept: Kept,
        most: int = MAX_NAMESPACES - 1,
    ) -> None:
        """Nothing is opened before `run`.

        Args:
            choice: `networkNamespaces`: "all", or "host" for our own only.
            relay: serves the listeners.
            log: for people.
            manager: keeps copies of the listeners.
            kept: those that it kept, taken over by `run`.
            most: bound of namespaces beside our own.
        """
        self.listeners: dict[int, Listener] = {}
        self._all = choice == "all"
        self._relay = relay
        self._log = log
        self._manager = manager
        self._kept = kept
        self._ledger = Ledger(most)
        self._pace = Pace()
        self._protecting = True
        self._look = trio.Event()
        self._sleep = trio.CancelScope()

    def set_modes(self, modes: Mapping[Endpoint, Mode]) -> None:
        """What holds for the endpoints: where all are disabled nobody needs a listener."""
        protecting = any(mode is not Mode.DISABLED for mode in modes.values())
        if protecting != self._protecting:
            self._protecting = protecting
            self._look.set()

    async def run(self, door: NamespaceDoor) -> None:
        """Serve other namespaces until cancelled; the listeners stay until `close`."""
        self._adopt(door)
        # Of an agent before us: its listeners are gone.
        for cookie in door.led():
            if cookie not in self.listeners:
                door.forget(cookie)
        if self._all and not door.knows_pids():
            self._log.warn(
                "this process is not in the initial pid namespace: the first connect in a network"
                " namespace is refused, and only namespaces of processes seen from here are served"
            )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep, door)
            nursery.start_soon(self._hear, door)
            nursery.start_soon(self._follow_mounts, door)

    def close(self, *, forget: bool) -> None:
        """Close the listeners; what led to them is the caller's to take away, or refuses.

        Args:
            forget: the copies of the service manager, too; else callers wait for the next start.
        """
        for cookie in list(self.listeners):
            self._close(cookie, forget=forget)

    # Tasks.

    async def _hear(self, door: NamespaceDoor) -> None:
        while True:
            await trio.lowlevel.wait_readable(door.reports_fd())
            for report in door.reports():
                self._on_report(door, report)

    async def _follow_mounts(self, door: NamespaceDoor) -> None:
        while True:
            await trio.lowlevel.wait_readable(door.mounts_fd())
            door.mounts_seen()
            self._look.set()

    async def _keep(self, door: NamespaceDoor) -> None:
        while True:
            self._look = trio.Event()
            began = trio.current_time()
            if self._all and self._protecting:
                door.watch(netns.WATCH_SOCKETS)
                await self._look_through(door)
            else:
                door.watch(netns.WATCH_CONNECTS if self._protecting else netns.WATCH_NOTHING)
                await self._withdraw(door)
            self._ledger.drop_due(began)
            await trio.sleep(SETTLE)
            check = trio.current_time() + CHECK if self.listeners else float("inf")
            with trio.CancelScope(deadline=min(check, self._ledger.next_try())) as self._sleep:
                await self._look.wait()

    async def _look_through(self, door: NamespaceDoor) -> None:
        before = self._ledger.cookies()
        homes = await trio.to_thread.run_sync(door.scan)
        for cookie in self._ledger.gone(homes, before):
            door.forget(cookie)
            self._close(cookie, forget=True)
        for inum, home in self._ledger.missing(homes):
            if why := self._serve(door, home.path, home.uid):
                self._say(inum, f"network namespace net:[{inum}] is not served: {why}")

    async def _withdraw(self, door: NamespaceDoor) -> None:
        """Nobody is led to them any more; who was on the way still gets in."""
        if not self.listeners:
            return
        for cookie in self.listeners:
            door.forget(cookie)
        await trio.sleep(SETTLE)
        self.close(forget=True)

    # Decisions, carried out.

    def _on_report(self, door: NamespaceDoor, report: Report) -> None:
        if not self._protecting:
            return
        why = self._answer(door, report)
        if report.kind == netns.SEEN or (report.kind == netns.WAITS and not why):
            return
        what = WORDS[report.kind]
        who = f"pid {report.tgid} ({one_line(report.comm, 16)}, uid {report.uid})"
        self._say(
            (report.cookie, what),
            f"a connect of {who} in network namespace {report.cookie} {what}: {why}",
        )

    def _answer(self, door: NamespaceDoor, report: Report) -> str:
        """Open a listener where one is wanted; why the one who was reported had none, in words."""
        if not self._all:
            return "networkNamespaces is host"
        if report.cookie not in self._ledger and report.cookie != door.own:
            if not door.knows_pids():
                self._look.set()
            elif why := self._serve(door, f"/proc/{report.tid}/ns/net", report.uid):
                return why
            elif report.cookie not in self._ledger:
                return "its process is in another namespace by now"
        return "" if report.kind == netns.WAITS else "it came before the listener"

    def _serve(self, door: NamespaceDoor, path: str, uid: int) -> str:
        """Have a listener in that namespace; why it has none, in words."""
        now = trio.current_time()
        try:
            inum = door.inum(path)
        except OSError:
            self._look.set()  # there may be others
            return "its process has ended"
        if not inum or self._ledger.has(inum):
            return ""
        if objection := self._ledger.objection(inum, uid, now):
            return objection
        try:
            self._listen(door, path, Served(inum, uid))
        except (OSError, GpaError) as error:
            why = str(error)
            self._ledger.fail(inum, why, now)
            self._wake_by(self._ledger.next_try())
            return why
        self._wake_by(now + CHECK)
        return ""

    def _listen(self, door: NamespaceDoor, path: str, served: Served) -> None:
        cookie, sock = door.open(path)
        self._use(door, cookie, sock, served)
        self._manager.store(self.listeners[cookie].name, sock)

    def _adopt(self, door: NamespaceDoor) -> None:
        """Go on with what the service manager kept."""
        for name, sock in self._kept:
            found = _read_name(name) if self._all and listens_on(sock) else None
            if found is not None and found[0] in self.listeners:
                sock.close()  # one more copy of the same
                continue
            try:
                if found is not None:
                    door.mark(sock)
                    self._use(door, found[0], sock, found[1])
                    continue
            except (OSError, GpaError) as error:
                self._log.warn(
                    f"the listener kept for another network namespace is of no use: {error}"
                )
            # Another is opened where one is wanted.
            sock.close()
            self._manager.forget(name)

    def _use(self, door: NamespaceDoor, cookie: int, sock: socket.socket, served: Served) -> None:
        """Serve what is listening there."""
        try:
            port = sock.getsockname()[1]
            number = self._relay.listen(sock.fileno())
            try:
                # Last: nobody is led to what does not serve.
                door.lead(cookie, port)
            except BaseException:
                self._relay.unlisten(number)
                raise
        except BaseException:
            sock.close()
            raise
        self.listeners[cookie] = Listener(sock, number, _name(cookie, served))
        self._ledger.add(cookie, served)

    def _close(self, cookie: int, *, forget: bool) -> None:
        listener = self.listeners.pop(cookie)
        self._ledger.remove(cookie)
        self._relay.unlisten(listener.id)
        listener.socket.close()
        if forget:
            self._manager.forget(listener.name)

    def _wake_by(self, at: float) -> None:
        self._sleep.deadline = min(self._sleep.deadline, at)

    def _say(self, key: object, text: str) -> None:
        if line := self._pace.line(key, text, trio.current_time()):
            self._log.warn(line)


def _name(cookie: int, served: Served) -> str:
    return f"{PREFIX}{cookie}-{served.inum}-{served.uid}"


def _read_name(name: str) -> tuple[int, Served] | None:
    numbers = name.removeprefix(PREFIX).split("-")
    if len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
        return None
    cookie, inum, uid = map(int, numbers)
    return cookie, Served(inum, uid)
