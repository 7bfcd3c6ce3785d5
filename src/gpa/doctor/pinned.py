"""Where pins live, whether an agent runs, and what one has left in the kernel."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpa.agent.lock import NAME as LOCK_NAME
from gpa.agent.lock import holder_pid
from gpa.agent.pins import LAYOUT, Pins
from gpa.doctor.finding import Finding, failure, ok, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpa.config import Config
    from gpa.doctor.machine import Machine

USUAL: Final = Path("/sys/fs/bpf")
"""Where every distribution has its BPF filesystem."""


def check_folder(machine: Machine, config: Config) -> Iterator[Finding]:
    """Is `pinFolder` on a BPF filesystem, or would one be mounted there."""
    folder = config.pin_folder
    there = next(p for p in (folder, *folder.parents) if p.exists())
    mount = machine.mount_of(there)
    if mount is not None and mount.kind == "bpf":
        yield ok("pin-folder", f"{folder} is on the BPF filesystem of {mount.point}")
        return
    known = machine.read(machine.proc / "filesystems") or ""
    if "bpf" not in known.split():
        yield failure(
            "pin-folder",
            f"pinFolder {folder} is on no BPF filesystem, and this kernel has none",
            "boot a kernel with CONFIG_BPF_SYSCALL=y",
        )
        return
    if there != folder and (trouble := _try_to_make(there)):
        yield failure(
            "pin-folder",
            f"pinFolder {folder} is on no BPF filesystem and cannot be made: {trouble}",
            _mount_it(folder),
        )
        return
    yield warning(
        "pin-folder",
        f"pinFolder {folder} is on no BPF filesystem: the agent would mount one there, and what is"
        " pinned would end with the mount namespace of its start",
        _mount_it(folder),
    )


def _try_to_make(parent: Path) -> str:
    """Make a folder there and remove it: sysfs, where no BPF filesystem is mounted, looks writable
    and is not. The error, empty when it worked."""
    trial = parent / f"gpa.doctor.{secrets.token_hex(4)}"
    try:
        trial.mkdir(mode=0o700)
        trial.rmdir()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _mount_it(folder: Path) -> str:
    mount = f"mount -t bpf bpf {USUAL}"
    if folder.is_relative_to(USUAL):
        return f"{mount} (systemd does so at boot)"
    return f"{mount}, and name a folder below it as pinFolder"


def check_agent(machine: Machine, config: Config) -> Iterator[Finding]:
    """Does one run, as its lock tells."""
    del machine
    pid = holder_pid(config.run_folder)
    if pid is None:
        yield ok("agent", f"none runs (nobody holds {config.run_folder / LOCK_NAME})")
    else:
        yield ok("agent", f"one runs, pid {pid or 'unknown'}")


def check_pins(
    config: Config, *, running: bool, cgroup_of: Callable[[Path], int]
) -> Iterator[Finding]:
    """What is pinned, and does it do its work.

    Args:
        config: pinFolder and cgroupRoot are used.
        running: an agent runs.
        cgroup_of: the id of the cgroup to which a pinned link is attached; 0 when it is not.
    """
    try:
        layouts = sorted(path.name for path in config.pin_folder.glob("v*"))
    except OSError:
        layouts = []
    if not layouts:
        if running:
            yield failure(
                "pins",
                "the agent runs, and nothing is pinned: it waits for something, or was detached",
                f"look into {config.log_folder}/ProxyAgent.log, then restart the agent",
            )
        else:
            yield ok("pins", f"nothing is pinned in {config.pin_folder}")
        return
    for layout in layouts:
        if layout != f"v{LAYOUT}":
            yield warning(
                f"pins {layout}",
                f"programs of another version of the agent are pinned (layout {layout}, this one"
                f" has v{LAYOUT})",
                "start the agent, which takes them over, or take them away with gpa detach",
            )
    links = Pins(config.pin_folder).links
    if links.parent.exists():
        yield _judge_links(links, running=running, cgroup_of=cgroup_of)


def _judge_links(links: Path, *, running: bool, cgroup_of: Callable[[Path], int]) -> Finding:
    present = {path.name for path in links.glob("*")}
    at_work = {name for name in present if cgroup_of(links / name)}
    name = f"pins v{LAYOUT}"
    if not running and at_work:
        return warning(
            name,
            f"an agent that has stopped left {len(at_work)} programs at work: connects to what is"
            " enforced are refused until the next start",
            "start the agent, or take them away with gpa detach",
        )
    if not running:
        return warning(
            name,
            f"pins in {links} are left that do nothing: their cgroup is gone",
            "start the agent, or take them away with gpa detach",
        )
    if idle := sorted(present - at_work):
        return failure(
            name,
            f"the agent runs, but not attached are {', '.join(idle)}: callers go around it",
            "restart the agent",
        )
    return ok(name, f"{len(at_work)} programs are attached and pinned in {links}")
