"""The emulator as a program: options to a running host, from the first listener to SIGTERM."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from gpa.emulator import addresses, control, scenario_file
from gpa.emulator.host import Host
from gpa.emulator.key import KeyFile
from gpa.emulator.records import Recorder
from gpa.emulator.scenario import Scenario
from gpa.emulator.server import Server
from gpa.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from gpa.emulator.addresses import Address
    from gpa.emulator.message import EndpointName


@dataclass(frozen=True, slots=True)
class Options:
    """The command line.

    Attributes:
        places: where to listen; endpoints that are not here are not served.
        ready_fd: descriptor for the line that says so; None is stdout.
    """

    places: Mapping[EndpointName, Address]
    scenario: Path | None = None
    control: Path | None = None
    record: Path | None = None
    key_file: Path | None = None
    ready_fd: int | None = None


def run(options: Options) -> None:
    """Serve until SIGTERM.

    Raises:
        GpaError: a file, an address or a flag is wrong; nothing is left behind.
    """
    trio.run(serve, options)


async def serve(options: Options) -> None:
    """The same, in a running loop."""
    scenario = scenario_file.load(options.scenario) if options.scenario else Scenario()
    initial = addresses.is_initial_namespace()
    for address in options.places.values():
        addresses.check(address, initial=initial)
    _check_ready_fd(options.ready_fd)
    _raise_descriptor_limit()
    key_file = KeyFile(options.key_file) if options.key_file else None
    recorder = Recorder(options.record)
    try:
        host = Host(scenario, key_file=key_file, recorder=recorder)
        server = Server(host, options.places, initial=initial)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            await _serve(options, server, signals)
    finally:
        recorder.close()


async def _serve(options: Options, server: Server, signals: AsyncIterator[int]) -> None:
    with contextlib.ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            if options.control:
                sock = control.open_socket(options.control)
                stack.callback(_remove, options.control)
                nursery.start_soon(control.serve, sock, server)
            _say_ready(options, server)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()


def _say_ready(options: Options, server: Server) -> None:
    document = {
        "ready": True,
        "pid": os.getpid(),
        "listening": server.places,
        "control": str(options.control) if options.control else None,
    }
    line = json.dumps(document) + "\n"
    if options.ready_fd is None:
        sys.stdout.write(line)
        sys.stdout.flush()
        return
    os.write(options.ready_fd, line.encode())
    os.close(options.ready_fd)


def _check_ready_fd(fd: int | None) -> None:
    if fd is None:
        return
    try:
        os.set_inheritable(fd, False)
    except (OSError, OverflowError) as error:
        raise UsageError(f"--ready-fd {fd} is no open descriptor") from error


def _raise_descriptor_limit() -> None:
    """A descriptor a connection: the soft limit of a shell, 1024, is fewer than may come."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * 4096 if hard == resource.RLIM_INFINITY else min(hard, 2 * 4096)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
