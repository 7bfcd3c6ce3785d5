"""What figures need: a release build, and a place in a laboratory from which to take them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpa import config
from gpa.agent import cgroup
from gpa.agent.interception import Interception
from gpa.demo.lab import SERVICE, Lab, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Stand = Callable[[Place], AbstractContextManager[None]]


@pytest.fixture(scope="session", autouse=True)
def release_build() -> None:
    """A figure of a debug build says nothing: refuse to take one."""
    native = pytest.importorskip("gpa._native", reason="the native library is not built")
    assert native.PROFILE == "release", "build with `make build`"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def stand(lab: Lab) -> Stand:
    """Make this process stand in a place of the laboratory, and step back at the end.

    What counts for a socket is where it is made: the client that is timed is this process.
    """

    @contextlib.contextmanager
    def stand_in(place: Place) -> Iterator[None]:
        with open("/proc/self/ns/net") as home:  # noqa: PTH123
            try:
                _join(lab.netns(place.netns))
                with _member_of(lab.cgroup / place.cgroup):
                    yield
            finally:
                _setns(home.fileno())

    return stand_in


@pytest.fixture(scope="module")
def listener(lab: Lab, stand: Stand) -> Iterator[socket.socket]:
    """The agent's, with the kernel half attached: this process is the agent and accepts."""
    settings = replace(
        config.Config(),
        pin_folder=lab.pins / "bench",
        run_folder=lab.make_folder("bench-run"),
    )
    leaf = cgroup.Leaf(lab.cgroup / SERVICE.cgroup / "bench", lab.cgroup / SERVICE.cgroup)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stand(SERVICE))
        leaf.enter()
        stack.callback(leaf.go_back)
        made: list[socket.socket] = []

        def listen() -> socket.socket:
            made.append(stack.enter_context(socket.create_server(("127.0.0.1", 3080))))
            return made[0]

        interception = Interception.attach(
            settings, cgroup_root=lab.attach_point, leaf=leaf.path, listener=listen
        )
        stack.callback(interception.release)
        made[0].settimeout(5)
        yield made[0]


@contextlib.contextmanager
def _member_of(cgroup: Path) -> Iterator[None]:
    # The line of cgroup v2 starts with "0::"; below which mount does not matter, the lab knows.
    here = next(
        line[3:]
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if line.startswith("0::")
    )
    mount = _mount_of(cgroup)
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (mount / here.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))


def _mount_of(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.is_mount())


def _join(netns: Path) -> None:
    with netns.open() as file:
        _setns(file.fileno())


def _setns(fd: int) -> None:
    # os.setns() is there from Python 3.12 on.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, 0):
        raise OSError(ctypes.get_errno(), "setns")
