"""A cgroup program of another tool in a handful of instructions: it counts, may rewrite or deny.

Written by hand, so that tests need no compiler where they run (linux/bpf.h, struct bpf_insn).
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, Self

from tests.kernel import bpf

from gpa.agent.libbpf import ATTACH_TYPES

if TYPE_CHECKING:
    from pathlib import Path

Address = tuple[str, int]

SOCK, SOCK_OPS, SOCK_ADDR, SOCKOPT = 9, 13, 18, 25
PROGRAM_TYPES: Final = {
    "connect4": SOCK_ADDR,
    "connect6": SOCK_ADDR,
    "bind4": SOCK_ADDR,
    "bind6": SOCK_ADDR,
    "post_bind4": SOCK,
    "sockops": SOCK_OPS,
    "getsockopt": SOCKOPT,
    "setsockopt": SOCKOPT,
}

# struct bpf_sock_addr: where the IPv4 address stands (of connect6 the last word of ::ffff:a.b.c.d).
USER_IP4: Final = {"connect4": 4, "connect6": 20}
USER_PORT: Final = 24

R0, R1, R2, R6 = 0, 1, 2, 6


def _instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhI", code, source << 4 | to, offset, value & 0xFFFFFFFF)


def _move(to: int, value: int) -> bytes:
    return _instruction(0xB7, to, value=value)


def _copy(to: int, source: int) -> bytes:
    return _instruction(0xBF, to, source)


def _load(to: int, source: int, offset: int) -> bytes:
    return _instruction(0x61, to, source, offset)


def _store(to: int, offset: int, source: int) -> bytes:
    return _instruction(0x63, to, source, offset)


def _unless_equal(register: int, value: int, skip: int) -> bytes:
    """Skip so many instructions unless the lower 32 bits are the value."""
    return _instruction(0x56, register, offset=skip, value=value)


def _count(counter: bpf.Counter) -> bytes:
    """Add 1 atomically; R1 and R2 are lost."""
    address_of_value = 2  # BPF_PSEUDO_MAP_VALUE
    return (
        _instruction(0x18, R1, address_of_value, value=counter.fd)
        + _instruction(0)
        + _move(R2, 1)
        + _instruction(0xDB, R1, R2)
    )


def _network(address: Address) -> tuple[int, int]:
    """Address and port as a program reads them on this machine."""
    number: int = struct.unpack("=I", ipaddress.IPv4Address(address[0]).packed)[0]
    return number, socket.htons(address[1])


def _when_to(hook: str, address: Address, then: bytes) -> bytes:
    """Do it when the destination (of the context in R6) is that address."""
    ip4, port = _network(address)
    size = len(then) // 8
    return (
        _load(R2, R6, USER_IP4[hook])
        + _unless_equal(R2, ip4, size + 2)
        + _load(R2, R6, USER_PORT)
        + _unless_equal(R2, port, size)
        + then
    )


class Neighbour:
    """Loaded, attached when `attach` is called, gone after `close`."""

    def __init__(self, hook: str, name: str = "neighbour", body: bytes = b"") -> None:
        """Count every run, then do `body`, which finds the context in R6 and the verdict in R0."""
        self.hook = hook
        self.name = name
        self._attached: list[Path] = []
        self._counter = bpf.Counter()
        code = _copy(R6, R1) + _count(self._counter) + _move(R0, 1) + body + _instruction(0x95)
        try:
            self.fd = bpf.load(PROGRAM_TYPES[hook], ATTACH_TYPES[hook], code, name)
        except BaseException:
            self._counter.close()
            raise

    @classmethod
    def rewriting(cls, hook: str, asked: Address, given: Address) -> Self:
        """One that sends who asks for the one address to the other, as a transparent proxy."""
        ip4, port = _network(given)
        rewrite = (
            _move(R1, ip4)
            + _store(R6, USER_IP4[hook], R1)
            + _move(R1, port)
            + _store(R6, USER_PORT, R1)
        )
        return cls(hook, "rewriter", _when_to(hook, asked, rewrite))

    @classmethod
    def denying(cls, hook: str, address: Address) -> Self:
        """One that refuses connects to an address."""
        return cls(hook, "denier", _when_to(hook, address, _move(R0, 0)))

    @property
    def runs(self) -> int:
        """How often it ran."""
        return self._counter.value

    @property
    def number(self) -> int:
        """Its id, as `bpftool prog` shows it."""
        return bpf.told(self.fd)["prog_id"]

    def attach(self, cgroup: Path, flags: int) -> None:
        bpf.attach(self.fd, cgroup, ATTACH_TYPES[self.hook], flags)
        self._attached.append(cgroup)

    def detach(self) -> None:
        while self._attached:
            bpf.detach(self.fd, self._attached.pop(), ATTACH_TYPES[self.hook])

    def close(self) -> None:
        self.detach()
        os.close(self.fd)
        self._counter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
