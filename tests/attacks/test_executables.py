"""Attacks on which program one is: a rule lets one program in, the attacker runs another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.attacks.attacker import IMDS, head
from tests.attacks.conftest import NAMED, TOKEN, eventually
from tests.kernel.conftest import PYTHON

if TYPE_CHECKING:
    from tests.attacks.conftest import Stand

pytestmark = pytest.mark.kernel

ATTACKER = 4001
PYTHON_FILE = Path(PYTHON).resolve()
UNSUPPORTED = 77
"""Exit code of borrow.c."""

ASK = "tell(attempt(ARGUMENTS[0]))"

EXEC_RACE = """
connection = connected()
connection.setblocking(True)
os.set_inheritable(connection.fileno(), True)
code = '''
import os, socket, sys
with socket.socket(fileno=int(sys.argv[1])) as connection:
    connection.sendall(sys.argv[2].encode())
    print(os.readlink("/proc/self/exe") == sys.argv[3] and int(connection.recv(65536)[9:12]))
'''
allowed, target = ARGUMENTS
words = [str(connection.fileno()), head(target).decode(), allowed]
os.execv(allowed, [allowed, "-I", "-S", "-c", code, *words])
"""

# Root only lends a hand: who waits long enough gets the pid again anyway.
PID_REUSE = """
allowed, target, uid = ARGUMENTS[0], ARGUMENTS[1], int(ARGUMENTS[2])
for _ in range(20):
    mine, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        become(uid)
        connection = connected()
        socket.send_fds(theirs, [b"x"], [connection.fileno()])
        os._exit(0)
    _, (fd,), _, _ = socket.recv_fds(mine, 1, 1)
    os.waitpid(pid, 0)
    try:
        again = fork_as(pid)
    except OSError:
        os.close(fd)  # taken by somebody else: again
        continue
    if again == 0:
        become(uid)
        os.execv(allowed, [allowed, "-I", "-S", "-c", "import time; time.sleep(20)"])
    break
said = ""
for _ in until(5):
    if said == allowed:
        break
    said = os.readlink(f"/proc/{pid}/exe")
become(uid)
with socket.socket(fileno=fd) as connection:
    connection.settimeout(SECONDS)
    tell([again == pid, said == allowed, ask(connection, target), pid])
os.kill(pid, signal.SIGKILL)
"""

BIND_MOUNT = """
CLONE_NEWNS, CLONE_NEWUSER, MS_BIND, MS_PRIVATE_ALL = 0x20000, 0x10000000, 0x1000, 0x44000
allowed, target, private = ARGUMENTS[:3]
if len(ARGUMENTS) == 3:
    if private == "user":
        check(libc.unshare(CLONE_NEWNS | CLONE_NEWUSER))
    else:
        check(libc.unshare(CLONE_NEWNS))
        check(libc.mount(b"none", b"/", None, MS_PRIVATE_ALL, None))
    mine = os.readlink("/proc/self/exe")
    check(libc.mount(mine.encode(), allowed.encode(), None, MS_BIND, None))
    if private != "user":
        become(int(private))
    os.execv(allowed, [allowed, "-I", "-S", "-c", sys.orig_argv[4], *ARGUMENTS, "again"])
tell([os.readlink("/proc/self/exe") == allowed, attempt(target)])
"""


def test_the_rule_holds_for_the_program(stand: Stand) -> None:
    """What the attacks below would win is there to be won."""
    for target in (TOKEN, NAMED):
        assert stand.attack(ATTACKER, ASK, target, program=stand.allowed) == 200
        assert stand.attack(ATTACKER, ASK, target) == 403


@pytest.mark.parametrize("target", [TOKEN, NAMED])
def test_exec_after_connect(stand: Stand, target: str) -> None:
    """Who connected, and not what the process became."""
    assert stand.attack(ATTACKER, EXEC_RACE, stand.allowed, target) == 403


@pytest.mark.parametrize("target", [TOKEN, NAMED])
def test_pid_of_who_connected_is_given_to_the_allowed_program(stand: Stand, target: str) -> None:
    """/proc/PID/exe says the allowed program; neither the decision nor the record believes it."""
    again, said, status, pid = stand.attack(0, PID_REUSE, stand.allowed, target, ATTACKER)
    assert (again, said) == (True, True), "the attack was never made"
    assert status == 403
    (record,) = eventually(lambda: [r for r in stand.audited(target[:20]) if r.get("pid") == pid])
    assert (record["uid"], record["exe"]) == (ATTACKER, PYTHON_FILE.name)
    assert record.get("path") != str(stand.allowed)


@pytest.mark.parametrize("target", [TOKEN, NAMED])
@pytest.mark.parametrize("private", ["user", str(ATTACKER)])
def test_bind_mount_over_the_allowed_path(stand: Stand, target: str, private: str) -> None:
    """The path says the allowed program in a mount namespace of the attacker's own."""
    uid = ATTACKER if private == "user" else 0
    told = stand.attack(uid, BIND_MOUNT, stand.allowed, target, private)
    assert told == [True, 403]


@pytest.mark.parametrize("target", [TOKEN, NAMED])
@pytest.mark.parametrize("way", ["alone", "shared", "handed"])
def test_executable_put_in_place_by_prctl(stand: Stand, target: str, way: str) -> None:
    """The kernel itself names the allowed program, in a user namespace, and for who shares its
    memory with one that is in there, also in the initial one; opened by the attacker, or by the
    kernel for a handler of binfmt_misc that the attacker registered in that namespace."""
    borrow = stand.build("borrow.c")
    argv: list[str | Path] = [borrow, way, stand.allowed, *map(str, IMDS), head(target).decode()]
    done = stand.lab.run_as(ATTACKER, ATTACKER, argv)
    if done.returncode == UNSUPPORTED:
        pytest.skip("no binfmt_misc in user namespaces in this kernel")
    called, _, answer = done.stdout.partition("\n")
    assert called == str(stand.allowed), "the trick itself does not work here"
    assert answer.startswith("HTTP/1.1 403 ")
