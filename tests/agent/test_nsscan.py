"""How network namespaces are found, in a procfs made for it and on the machine at hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import trio
import trio.testing

from gpa.agent.netns import Netns
from gpa.agent.nsscan import Home, MountWatch, Scope, inum_of, pids_are_the_kernels, scan, tables

if TYPE_CHECKING:
    from pathlib import Path

MOUNTS = r"""
22 1 0:21 / /proc rw - proc proc rw
90 1 0:4 net:[4026532001] /run/netns/a\040b rw shared:7 - nsfs nsfs rw
91 1 0:4 net:[4026531840] /run/netns/ours rw - nsfs nsfs rw
92 1 0:4 mnt:[4026532002] /run/snapd/ns/x.mnt rw - nsfs nsfs rw
93 1 0:4 net:[4026532003] /fake rw - tmpfs nsfs rw
"""


def make_process(proc: Path, pid: int, uid: int, cgroup: str) -> int:
    """Its namespace is a plain file; the inode number is what counts."""
    folder = proc / str(pid)
    (folder / "ns").mkdir(parents=True)
    (folder / "ns/net").touch()
    (folder / "cgroup").write_text(f"12:devices:/x\n0::{cgroup}\n")
    (folder / "status").write_text(f"Name:\tx\nUid:\t{uid}\t0\t0\t0\n")
    return (folder / "ns/net").stat().st_ino


def test_namespaces_are_found_by_mount_and_by_process(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_text(MOUNTS.lstrip())
    inside = make_process(tmp_path, 5, 7, "/vm/users")
    outside = make_process(tmp_path, 6, 8, "/vm2")
    own = make_process(tmp_path, 7, 0, "/vm")
    (tmp_path / "8/ns").mkdir(parents=True)  # it ends just now

    homes = scan(own, Scope("/vm", everything=False), tmp_path)
    assert homes.pop(4026531840).path == "/run/netns/ours"
    assert homes == {
        4026532001: Home("/run/netns/a b", 0, wanted=False),
        inside: Home(f"{tmp_path}/5/ns/net", 7, wanted=True),
        outside: Home(f"{tmp_path}/6/ns/net", 0, wanted=False),
    }
    everything = scan(own, Scope("/", everything=True), tmp_path)
    assert all(home.wanted for home in everything.values())
    assert tables(inside, tmp_path) == tmp_path / "5/net"
    assert tables(1, tmp_path) == tmp_path / "none"


def test_this_process_is_described_as_it_is() -> None:
    own = inum_of("/proc/self/ns/net")
    assert own not in scan(own, Scope("/", everything=True))
    assert pids_are_the_kernels() == (inum_of("/proc/self/ns/pid") == 0xEFFFFFFC)


async def test_mounts_that_do_not_change_wake_nobody() -> None:
    watch = MountWatch()
    with trio.move_on_after(0.05) as scope:
        await trio.lowlevel.wait_readable(watch.fileno())
    assert scope.cancelled_caught
    watch.close()
    watch.close()


def test_connections_are_reset_only_where_somebody_is_intercepted() -> None:
    """What others do in namespaces of theirs is no business of ours."""
    homes = {2: Home("/proc/5/ns/net", 7, wanted=True), 3: Home("/proc/6/ns/net", 0, wanted=False)}
    door = cast("Netns", SimpleNamespace(scan=lambda: homes))
    makers = Netns.netlink_elsewhere(door)
    assert [getattr(make, "args", None) for make in makers] == [("/proc/5/ns/net",)]
