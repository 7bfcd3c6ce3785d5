"""The engine as the oracle sees it: a caller on paper to the kernel's record, places to names."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.rules.oracle import Caller, Outcome

from gpa import _native
from gpa.endpoints import Endpoint
from gpa.rules.compile import CompiledNames

if TYPE_CHECKING:
    from gpa.rules.model import EffectiveRules

# struct gpa_ident of bpf/record.h.
_IDENT = struct.Struct("=QQQQQQq" + "I" * 17 + "HHII16s16sII64s16x")
_EXE_KNOWN, _EXE_NAME = 1 << 2, 1 << 3
_ABI = 1


def ident(caller: Caller, endpoint: str) -> bytes:
    """The record of a caller who asked for the endpoint."""
    address, port = Endpoint(endpoint).address
    ip4 = int.from_bytes(bytes(int(part) for part in address.split(".")), "little")
    dev, ino, ctime_s, ctime_ns = caller.exe or (0, 0, 0, 0)
    flags = (_EXE_KNOWN if caller.exe else 0) | (_EXE_NAME if caller.exe_name else 0)
    name = (caller.exe_name or "").encode()
    counts = (0, 0, caller.cgroup_id, 0, 0, ino, ctime_s, ctime_ns, dev, 0, caller.sbmagic)
    process = (4242, 4242, 1, 0, caller.uid, caller.gid, caller.euid, caller.gid, 0xFFFFFFFF)
    places = (caller.userns, 0, 0, ip4, port, 2, 0, 0)
    return _IDENT.pack(*counts, *process, *places, b"", b"", _ABI, flags, name)


def load(table: bytes) -> object:
    """Take a table, or raise `RulesError`."""
    return _native.Snapshot(0, table)


class NativeSnapshot:
    """A snapshot of one endpoint's rules."""

    def __init__(self, effective: EffectiveRules | None, table: bytes) -> None:
        self._snapshot = _native.Snapshot(1, table)
        self._names = CompiledNames.of(effective)

    def decide(self, endpoint: str, caller: Caller, request: str) -> Outcome:
        """`request` is a target, with a method and a space before it when it is not GET."""
        method, _, target = request.rpartition(" ")
        decision, reason, privilege, role, identity = self._snapshot.decide(
            endpoint, ident(caller, endpoint), method or "GET", target
        )
        return Outcome(
            decision,
            reason,
            self._names.privilege(privilege),
            self._names.role(role),
            self._names.identity(identity),
        )
