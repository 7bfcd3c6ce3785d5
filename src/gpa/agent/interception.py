"""Attaches, steers and removes the kernel half.

Order is what keeps it closed: the options that prove who the agent is come first, then the guard
of the port, its listener, the hand-over, and the redirect last; removal goes the other way. Links
and maps are pinned below `{pinFolder}/v{LAYOUT}`: after a crash connects still meet the programs,
which find no listener and refuse what is enforced. A new agent takes the pins over, those of
another layout too, and swaps the programs one by one: at no moment is there none, or are there two.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from gpa import _native
from gpa._native.records import IDENT_SIZE
from gpa.agent import bpffs, guard, libbpf
from gpa.agent.cgroup import path_in_hierarchy
from gpa.agent.neighbours import why_refused
from gpa.agent.netns import Netns
from gpa.agent.nsscan import Scope
from gpa.agent.pins import (
    GUARD,
    GUARDS,
    NEIGHBOURHOOD,
    OPTIONS,
    Pins,
    detach,
    remove_program,
    was_mounted,
    write_state,
)
from gpa.endpoints import Endpoint, Mode
from gpa.errors import InterceptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gpa.config import Config

# Socket level and options of bpf/record.h.
SOL_GPA: Final = 0x6770
SO_CLAIM: Final = 3

MARK_LISTENER: Final = struct.pack("=I", 2)
"""`MARK_LISTENER` of bpf/record.h."""

MODES: Final = {Mode.UNKNOWN: 0, Mode.DISABLED: 1, Mode.AUDIT: 2, Mode.ENFORCE: 3}
"""`GPA_MODE_*` of bpf/record.h."""

COUNTERS: Final = (
    "redirected",
    "exempted",
    "direct_connects",
    "refused_no_listener",
    "refused_namespace",
    "refused_quota",
    "handed_over",
    "lost",
    "passed_audit",
    "refused_bind",
    "refused_other",
    "dropped_around",
)
"""Names of `enum gpa_counter` in bpf/record.h, in order."""

AGENT: Final = struct.Struct("=QQQQQII")
"""`struct gpa_agent`: nonce, start_boottime, bound_netns, served_ns, idle_ns, tgid, padding."""


class Interception:
    """The kernel half while the agent lives. Made by `attach`, ended by `release` or `leave`.

    Attributes:
        mounted: pinFolder was on no BPF filesystem, so that one had to be mounted on it.
        guard: keeps the guard at the interfaces, where it is wanted there; somebody must run it.
        netns: other network namespaces.
    """

    def __init__(
        self, config: Config, obj: libbpf.Object, *, cgroup_root: Path, leaf: Path
    ) -> None:
        self._config = config
        self._pins = Pins(config.pin_folder)
        self._object = obj
        self._leaf = leaf
        self.mounted = False
        self.guard: guard.InterfaceGuard | None = None
        self._links: dict[str, libbpf.Link] = {}
        self._targets = obj.map("targets", 8, 8)
        self._agent = obj.map("agent", 4, AGENT.size)
        self._counters = obj.map("counters", 4, 8)
        self._marks = obj.map("marks", 4, 4)
        self._idents = obj.map("idents", 4, IDENT_SIZE)
        self._guards = obj.map(GUARDS, 4, 4)
        # The root of the hierarchy has inode 1, that of a container's view has not.
        everything = cgroup_root.stat().st_ino == 1
        scope = Scope(path_in_hierarchy(cgroup_root), everything)
        self.netns = Netns(obj, self._mark, self._bound_netns, scope)

    @classmethod
    def attach(
        cls,
        config: Config,
        *,
        cgroup_root: Path,
        leaf: Path,
        listener: Callable[[], socket.socket],
    ) -> Self:
        """Load, claim, own the listener, then redirect. Blocking: 0.1-0.3 s of CPU.

        Args:
            config: pinFolder and runFolder are used.
            cgroup_root: where connects are seen.
            leaf: the agent's own cgroup; this process must be in it.
            listener: gives the bound and listening socket; called when the port is already
                guarded and before anything is redirected to it. What it raises passes through,
                after what was new is undone.

        Raises:
            InterceptionError: what the kernel lacks or refuses, and what to do.
        """
        _check_kernel()
        pins = Pins(config.pin_folder)
        mounted = bpffs.prepare(pins.root)
        fresh = not any(pins.root.glob("v*"))
        write_state(config, leaf=leaf, mounted=mounted or was_mounted(config))
        self = None
        try:
            for folder in (pins.maps, pins.links):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self = cls(config, _load(pins.maps), cgroup_root=cgroup_root, leaf=leaf)
            self.mounted = mounted
            self._start(cgroup_root, leaf, listener)
        except BaseException as e:
            if self is not None:
                self._close()
            if fresh:
                detach(config)
            if isinstance(e, OSError):
                raise InterceptionError(f"cannot set up pins in {pins.root}: {e.strerror}") from e
            raise
        return self

    def _start(self, cgroup_root: Path, leaf: Path, listener: Callable[[], socket.socket]) -> None:
        self._attach_all(OPTIONS, leaf)
        self._claim()
        # The guard of the port stands before the port is taken: nobody slips in between.
        guards = [name for name in NEIGHBOURHOOD if name.endswith(("bind4", "bind6"))]
        self._attach_all(guards, cgroup_root)
        self.netns.own = self._netns_cookie()
        owned = listener()
        self._mark(owned)
        for endpoint in Endpoint:
            if self._targets.get(_target(endpoint)) is None:
                self._targets.set(_target(endpoint), _policy(endpoint, Mode.UNKNOWN))
        port = owned.getsockname()[1]
        self.netns.lead(self.netns.own, port)
        self._attach_all([n for n in NEIGHBOURHOOD if n not in guards], cgroup_root)
        self._set_guard(cgroup_root)
        self._pins.remove_others()

    def _set_guard(self, cgroup_root: Path) -> None:
        """Last: who is refused by the guard can be served. Where it is not wanted, it is removed,
        since an agent before this one may have left it."""
        if self._config.guard == "off":
            remove_program(self._pins.links / GUARD)
        else:
            self._attach_all([GUARD], cgroup_root)
        if self._config.guard == "interfaces":
            self._guards.set(bytes(4), struct.pack("=I", self._object.program("guard")))
            stub = self._object.program("guard_stub")
            self.guard = guard.InterfaceGuard(self._config.run_folder, stub)
        else:
            self._guards.remove(bytes(4))
            guard.remove(self._config.run_folder)

    def _claim(self) -> None:
        nonce = int.from_bytes(os.urandom(8)) or 1
        self._agent.set(b"\0" * 4, AGENT.pack(nonce, 0, 0, 0, 0, 0, 0))
        with socket.socket() as probe:
            try:
                probe.setsockopt(SOL_GPA, SO_CLAIM, struct.pack("=Q", nonce))
            except OSError as e:
                raise InterceptionError(
                    f"the kernel half does not answer in {self._leaf}: "
                    f"is this process in that cgroup? ({e.strerror})"
                ) from e

    def _netns_cookie(self) -> int:
        """Cookie of this network namespace: the guard of the port notes it when the agent binds."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
        cookie = self._bound_netns()
        if not cookie:
            raise InterceptionError(
                "the programs do not see this process: "
                "cgroupRoot must be above the cgroup it runs in"
            )
        return cookie

    def _mark(self, listener: socket.socket) -> None:
        # By descriptor: the listener may be of a cgroup of before, which answers no option of ours.
        self._marks.set(struct.pack("=i", listener.fileno()), MARK_LISTENER)

    def _bound_netns(self) -> int:
        value = self._agent.get(b"\0" * 4)
        cookie: int = AGENT.unpack(value)[2] if value else 0
        return cookie

    def _attach_all(self, names: Iterable[str], cgroup: Path) -> None:
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            identity = os.fstat(fd).st_ino
            for name in names:
                self._links[name] = self._attach_one(name, cgroup, fd, identity)
        finally:
            os.close(fd)

    def _attach_one(self, name: str, where: Path, cgroup: int, cgroup_id: int) -> libbpf.Link:
        program = self._object.program(name)
        pin = self._pins.links / name
        for folder in (self._pins.own, *self._pins.others()):
            if link := self._take_over(folder / "links" / name, program, cgroup_id):
                return link
        try:
            link = libbpf.Link.create(program, cgroup, name)
        except libbpf.BpfError as e:
            raise InterceptionError(why_refused(where, name, e)) from e
        try:
            link.pin(pin)
        except BaseException:
            link.close()
            raise
        return link

    def _take_over(self, pin: Path, program: int, cgroup_id: int) -> libbpf.Link | None:
        link = libbpf.Link.pinned(pin)
        if link is not None and link.cgroup_id() == cgroup_id:
            link.update(program)
            # In one step, mostly to itself: a link with two pins, or none, would be undone wrongly.
            pin.rename(self._pins.links / pin.name)
            return link
        if link is not None:  # of another cgroup, perhaps one that is gone
            link.detach()
            link.close()
        pin.unlink(missing_ok=True)
        return None

    def set_modes(self, modes: Mapping[Endpoint, Mode]) -> None:
        """Tell connect() what holds for each endpoint from now on."""
        for endpoint, mode in modes.items():
            self._targets.set(_target(endpoint), _policy(endpoint, mode))

    def counters(self) -> dict[str, int]:
        """Counts since the maps were made, by the names of `COUNTERS`."""
        counts = {}
        for row, name in enumerate(COUNTERS):
            value = self._counters.get(struct.pack("=I", row))
            counts[name] = struct.unpack("=Q", value)[0] if value else 0
        return counts

    @property
    def records_map(self) -> int:
        """Descriptor of the map that holds the records of sockets; owned here."""
        return self._idents.descriptor

    def is_attached(self) -> bool:
        """False when somebody detached a program, or removed the cgroup that it was attached to."""
        return all(link.cgroup_id() for link in self._links.values())

    def release(self) -> None:
        """Stop redirecting, unpin, remove the agent's cgroup: nothing stays."""
        self._close()
        detach(self._config)

    def leave(self) -> None:
        """Close our descriptors; what is pinned goes on redirecting and refusing."""
        self._close()

    def _close(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()
        self.netns.close()
        for table in (
            self._targets,
            self._agent,
            self._counters,
            self._marks,
            self._idents,
            self._guards,
        ):
            table.close()
        self._object.close()


def load(pins: Path | None, only: str = "") -> libbpf.Object:
    """Load the eBPF programs, or one of them.

    Args:
        pins: folder of the maps' pins; None: maps of its own, which end with the object.
        only: name of the program; empty: all.

    Raises:
        BpfError: the kernel refused; `libbpf.last_words` has its reason.
    """
    image = _native.bpf_object()
    try:
        return libbpf.Object(image, pins, before_5_15=False, only=only)
    except libbpf.BpfError:
        # Before 5.15 sockops has no namespace cookie: the second way is tried, no version is read.
        return libbpf.Object(image, pins, before_5_15=True, only=only)


def _load(pins: Path) -> libbpf.Object:
    try:
        return load(pins)
    except libbpf.BpfError as error:
        raise InterceptionError(
            f"the kernel refused the eBPF programs ({error}); it needs Linux 5.10 with "
            f"BTF, and this process CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (root). It said: "
            f"{libbpf.last_words()}"
        ) from error


def _check_kernel() -> None:
    if not Path("/sys/kernel/btf/vmlinux").exists():
        raise InterceptionError(
            "the kernel has no BTF (/sys/kernel/btf/vmlinux): "
            "it needs Linux 5.10 or newer with CONFIG_DEBUG_INFO_BTF"
        )
    # Not left to the load: before ff40e51043af (5.13) programs load all the same, and read zeros.
    if "[confidentiality]" in _lockdown():
        raise InterceptionError(
            "the kernel is locked down and lets no program read who calls"
            " (lockdown=confidentiality): boot with lockdown=integrity, or none"
        )


def _lockdown() -> str:
    try:
        return Path("/sys/kernel/security/lockdown").read_text()
    except OSError:  # not built in, or securityfs is not mounted: what is refused, the load tells
        return ""


def _target(endpoint: Endpoint) -> bytes:
    address, port = endpoint.address
    return struct.pack("=4sHH", ipaddress.IPv4Address(address).packed, port, 0)


def _policy(endpoint: Endpoint, mode: Mode) -> bytes:
    return struct.pack("=II", MODES[mode], endpoint is not Endpoint.IMDS)
