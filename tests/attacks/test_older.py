"""Who was connected before the agent came goes around it, until the host enforces."""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.attacks.conftest import INSTANCE, eventually
from tests.attacks.test_life_cycle import ONE, set_mode

from gpa.demo.lab import GUEST, VM, Place

if TYPE_CHECKING:
    from tests.attacks.conftest import Stand

pytestmark = pytest.mark.kernel

UID = 4021

HOLD = """
held = [connected(), tcp(socket.AF_INET6)]
held[1].connect(("::ffff:" + IMDS[0], IMDS[1]))
tell([os.fstat(made.fileno()).st_ino for made in held])
for line in sys.stdin:
    told = []
    for made in held:
        try:
            made.sendall(head(line.strip()).replace(b"Connection: close\\r\\n", b""))
            told.append(int(made.recv(65536)[9:12]))
        except OSError as trouble:
            told.append(errno.errorcode[trouble.errno])
    tell(told)
"""


def ask(holder: subprocess.Popen[str], target: str) -> Any:
    """A request on each connection: the statuses of the answers, or errors."""
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write(target + "\n")
    holder.stdin.flush()
    return json.loads(holder.stdout.readline())


def kept_connections(stand: Stand) -> set[str]:
    """Inodes of the agent's established connections to IMDS."""
    sockets = set()
    for fd in Path(f"/proc/{stand.agent.pid}/fd").iterdir():
        try:
            sockets.add(str(fd.readlink()))
        except OSError:
            continue
    rows = Path(f"/proc/{stand.agent.pid}/net/tcp").read_text().splitlines()[1:]
    there = {f[9] for row in rows if (f := row.split())[2:4] == ["FEA9FEA9:0050", "01"]}
    return {inode for inode in there if f"socket:[{inode}]" in sockets}


def test_older_connections_end_where_the_host_enforces(stand: Stand) -> None:
    log = stand.agent.log_folder / "ProxyAgent.log"
    mark = secrets.token_hex(4)
    set_mode(stand, "audit")
    assert stand.agent.stop() == 0
    holder = stand.spawn(UID, HOLD, stdin=subprocess.PIPE)
    assert holder.stdout is not None
    inodes = json.loads(holder.stdout.readline())
    stand.agent.start()
    stand.agent.wait_provisioned()

    # Audited: their right; a request of somebody else leaves a connection of the agent's.
    assert ask(holder, f"{INSTANCE}&m={mark}") == [200, 200]
    assert stand.attack(UID, ONE, INSTANCE) == 200
    kept = kept_connections(stand)
    assert kept
    assert f"inode {inodes[0]} " not in log.read_text()

    set_mode(stand, "enforce")
    words = [f"uid {UID} inode {inode} to 169.254.169.254:80" for inode in inodes]
    assert eventually(lambda: all(w in log.read_text() for w in words)), log.read_text()[-2000:]
    (line,) = [line for line in log.read_text().splitlines() if words[0] in line]
    assert "2 older connections reset: " in line
    assert set(ask(holder, f"{INSTANCE}&m={mark}.late")) == {"ECONNABORTED"}
    assert not stand.arrived(f"{mark}.late")
    assert kept <= kept_connections(stand)
    assert stand.attack(UID, ONE, INSTANCE) == 200
    holder.kill()
    holder.wait()


@pytest.mark.parametrize("netns", [VM.netns, GUEST.netns])
def test_older_connections_end_when_an_enforcing_agent_starts(stand: Stand, netns: str) -> None:
    """Known modes hold from the first moment: the host need not answer again. Another network
    namespace with a way to the host is no hiding place."""
    set_mode(stand, "enforce")
    stand.agent.stop()
    assert stand.agent.detach().returncode == 0
    place = Place(netns, VM.cgroup)
    holder = stand.spawn(UID, HOLD, stdin=subprocess.PIPE, place=place)
    assert holder.stdout is not None
    assert len(json.loads(holder.stdout.readline())) == 2
    stand.agent.start()
    assert eventually(lambda: set(ask(holder, INSTANCE)) <= {"ECONNABORTED", "EPIPE"})
    holder.kill()
    holder.wait()
