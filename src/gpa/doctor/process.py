"""Who asks: root with capabilities, in the namespaces in which the agent is to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gpa.doctor.finding import Finding, failure, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.config import Config
    from gpa.doctor.machine import Machine

# Bits of capability(7).
DAC_READ_SEARCH: Final = 2
NET_ADMIN: Final = 12
SYS_PTRACE: Final = 19
SYS_ADMIN: Final = 21
PERFMON: Final = 38
BPF: Final = 39

NEEDED: Final = {
    "CAP_BPF": {BPF, SYS_ADMIN},
    "CAP_PERFMON": {PERFMON, SYS_ADMIN},
    "CAP_NET_ADMIN": {NET_ADMIN, SYS_ADMIN},
}
"""Without one of these bits no program is loaded or attached."""

LOAD: Final = "to load eBPF programs"

WANTED: Final = {
    "CAP_SYS_ADMIN": (SYS_ADMIN, "to enter network namespaces and to mount a BPF filesystem"),
    "CAP_SYS_PTRACE": (SYS_PTRACE, "to see which program a caller runs"),
    "CAP_DAC_READ_SEARCH": (DAC_READ_SEARCH, "to find the programs that rules name"),
}
"""Without these a part of the agent's work fails."""

INITIAL: Final = {"user": 0xEFFFFFFD, "pid": 0xEFFFFFFC}
"""Inode numbers of the first namespaces (include/linux/proc_ns.h), the same on every machine."""

ON_THE_MACHINE: Final = "run the agent on the machine itself, not in a container"


def check_root(machine: Machine, config: Config) -> Iterator[Finding]:
    """eBPF, keys and rules are root's."""
    del config
    if machine.root:
        yield ok("root", "this is root")
    else:
        yield failure(
            "root",
            "this is not root, who alone can try most of it: what is left out below is not judged",
            "run it again with sudo",
        )


def check_capabilities(machine: Machine, config: Config) -> Iterator[Finding]:
    """Root need not have them all, as in a container or a sandboxed unit."""
    del config
    held = _held(machine.read(machine.proc / "self/status") or "")
    needed = [f"{name} {LOAD}" for name, bits in NEEDED.items() if not bits & held]
    wanted = [f"{name} {why}" for name, (bit, why) in WANTED.items() if bit not in held]
    if not needed and not wanted:
        yield ok("capabilities", "all that are needed")
        return
    yield (failure if needed else warning)(
        "capabilities",
        f"this root lacks {', '.join([*needed, *wanted])}",
        f"{ON_THE_MACHINE}, or give it the capability (CapabilityBoundingSet= of its unit)",
    )


def _held(status: str) -> set[int]:
    """Bits of the effective set, from /proc/PID/status."""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            mask = int(line.split()[1], 16)
            return {bit for bit in range(64) if mask >> bit & 1}
    return set()


def check_namespaces(machine: Machine, config: Config) -> Iterator[Finding]:
    """Only from the first ones the whole machine is seen. The cgroup namespace is `cgroup-root`'s
    affair."""
    del config
    user = _number(machine, "self", "user")
    if user == INITIAL["user"]:
        yield ok("namespace user", "the first one")
    else:
        yield failure(
            "namespace user",
            "this is a user namespace of its own, whose root may not attach eBPF programs",
            ON_THE_MACHINE,
        )
    sees_all = _number(machine, "self", "pid") == INITIAL["pid"]
    if sees_all:
        yield ok("namespace pid", "the first one")
    else:
        yield warning(
            "namespace pid",
            "this is a pid namespace of its own: callers outside it have no name in records, and"
            " rules on executables do not hold for them",
            f"{ON_THE_MACHINE}, or share its pids (--pid=host)",
        )
    mine, first = _number(machine, "self", "net"), _number(machine, "1", "net")
    if first is None or not sees_all:
        yield warning(
            "namespace network",
            "whether this is that of the machine's process 1 cannot be seen from here",
            "compare readlink /proc/self/ns/net with that of a service that is to be protected",
        )
    elif mine == first:
        yield ok("namespace network", "that of process 1")
    else:
        yield warning(
            "namespace network",
            "this is not that of process 1: the agent would listen here, not there",
            f"{ON_THE_MACHINE}, or share its network (--network=host), unless this is meant",
        )


def _number(machine: Machine, process: str, kind: str) -> int | None:
    """The inode number of a process's namespace; None when we may not see it."""
    try:
        text = str((machine.proc / process / "ns" / kind).readlink())
    except OSError:
        return None
    digits = text.removeprefix(f"{kind}:[").removesuffix("]")
    return int(digits) if digits.isdecimal() else None
