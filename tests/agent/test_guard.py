"""The guard at the interfaces: what it hears of them and what it notes; the rest is in
tests/attacks."""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from pathlib import Path

import pytest

from gpa.agent import guard, netlink
from gpa.endpoints import Endpoint

ROOT = Path(__file__).parents[2]
NEWLINK, DELLINK = 16, 17


def link(kind: int, index: int) -> bytes:
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 1, index, 0, 0)
    return netlink.pack(kind, 0, 0, body + netlink.attribute(3, b"eth0\0"))


def test_the_addresses_that_are_looked_up_are_those_of_the_endpoints() -> None:
    source = (ROOT / "bpf/guard.h").read_text()
    numbers = re.findall(r"ip4 == bpf_htonl\(0x(\w+)\) /\* ([\d.]+) \*/", source)
    known = {str(ipaddress.IPv4Address(int(number, 16))) for number, _ in numbers}
    assert known == {text for _, text in numbers} == {e.address[0] for e in Endpoint}


def test_an_interface_that_goes_is_forgotten(tmp_path: Path) -> None:
    watching = guard.InterfaceGuard(tmp_path, 0)
    watching._guarded = {2, 3, 4}
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, kernel:
        ours.setblocking(False)
        kernel.send(link(NEWLINK, 2) + link(DELLINK, 3))
        kernel.send(link(NEWLINK, 9))
        kernel.send(netlink.pack(DELLINK, 0, 0, b"short"))
        watching._forget(ours)
    assert watching._guarded == {2, 4}


def test_when_events_were_lost_every_interface_is_looked_at_again(tmp_path: Path) -> None:
    class Lossy:
        def __init__(self) -> None:
            self.troubles = [OSError(105, "No buffer space available"), BlockingIOError()]

        def recv(self, size: int) -> bytes:
            raise self.troubles.pop(0)

    watching = guard.InterfaceGuard(tmp_path, 0)
    watching._guarded = {2, 3}
    watching._forget(Lossy())  # type: ignore[arg-type]  # it only receives
    assert watching._guarded == set()


@pytest.mark.parametrize("content", ["", "{", "{}", '["eth0"]', "7"])
def test_notes_that_are_not_ours_note_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / guard.STATE_FILE).write_text(content)
    assert guard._read(tmp_path) == set()


def test_notes_are_kept_from_others(tmp_path: Path) -> None:
    guard._write(tmp_path, {7, 2})
    assert guard._read(tmp_path) == {2, 7}
    assert (tmp_path / guard.STATE_FILE).stat().st_mode & 0o777 == 0o600
