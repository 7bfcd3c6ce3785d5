"""A cgroup's path to the words that operators know: systemd unit, slice, container.

For people only. Of nested names the outermost counts: whoever has a part of the hierarchy for
himself (a user's own manager, a container) names what is below as he likes.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_UNIT: Final = (".service", ".scope", ".socket", ".mount", ".swap")
_ID: Final = re.compile(r"(?:^|[-:])([0-9a-f]{64})(?:\.scope)?$")
"""`docker-ID.scope`, `cri-containerd-ID.scope`, `libpod-ID.scope`, `…:cri-containerd:ID`, and the
bare id of runtimes that make their cgroups without systemd."""
_MONITOR: Final = re.compile(r"^(?:libpod|crio)-conmon-")
"""The process that watches a container, in a scope that has its id."""
_LXC: Final = re.compile(r"^lxc\.payload[./](.+)$")
_MACHINE: Final = re.compile(r"^(?:machine-(.+)\.scope|systemd-nspawn@(.+)\.service)$")
_ESCAPE: Final = re.compile(r"\\x([0-9a-f]{2})")


class Unit(NamedTuple):
    """What a cgroup is called; empty where it has no such name.

    Attributes:
        unit: systemd's, with its escapes, as `systemctl` wants it.
        slice: the one that the unit is in.
        container: the runtime's id, or a name (LXC, systemd-machined).
    """

    unit: str
    slice: str
    container: str


NO_UNIT: Final = Unit("", "", "")


def parse(path: str) -> Unit:
    """Words for a path below the mount of cgroup v2."""
    parts = [part for part in path.split("/") if part]
    unit, inner = "", ""
    for part in parts:
        name = part.removeprefix("_")  # systemd's escape for names that the kernel might use
        if name.endswith(".slice"):
            inner = name
        elif name.endswith(_UNIT):
            unit = name
            break
        else:
            break
    return Unit(unit, inner, next(filter(None, map(_container, parts, ["", *parts])), ""))


def _container(part: str, above: str) -> str:
    if _MONITOR.match(part):
        return ""
    if found := _ID.search(part):
        return found[1]
    if found := _LXC.match(part):
        return found[1]
    if above == "lxc":
        return part
    if above == "machine.slice" and (found := _MACHINE.match(part)):
        return _ESCAPE.sub(lambda code: chr(int(code[1], 16)), found[1] or found[2])
    return ""
