"""What stays in the kernel when the agent has gone, and how it is taken away: pins, the agent's
cgroup, a mounted BPF filesystem. Needs no agent; `interception.py` makes all of it.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpa.agent import bpffs, guard, libbpf
from gpa.agent.files import write_atomically
from gpa.errors import InterceptionError

if TYPE_CHECKING:
    from gpa.config import Config

LAYOUT: Final = 2
"""`GPA_PINS` of bpf/record.h."""

OPTIONS: Final = ("setsockopt", "getsockopt")
"""Attached to the agent's own cgroup."""

NEIGHBOURHOOD: Final = (
    "bind4",
    "bind6",
    "post_bind4",
    "sockops",
    "sock_create",
    "getpeername4",
    "getpeername6",
    "connect6",
    "connect4",
)
"""Attached to cgroupRoot, in this order; removed in the reverse order."""

GUARD: Final = "egress"
"""Attached to cgroupRoot after all others and removed before them, where the configuration wants
it; `guards` is the map that names the program of the interfaces (guard.py)."""

GUARDS: Final = "guards"

STATE_FILE: Final = "interception.json"
"""In the run folder: what `detach` must undo besides the pins."""


@dataclass(frozen=True)
class Pins:
    """Where the pins are.

    Attributes:
        root: `pinFolder`.
    """

    root: Path

    @property
    def own(self) -> Path:
        """The folder of this layout."""
        return self.root / f"v{LAYOUT}"

    @property
    def maps(self) -> Path:
        """One file a map."""
        return self.own / "maps"

    @property
    def links(self) -> Path:
        """One file an attached program."""
        return self.own / "links"

    def others(self) -> list[Path]:
        """Folders of other layouts, which an older or newer agent has left."""
        return [folder for folder in sorted(self.root.glob("v*")) if folder != self.own]

    def remove_others(self) -> None:
        """Take away what an agent of another layout has left, when its programs were taken over."""
        for folder in self.others():
            _remove_layout(folder)


def detach(config: Config) -> list[str]:
    """Take away all that an agent with this configuration has in the kernel; needs no agent.

    Returns:
        What was removed, in order; empty when there was nothing.
    """
    removed = []
    folder = config.pin_folder
    # The guard goes before what it guards; at the interfaces it does nothing without its map.
    for version in folder.glob("v*"):
        guards = libbpf.pinned_map(version / "maps" / GUARDS, 4, 4)
        if guards is not None:
            guards.remove(bytes(4))
            guards.close()
    removed += guard.remove(config.run_folder)
    for version in sorted(folder.glob("v*")):
        removed += _remove_layout(version)
    state = _read_state(config)
    if state.get("mounted") and folder.exists():
        bpffs.unmount(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()
    leaf = state.get("leaf")
    if isinstance(leaf, str) and _remove_leaf(Path(leaf)):
        removed.append(f"cgroup {leaf}")
    (config.run_folder / STATE_FILE).unlink(missing_ok=True)
    return removed


def _remove_layout(folder: Path) -> list[str]:
    removed = []
    # The redirect goes first: a connect in between goes where it went before, never to a dead port.
    present = {p.name for p in (folder / "links").glob("*")}
    known = (GUARD, *reversed(NEIGHBOURHOOD), *reversed(OPTIONS))
    order = [name for name in known if name in present]
    for name in (*order, *sorted(present.difference(order))):
        remove_program(folder / "links" / name)
        removed.append(f"program {name}")
    for pin in sorted((folder / "maps").glob("*")):
        pin.unlink(missing_ok=True)
        removed.append(f"map {pin.name}")
    for part in (folder / "links", folder / "maps", folder):
        with contextlib.suppress(OSError):
            part.rmdir()
    return removed


def remove_program(pin: Path) -> None:
    """Detach the program whose link is pinned there, if one is."""
    link = libbpf.Link.pinned(pin)
    if link is not None:
        link.detach()
        link.close()
    pin.unlink(missing_ok=True)


def _remove_leaf(leaf: Path) -> bool:
    """Remove the agent's cgroup; a process that is in it (this one, at its end) moves up first."""
    try:
        here = str(os.getpid()) in (leaf / "cgroup.procs").read_text().split()
        if here:
            (leaf.parent / "cgroup.procs").write_text(str(os.getpid()))
        leaf.rmdir()
    except OSError:
        return False
    return True


def write_state(config: Config, *, leaf: Path, mounted: bool) -> None:
    """Note for `detach` what is not a pin, before it is made.

    Raises:
        InterceptionError: the run folder cannot be written.
    """
    try:
        state = json.dumps({"leaf": str(leaf), "mounted": mounted}).encode()
        write_atomically(config.run_folder / STATE_FILE, state, 0o600)
    except OSError as e:
        raise InterceptionError(
            f"cannot write {config.run_folder}/{STATE_FILE}: {e.strerror}"
        ) from e


def _read_state(config: Config) -> dict[str, object]:
    try:
        state = json.loads((config.run_folder / STATE_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def was_mounted(config: Config) -> bool:
    """True when an agent before this one had to mount the BPF filesystem of `pinFolder`."""
    return bool(_read_state(config).get("mounted"))
