import os
import socket
from pathlib import Path

import pytest

from gpa.agent.systemd import Notifier


def test_states_arrive_as_datagrams(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000"})
        notifier.ready("all\nwell")
        notifier.alive()
        notifier.stopping()
        assert sock.recv(100) == b"READY=1\nSTATUS=all\\nwell"
        assert sock.recv(100) == b"WATCHDOG=1"
        assert sock.recv(100) == b"STOPPING=1"
    assert notifier.watchdog == 2.0
    notifier.status("nobody listens any more")


def test_an_abstract_address() -> None:
    name = f"gpa-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).alive()
        assert sock.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": "vsock:1:2", "WATCHDOG_USEC": "5"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"},
    ],
)
def test_no_watchdog(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)
    notifier.alive()
    assert notifier.watchdog is None
