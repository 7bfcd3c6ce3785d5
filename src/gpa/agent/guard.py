"""The guard at the interfaces: a filter at tc egress of every Ethernet interface of this network
namespace, also of those that come later (bpf/guard.h, docs/guard.md).

Filters outlive the agent, are found again by their handle, and do nothing without the pinned map
`guards`, which names the program that they run. The qdisc clsact, on which they hang, is ours to
remove only where we made it and nobody else uses it: which those are stands in the run folder.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from typing import TYPE_CHECKING, Final

import trio

from gpa.agent import libbpf, netlink
from gpa.agent.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpa.agent.log import Log

STATE_FILE: Final = "guard.json"

SETTLE: Final = 0.1
"""Seconds from one look at the interfaces to the next, however many come."""

_NEWLINK, _DELLINK, _GETLINK, _GETTFILTER = 16, 17, 18, 46
"""`RTM_*` of linux/rtnetlink.h."""

_LINK_GROUP: Final = 1
"""RTMGRP_LINK: interfaces that come, change, go."""

_ETHERNET: Final = 1
"""ARPHRD_ETHER. Other frames have other headers, and the host is not reached by them."""

_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
"""Where filters hang on clsact."""

_LINK: Final = struct.Struct("=BxHiII")
"""`struct ifinfomsg`: family, type, index, flags, change."""

_FILTER: Final = struct.Struct("=BxxxiIII")
"""`struct tcmsg`: family, interface, handle, parent, info."""


class InterfaceGuard:
    """Keeps a program at all interfaces while the agent lives; what stands stays when it ends."""

    def __init__(self, run_folder: Path, program: int) -> None:
        self._run_folder = run_folder
        self._program = program
        self._guarded: set[int] = set()
        self._troubles: dict[int, str] = {}

    async def watch(self, log: Log) -> None:
        """Attach to what is there and to what comes; ends by being cancelled."""
        try:
            await self._watch(log)
        except OSError as error:
            log.warn(f"the guard does not look after the interfaces: {error.strerror or error}")

    async def _watch(self, log: Log) -> None:
        with netlink.connect(netlink.NETLINK_ROUTE) as events:
            events.setblocking(False)
            events.bind((0, _LINK_GROUP))  # first: nothing comes between this and the first look
            while True:
                names, troubles = await trio.to_thread.run_sync(self._attach_new)
                if names:
                    log.info(f"the guard stands at {', '.join(names)}")
                for words in troubles:
                    log.error(words)
                await trio.sleep(SETTLE)
                await trio.lowlevel.wait_readable(events)
                self._forget(events)

    def _forget(self, events: socket.socket) -> None:
        """Take the events that wait; an index that was given up may come again."""
        while True:
            try:
                data = events.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: there were too many, any may have gone
                self._guarded.clear()
                continue
            for kind, _, body in netlink.unpack(data):
                if kind == _DELLINK and len(body) >= _LINK.size:
                    self._guarded.discard(_LINK.unpack_from(body)[2])

    def _attach_new(self) -> tuple[list[str], list[str]]:
        """Attach where we are not yet; the names of those interfaces, and new troubles."""
        try:
            with netlink.connect(netlink.NETLINK_ROUTE) as route:
                there = set(_ethernet(route))
            self._guarded &= there
            before = self._troubles
            self._troubles = {index: words for index, words in before.items() if index in there}
            new = there - self._guarded
            noted = _read(self._run_folder) & there
            # Noted before it is made; what somebody else has made is struck out again.
            _write(self._run_folder, noted | new)
            made = {index for index in sorted(new) if self._attach(index)}
            _write(self._run_folder, noted | made)
        except OSError as error:
            return [], [f"the guard cannot look after the interfaces: {error.strerror or error}"]
        wrong = [w for index, w in self._troubles.items() if before.get(index) != w]
        return [_name(index) for index in sorted(new & self._guarded)], wrong

    def _attach(self, index: int) -> bool:
        """True when its clsact was made by us now."""
        interface = libbpf.Interface(index)
        made = False
        try:
            made = interface.make_clsact()
            interface.attach(self._program)
        except libbpf.BpfError as error:
            self._troubles[index] = f"the guard does not stand at {_name(index)}: {error}"
        else:
            self._guarded.add(index)
            self._troubles.pop(index, None)
        return made


def remove(run_folder: Path) -> list[str]:
    """Take our filters away, and the qdiscs that we made and nobody else uses; needs no agent.

    Returns:
        What was removed; empty when there was nothing.
    """
    removed = []
    # What cannot be listed stays, and does nothing: the map that it asks is gone.
    with contextlib.suppress(OSError), netlink.connect(netlink.NETLINK_ROUTE) as route:
        made = _read(run_folder)
        for index in list(_ethernet(route)):
            interface = libbpf.Interface(index)
            if interface.is_attached():
                interface.detach()
                removed.append(f"guard at {_name(index)}")
            if index in made and not _has_filters(route, index):
                interface.remove_clsact()
    (run_folder / STATE_FILE).unlink(missing_ok=True)
    return removed


def _ethernet(route: socket.socket) -> Iterator[int]:
    """Index of every Ethernet interface of the socket's network namespace."""
    everything = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for kind, body in netlink.ask(route, _GETLINK, netlink.DUMP, everything):
        if kind == _NEWLINK and len(body) >= _LINK.size:
            _, form, index, _, _ = _LINK.unpack_from(body)
            if form == _ETHERNET:
                yield index


def _has_filters(route: socket.socket, index: int) -> bool:
    """Whether anything hangs on the interface's clsact."""
    for parent in (_INGRESS, _EGRESS):
        wanted = _FILTER.pack(socket.AF_UNSPEC, index, 0, parent, 0)
        if list(netlink.ask(route, _GETTFILTER, netlink.DUMP, wanted)):
            return True
    return False


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"interface {index}"


def _read(run_folder: Path) -> set[int]:
    """Interfaces whose clsact we made."""
    try:
        noted = json.loads((run_folder / STATE_FILE).read_text())
    except (OSError, ValueError):
        return set()
    return {n for n in noted if isinstance(n, int)} if isinstance(noted, list) else set()


def _write(run_folder: Path, made: set[int]) -> None:
    # Best effort, as the disk may be full: what is not noted stays behind, with nothing on it.
    with contextlib.suppress(OSError):
        write_atomically(run_folder / STATE_FILE, json.dumps(sorted(made)).encode(), 0o600)
