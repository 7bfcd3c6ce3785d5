"""TCP spoken by hand, past the kernel's own; standard library only, runs as root with `-I -S`.

`raw.py WAY ADDRESS PORT [REQUEST]` opens a connection from `SOURCE`, an address that no kernel
answers for, sends the request and prints one JSON object: `sent`, the error of the first packet or
"yes"; `opened`, whether the host took the connection; `answer`, the first bytes that came back.
"""

from __future__ import annotations

import contextlib
import errno
import json
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE, GATEWAY = "203.0.113.7", "192.0.2.1"
DEVICE = "eth0"
SECONDS = 6.0
IPV4, OTHER = 0x0800, 0x88B5
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MORE_FRAGMENTS = 0x2000
SOL_PACKET, QDISC_BYPASS = 263, 20


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(to: str, payload: bytes, fragment: int = 0, number: int = 1) -> bytes:
    head = struct.pack(
        "!BBHHHBBH4s4s",
        *(0x45, 0, 20 + len(payload), number, fragment, 64, socket.IPPROTO_TCP, 0),
        *(socket.inet_aton(SOURCE), socket.inet_aton(to)),
    )
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def tcp(at: tuple[int, int], seq: int, ack: int, flags: int, to: str, data: bytes = b"") -> bytes:
    segment = struct.pack("!HHIIBBHHH", *at, seq, ack, 5 << 4, flags, 65535, 0, 0) + data
    pseudo = socket.inet_aton(SOURCE) + socket.inet_aton(to)
    pseudo += struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(segment))
    return segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]


def hardware_addresses() -> bytes:
    """Of the gateway and of our device, as an Ethernet header has them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.sendto(b"", (GATEWAY, 9))  # the kernel asks who that is
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for line in Path("/proc/net/arp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[0] == GATEWAY and fields[2] != "0x0":
                with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as ours:
                    ours.bind((DEVICE, 0))
                    mine: bytes = ours.getsockname()[4]
                    return bytes.fromhex(fields[3].replace(":", "")) + mine
        time.sleep(0.01)
    raise OSError("the gateway is not found")


def sender(way: str, to: str) -> Callable[[bytes], object]:
    """How a TCP segment leaves."""
    if way in ("raw", "fragments"):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

        def send(segment: bytes) -> None:
            if way == "raw":
                raw.sendto(ip(to, segment), (to, 0))
                return
            # Flags and everything else of the header but ports and number are in the second one.
            number = int.from_bytes(segment[4:6]) or 1
            raw.sendto(ip(to, segment[:8], MORE_FRAGMENTS, number), (to, 0))
            raw.sendto(ip(to, segment[8:], 1, number), (to, 0))

        return send
    packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    if way == "bypass":
        packet.setsockopt(SOL_PACKET, QDISC_BYPASS, 1)
    kind = struct.pack("!H", IPV4)
    if way == "tagged":
        kind = struct.pack("!HHHHH", 0x88A8, 5, 0x8100, 7, IPV4)
    head = hardware_addresses() + kind
    label = OTHER if way == "mislabelled" else IPV4
    return lambda segment: packet.sendto(head + ip(to, segment), (DEVICE, label))


def talk(way: str, to: str, port: int, request: bytes) -> dict[str, object]:
    told: dict[str, object] = {"sent": "yes", "opened": False, "answer": ""}
    at = 20000 + time.monotonic_ns() // 1000 % 30000, port
    seq = time.monotonic_ns() & 0xFFFFFF
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(IPV4))
    send = sender(way, to)

    def heard() -> tuple[int, int, bytes] | None:
        """Flags, number and data of the next segment from there."""
        end = time.monotonic() + SECONDS
        while (left := end - time.monotonic()) > 0 and select.select([sniffer], [], [], left)[0]:
            data = sniffer.recv(65536)
            segment = data[(data[0] & 15) * 4 : int.from_bytes(data[2:4])]
            ports = struct.pack("!HH", at[1], at[0])
            if data[12:16] == socket.inet_aton(to) and segment[:4] == ports:
                return segment[13], int.from_bytes(segment[4:8]), segment[(segment[12] >> 4) * 4 :]
        return None

    try:
        send(tcp(at, seq, 0, SYN, to))
    except OSError as error:
        told["sent"] = errno.errorcode.get(error.errno or 0, str(error))
        return told
    answer = heard()
    if answer is None or answer[0] & (SYN | ACK | RST) != SYN | ACK:
        return told
    told["opened"] = True
    ack = answer[1] + 1
    with contextlib.suppress(OSError):
        send(tcp(at, seq + 1, ack, ACK, to))
        send(tcp(at, seq + 1, ack, ACK | PSH, to, request))
        while (answer := heard()) is not None and not answer[2]:
            pass
        told["answer"] = answer[2][:64].decode("latin-1") if answer else ""
        send(tcp(at, seq + 1 + len(request), ack, RST, to))
    return told


if __name__ == "__main__":
    words = sys.argv[4].encode() if sys.argv[4:] else b"?"
    print(json.dumps(talk(sys.argv[1], sys.argv[2], int(sys.argv[3]), words)))
