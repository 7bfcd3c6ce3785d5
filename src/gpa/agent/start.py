"""From a configuration to a running agent: the only place that puts the real parts together.

Order: the right to run, the folders, the lock, the leaf cgroup, and only then the first socket.
"""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio

from gpa import _native
from gpa._native import records
from gpa.agent import host, older, rows
from gpa.agent.cgroup import find_default_root, find_leaf
from gpa.agent.files import RotatingFile
from gpa.agent.interception import Interception
from gpa.agent.listener import open_listener, take_over
from gpa.agent.lock import AgentLock
from gpa.agent.log import Level, Log
from gpa.agent.namespaces import is_elsewhere
from gpa.agent.rules import HostPolicy
from gpa.agent.service import Agent
from gpa.agent.systemd import Kept, Notifier, kept_sockets
from gpa.agent.tools import Tools
from gpa.errors import HostUnreachableError, NotRootError
from gpa.rules.executables import Executables
from gpa.rules.resolve import SystemUsers
from gpa.trust import make_folder

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from gpa._native import SigningKey
    from gpa.agent.cgroup import Leaf
    from gpa.config import Config

LOG_NAME: Final = "ProxyAgent.log"

MAX_DESCRIPTORS: Final = 1 << 20
"""What the kernel lets a process have (fs.nr_open); `RLIMIT_NOFILE` may have no bound at all."""

ACQUIRE_SECONDS: Final = 10.0
"""For the answer that holds the key, from the first byte sent on."""


def run(config: Config) -> None:
    """Run the agent until it is told to stop.

    Raises:
        GpaError: it could not start; nothing is left behind.
    """
    if os.geteuid() != 0:
        raise NotRootError("gpa run needs root: it attaches eBPF programs and keeps keys (sudo)")
    kept = kept_sockets()
    _native.harden()
    _allow_descriptors()
    for folder, mode in (
        (config.run_folder, 0o700),
        (config.latch_key_folder, 0o700),
        (config.rules_folder, 0o700),
        (config.log_folder, 0o755),
    ):
        make_folder(folder, mode)
    lock = AgentLock.take(config.run_folder)
    try:
        file = RotatingFile(config.log_folder / LOG_NAME)
        log = Log(file, Level[config.file_log_level.upper()])
        for warning in config.warnings:
            log.warn(warning)
        try:
            _run_in_leaf(config, log, kept)
        finally:
            file.close()
    finally:
        lock.release()


def _allow_descriptors() -> None:
    """As many as we may have: the usual 1,024 are the connections of one busy program."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _run_in_leaf(config: Config, log: Log, kept: Kept) -> None:
    if not config.cgroup_root_is_explicit:
        config = replace(config, cgroup_root=find_default_root(config.cgroup_root))
    leaf = find_leaf(config.cgroup_root)
    leaf.enter()
    executables = Executables()
    relay = None
    try:
        relay = _native.Relay(
            config.relay_threads, config.request_body_limit, config.request_body_budget
        )
        tools = Tools(
            relay=relay,
            snapshot=_native.Snapshot,
            attach=_attacher(config, leaf, log),
            listener=_listener_maker([k for k in kept if not is_elsewhere(k[0])], log),
            kept_elsewhere=[k for k in kept if is_elsewhere(k[0])],
            connect=lambda: host.connect(_native.exempt),
            keys=NativeKeys(config.latch_key_folder),
            policy=HostPolicy(
                config.rules_folder,
                lambda table: _native.Snapshot(0, table),
                SystemUsers(),
                executables,
            ),
            split=rows.split,
            decode_caller=records.decode_caller,
            reset_older=older.reset_everywhere,
        )
        agent = Agent(config, tools, log, Notifier(has_kept=bool(kept)), _native.__version__)
        with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C, while stopping
            trio.run(agent.run)
    finally:
        executables.close()
        leaf.go_back()


def _listener_maker(kept: Kept, log: Log) -> Callable[[], socket.socket]:
    left = list(kept)

    def make() -> socket.socket:
        found = take_over(left)
        left.clear()
        if found is None:
            return open_listener()
        log.info("took over the listener that the service manager kept")
        return found

    return make


def _attacher(
    config: Config, leaf: Leaf, log: Log
) -> Callable[[Callable[[], socket.socket]], Interception]:
    def attach(listener: Callable[[], socket.socket]) -> Interception:
        # A failed try moves us out and removes the leaf.
        leaf.enter()
        made = Interception.attach(
            config, cgroup_root=config.cgroup_root, leaf=leaf.path, listener=listener
        )
        # Half a megabyte of what reading and loading the programs took.
        _native.give_back_memory()
        if made.mounted:
            log.warn(
                f"pinFolder {config.pin_folder} was on no BPF filesystem: one is mounted there and "
                "what is pinned ends with this mount namespace; choose a folder below /sys/fs/bpf"
            )
        return made

    return attach


class NativeKeys:
    """Keys in files, read and written by the native half; only handles come here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def load(self, guid: str) -> SigningKey:
        """See `host.KeyStore`."""
        return await trio.to_thread.run_sync(_native.SigningKey.load, self._path(guid))

    async def acquire(self, stream: trio.abc.Stream, date: str) -> SigningKey:
        """See `host.KeyStore`."""
        if not isinstance(stream, trio.SocketStream):
            raise HostUnreachableError("a key can only be asked for on a socket")
        return await trio.to_thread.run_sync(
            _native.acquire_key, stream.socket.fileno(), self._folder, ACQUIRE_SECONDS, date
        )

    def _path(self, guid: str) -> Path:
        """The key's file; the host writes the guid now in these letters and now in those."""
        wanted = f"{guid}.key".lower()
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if path.name.lower() == wanted:
                    return path
        return self._folder / f"{guid}.key"
