import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gpa.agent.systemd import Notifier

# Descriptors have fixed numbers, so it is another process that is given them.
CHILD = """
import json, os, sys
from gpa.agent.systemd import kept_sockets
for number, pid in enumerate(map(int, sys.argv[2:]), 3):
    os.dup2(pid, number)
os.environ |= {"LISTEN_PID": str(os.getpid()), **json.loads(sys.argv[1])}
kept = kept_sockets()
print(json.dumps({
    "kept": [[name, sock.getsockname()] for name, sock in kept],
    "inherited": [sock.get_inheritable() for _, sock in kept],
    "again": len(kept_sockets()),
    "left": [name for name in os.environ if name.startswith("LISTEN_")],
}))
"""


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


def given(environment: dict[str, str], *descriptors: int) -> dict[str, object]:
    """What a process takes of these descriptors, numbered from 3 on."""
    words = [sys.executable, "-c", CHILD, json.dumps(environment), *map(str, descriptors)]
    done = subprocess.run(words, pass_fds=descriptors, capture_output=True, check=True)
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_kept_sockets_come_with_their_names_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, Path(os.devnull).open() as no_socket:
        # High numbers: the child's copies at 3 and 4 must not hide them.
        descriptors = [fcntl.fcntl(fd, fcntl.F_DUPFD, 50) for fd in (one, no_socket)]
        told = given({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "gpa-listener:x"}, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        assert told == {
            "kept": [["gpa-listener", list(one.getsockname())]],
            "inherited": [False],
            "again": 0,
            "left": [],
        }


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "-1"},
        {"LISTEN_FDS": "many"},
        {"LISTEN_FDS": "70000"},
    ],
)
def test_what_is_not_for_us_is_not_taken(environment: dict[str, str]) -> None:
    told = given(environment)
    assert (told["kept"], told["left"]) == ([], [])


def test_a_stored_socket_travels_with_its_name(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        manager.bind(path)
        manager.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": path})
        notifier.store("gpa-listener", listener)
        data, descriptors, _, _ = socket.recv_fds(manager, 100, 4)
        assert data == b"FDSTORE=1\nFDNAME=gpa-listener\nFDPOLL=0"
        with socket.socket(fileno=descriptors[0]) as copy:
            assert copy.getsockname() == listener.getsockname()
        notifier.forget("gpa-listener")
        assert manager.recv(100) == b"FDSTOREREMOVE=1\nFDNAME=gpa-listener"


@pytest.mark.parametrize(
    ("environment", "has_kept", "keeps"),
    [
        ({"NOTIFY_SOCKET": "/x"}, False, False),
        ({"NOTIFY_SOCKET": "/x"}, True, True),
        ({"NOTIFY_SOCKET": "/x", "FDSTORE": "0"}, False, False),
        ({"NOTIFY_SOCKET": "/x", "FDSTORE": "16"}, False, True),
        ({"FDSTORE": "16"}, True, False),
    ],
)
def test_whether_the_manager_keeps_sockets(
    environment: dict[str, str], has_kept: bool, keeps: bool
) -> None:
    notifier = Notifier(environment, has_kept=has_kept)
    assert notifier.keeps is keeps
    with socket.socket() as some:
        notifier.store("gpa-listener", some)  # nobody listens
