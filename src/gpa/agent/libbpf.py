"""The one typed door to libbpf: every call of `gpa._native.libbpf` that the agent makes.

A negative return becomes `BpfError` with errno. Nobody else imports the cffi module.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from gpa._native.libbpf import ffi, lib
from gpa.agent import verifier
from gpa.errors import InterceptionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

ATTACH_TYPES: dict[str, int] = {
    "connect4": lib.BPF_CGROUP_INET4_CONNECT,
    "connect6": lib.BPF_CGROUP_INET6_CONNECT,
    "getpeername4": lib.BPF_CGROUP_INET4_GETPEERNAME,
    "getpeername6": lib.BPF_CGROUP_INET6_GETPEERNAME,
    "bind4": lib.BPF_CGROUP_INET4_BIND,
    "bind6": lib.BPF_CGROUP_INET6_BIND,
    "post_bind4": lib.BPF_CGROUP_INET4_POST_BIND,
    "sock_create": lib.BPF_CGROUP_INET_SOCK_CREATE,
    "sockops": lib.BPF_CGROUP_SOCK_OPS,
    "getsockopt": lib.BPF_CGROUP_GETSOCKOPT,
    "setsockopt": lib.BPF_CGROUP_SETSOCKOPT,
    "egress": lib.BPF_CGROUP_INET_EGRESS,
}
"""Attach type by the program's name, which is `gpa_` and the key."""

MOST_ATTACHED: Final = 64
"""Programs of one type that the kernel attaches to one cgroup (BPF_CGROUP_MAX_PROGS)."""


class BpfError(InterceptionError):
    """A call of libbpf failed.

    Attributes:
        errno: the positive error number.
    """

    def __init__(self, what: str, number: int) -> None:
        super().__init__(f"{what}: {os.strerror(number)}")
        self.errno = number


def _check(what: str, result: int) -> int:
    if result < 0:
        raise BpfError(what, -result)
    return result


class Fd:
    """An owned descriptor of a map, program or link."""

    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        """Close it; harmless when repeated."""
        if self.number >= 0:
            os.close(self.number)
            self.number = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Map:
    """A map with keys and values of fixed size, all bytes."""

    def __init__(self, fd: Fd, key_size: int, value_size: int) -> None:
        self._fd = fd
        self._key_size = key_size
        self._value_size = value_size

    @property
    def descriptor(self) -> int:
        """Owned here."""
        return self._fd.number

    def set(self, key: bytes, value: bytes) -> None:
        """Insert or replace.

        Raises:
            BpfError: the map is full or gone.
        """
        if len(key) != self._key_size or len(value) != self._value_size:
            raise ValueError("key or value of the wrong size")
        _check("writing a map", lib.bpf_map_update_elem(self._fd.number, key, value, lib.BPF_ANY))

    def get(self, key: bytes) -> bytes | None:
        """The value, or None where there is none."""
        value = ffi.new("char[]", self._value_size)
        if lib.bpf_map_lookup_elem(self._fd.number, key, value) < 0:
            return None
        return bytes(ffi.buffer(value, self._value_size))

    def remove(self, key: bytes) -> None:
        """Remove the entry; harmless when there is none."""
        lib.bpf_map_delete_elem(self._fd.number, key)

    def keys(self) -> Iterator[bytes]:
        """All keys, in no order; bounded by the map's own size."""
        key = ffi.NULL
        while True:
            following = ffi.new("char[]", self._key_size)
            if lib.bpf_map_get_next_key(self._fd.number, key, following) < 0:
                return
            yield bytes(ffi.buffer(following, self._key_size))
            key = following

    def close(self) -> None:
        """Close the descriptor; a pinned map lives on."""
        self._fd.close()


class Ring:
    """A ring buffer of records of one size, read by one thread."""

    def __init__(self, fd: Fd, size: int) -> None:
        """Map it into memory.

        Raises:
            BpfError: there is no memory.
        """
        self._fd = fd
        self._size = size
        self._ring: Any = lib.gpa_ring_open(fd.number)
        if self._ring == ffi.NULL:
            fd.close()
            raise BpfError("opening a ring buffer", ffi.errno)

    def fileno(self) -> int:
        """Readable while there is something to take."""
        return self._fd.number

    def take(self, most: int) -> list[bytes]:
        """The oldest records, at most so many."""
        out = ffi.new("char[]", self._size * most)
        taken = _check("reading a ring", lib.gpa_ring_take(self._ring, out, self._size, most))
        data = bytes(ffi.buffer(out, self._size * taken))
        return [data[at : at + self._size] for at in range(0, len(data), self._size)]

    def close(self) -> None:
        """Unmap it; a pinned one lives on. Harmless when repeated."""
        if self._ring != ffi.NULL:
            lib.ring_buffer__free(self._ring)
            self._ring = ffi.NULL
            self._fd.close()


class Link:
    """A program attached to a cgroup."""

    def __init__(self, fd: Fd) -> None:
        self._fd = fd

    @classmethod
    def create(cls, program: int, cgroup: int, attach_type: str) -> Self:
        """Attach, beside programs of others (BPF_F_ALLOW_MULTI is what links do).

        Raises:
            BpfError: EPERM where an exclusive program is attached above or below.
        """
        fd = lib.gpa_link_create(program, cgroup, ATTACH_TYPES[attach_type])
        return cls(Fd(_check(f"attaching {attach_type}", fd)))

    @classmethod
    def pinned(cls, path: Path) -> Self | None:
        """The link pinned there, or None."""
        fd = lib.bpf_obj_get(os.fsencode(path))
        return None if fd < 0 else cls(Fd(fd))

    def cgroup_id(self) -> int:
        """Inode number of its cgroup; 0 when that is gone or the link is detached."""
        number: int = lib.gpa_link_cgroup(self._fd.number)
        return max(0, number)

    def update(self, program: int) -> None:
        """Swap the program atomically."""
        _check("swapping a program", lib.gpa_link_update(self._fd.number, program))

    def pin(self, path: Path) -> None:
        """Make it outlive this process."""
        _check(f"pinning {path}", lib.bpf_obj_pin(self._fd.number, os.fsencode(path)))

    def detach(self) -> None:
        """Detach now, whoever else holds it (Linux 5.9)."""
        lib.bpf_link_detach(self._fd.number)

    def close(self) -> None:
        """Close the descriptor; a pinned link stays attached."""
        self._fd.close()


FILTER: Final = (0x67706131, 1)
"""Handle ("gpa1", by which it is found again) and priority of our filter: the first that is
asked."""


class Interface:
    """tc egress of a network interface of this thread's network namespace."""

    def __init__(self, index: int) -> None:
        self._index = index
        lib.gpa_log_start()  # else libbpf prints what it does not find

    def make_clsact(self) -> bool:
        """Add the qdisc that filters hang on; False when somebody has.

        Raises:
            BpfError: the interface is gone, or the kernel lacks CONFIG_NET_SCH_INGRESS.
        """
        result = lib.gpa_clsact_create(self._index)
        if result == -errno.EEXIST:
            return False
        _check("adding the qdisc clsact", result)
        return True

    def remove_clsact(self) -> None:
        """Remove it, with all that hangs on it; harmless when there is none."""
        lib.gpa_clsact_destroy(self._index)

    def attach(self, program: int) -> None:
        """Put the program there, in place of one of ours.

        Raises:
            BpfError: EINVAL where a filter of another kind has the same priority.
        """
        result = lib.gpa_filter_attach(self._index, program, *FILTER)
        _check("attaching a filter", result)

    def is_attached(self) -> bool:
        """Whether a filter of ours is there."""
        return bool(lib.gpa_filter_query(self._index, *FILTER) == 0)

    def detach(self) -> None:
        """Remove ours; harmless when there is none."""
        lib.gpa_filter_detach(self._index, *FILTER)


class Object:
    """The eBPF object, opened and loaded, its maps pinned or taken over from their pins."""

    def __init__(
        self, image: bytes, pins: Path | None, *, before_5_15: bool, only: str = ""
    ) -> None:
        """Load.

        Args:
            image: the object file.
            pins: folder of the maps' pins; None: maps of its own, which end with it.
            before_5_15: tell namespaces by inode number instead of cookie.
            only: load this program and no other; empty: all.

        Raises:
            BpfError: what the kernel said last is in `log`.
        """
        lib.gpa_log_start()
        self._object: Any = lib.gpa_object_open(image, len(image))
        if self._object == ffi.NULL:
            raise BpfError("opening the eBPF object", ffi.errno)
        try:
            self._prepare(pins, before_5_15=before_5_15)
            if only:
                self._leave_out_all_but(only)
            _check("loading the eBPF object", lib.bpf_object__load(self._object))
        except BaseException:
            self.close()
            raise

    def _prepare(self, pins: Path | None, *, before_5_15: bool) -> None:
        entry = lib.bpf_object__next_map(self._object, ffi.NULL)
        while entry != ffi.NULL:
            name = ffi.string(lib.bpf_map__name(entry)).decode()
            if not lib.bpf_map__is_internal(entry):
                if pins is not None:
                    _check(
                        f"naming the pin of {name}",
                        lib.bpf_map__set_pin_path(entry, os.fsencode(pins / name)),
                    )
            elif name.endswith(".rodata"):
                value = b"\1" if before_5_15 else b"\0"
                _check(
                    "setting a constant of the eBPF object",
                    lib.bpf_map__set_initial_value(entry, value, len(value)),
                )
            entry = lib.bpf_object__next_map(self._object, entry)

    def _leave_out_all_but(self, only: str) -> None:
        program = lib.bpf_object__next_program(self._object, ffi.NULL)
        while program != ffi.NULL:
            wanted = ffi.string(lib.bpf_program__name(program)).decode() == f"gpa_{only}"
            _check("leaving out a program", lib.bpf_program__set_autoload(program, wanted))
            program = lib.bpf_object__next_program(self._object, program)

    def program(self, name: str) -> int:
        """Descriptor of a program, owned by the object."""
        program = lib.bpf_object__find_program_by_name(self._object, f"gpa_{name}".encode())
        return _check(f"finding {name}", lib.bpf_program__fd(program))

    def map(self, name: str, key_size: int, value_size: int) -> Map:
        """A map by name, with a descriptor of its own."""
        return Map(self._map_fd(name), key_size, value_size)

    def ring(self, name: str, size: int) -> Ring:
        """A ring buffer by name, with a descriptor of its own."""
        return Ring(self._map_fd(name), size)

    def _map_fd(self, name: str) -> Fd:
        entry = lib.bpf_object__find_map_by_name(self._object, name.encode())
        return Fd(os.dup(_check(f"finding {name}", lib.bpf_map__fd(entry))))

    def close(self) -> None:
        """Free it; what is attached or pinned stays."""
        if self._object != ffi.NULL:
            lib.bpf_object__close(self._object)
            self._object = ffi.NULL


def log() -> str:
    """What libbpf and the verifier said while the last object was loaded."""
    text: str = ffi.string(lib.gpa_log_text()).decode("utf-8", "replace")
    return text


def last_words() -> str:
    """What the kernel or libbpf minded about the last object, on one line."""
    return verifier.last_words(log())


def pinned_map(path: Path, key_size: int, value_size: int) -> Map | None:
    """The map pinned there, or None."""
    fd = lib.bpf_obj_get(os.fsencode(path))
    return None if fd < 0 else Map(Fd(fd), key_size, value_size)


@dataclass(frozen=True)
class Attached:
    """A program that somebody attached to a cgroup.

    Attributes:
        name: empty when it has none.
        allows_multi: it suffers others beside it and below it, and runs with them.
        allows_override: one below it runs in its stead. Neither: it is the only one, also below.
    """

    id: int
    name: str
    allows_multi: bool
    allows_override: bool


def attached_programs(cgroup: int, attach_type: str) -> list[Attached]:
    """What is attached to just this cgroup, in the order in which it runs.

    Raises:
        BpfError: the descriptor is of no cgroup v2, or the caller lacks CAP_NET_ADMIN.
    """
    flags, count = ffi.new("uint32_t *"), ffi.new("uint32_t *", MOST_ATTACHED)
    ids = ffi.new("uint32_t[]", MOST_ATTACHED)
    kind = ATTACH_TYPES[attach_type]
    done = lib.bpf_prog_query(cgroup, kind, 0, flags, ids, count)
    _check(f"asking for programs of {attach_type}", done)
    return [
        Attached(
            id=number,
            name=_program_name(number),
            allows_multi=bool(flags[0] & lib.BPF_F_ALLOW_MULTI),
            allows_override=bool(flags[0] & lib.BPF_F_ALLOW_OVERRIDE),
        )
        for number in list(ids)[: count[0]]
    ]


def _program_name(number: int) -> str:
    name = ffi.new("char[]", lib.BPF_OBJ_NAME_LEN)
    lib.gpa_program_name(number, name)
    text: str = ffi.string(name).decode("utf-8", "backslashreplace")
    return text
