"""The wiring: a host, a VM, and a guest nested in the VM, each a network namespace.

    host  lo 169.254.169.254, 168.63.129.16   eth0 192.0.2.1
      |
    VM    eth0 192.0.2.2   eth1 198.51.100.1, forwards
      |
    guest eth0 198.51.100.2

Addresses are those for documentation (RFC 5737). Nowhere is a default route: nothing can leave.
Namespaces are kept by files of the laboratory instead of ip(8)'s /run/netns, which ip(8) turns into
a mount that stays behind. Interfaces are made inside the namespaces and die with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gpa.demo.machine import tool

if TYPE_CHECKING:
    from pathlib import Path

PROTECTED: Final = ("169.254.169.254", "168.63.129.16")
"""The addresses at which the host offers its services (docs/protocol.md, "Endpoints")."""

HOST, VM, GUEST = "host", "vm", "guest"

_HOST_ETH, _VM_ETH = "192.0.2.1", "192.0.2.2"
_VM_INNER, _GUEST_ETH = "198.51.100.1", "198.51.100.2"
_INNER_NET: Final = "198.51.100.0/30"


def add(folder: Path, name: str) -> Path:
    """Make a network namespace with lo up; the file that keeps it is returned.

    Raises:
        CannotCreateError: the kernel or a tool refuses it.
    """
    keeper = folder / name
    keeper.touch(exist_ok=False)
    tool(["unshare", f"--net={keeper}", "ip", "link", "set", "lo", "up"])
    return keeper


def wire(folder: Path) -> None:
    """Make the three namespaces below `folder` and connect them.

    Raises:
        CannotCreateError: the kernel or a tool refuses it.
    """
    host, vm, guest = (add(folder, name) for name in (HOST, VM, GUEST))
    _ip(
        host,
        *(f"address add {address}/32 dev lo" for address in PROTECTED),
        f"link add eth0 type veth peer name eth0 netns {vm}",
        f"address add {_HOST_ETH}/30 dev eth0",
        "link set eth0 up",
        f"route add {_INNER_NET} via {_VM_ETH}",
    )
    _ip(
        vm,
        f"address add {_VM_ETH}/30 dev eth0",
        "link set eth0 up",
        *(f"route add {address}/32 via {_HOST_ETH}" for address in PROTECTED),
        f"link add eth1 type veth peer name eth0 netns {guest}",
        f"address add {_VM_INNER}/30 dev eth1",
        "link set eth1 up",
    )
    _ip(
        guest,
        f"address add {_GUEST_ETH}/30 dev eth0",
        "link set eth0 up",
        *(f"route add {address}/32 via {_VM_INNER}" for address in PROTECTED),
    )
    tool(enter(vm, "tee", "/proc/sys/net/ipv4/ip_forward"), "1")


def enter(keeper: Path, *words: str) -> list[str]:
    """The command `words` inside the namespace that the file keeps."""
    return ["nsenter", f"--net={keeper}", "--", *words]


def _ip(keeper: Path, *lines: str) -> None:
    tool(enter(keeper, "ip", "-batch", "-"), "\n".join(lines) + "\n")
