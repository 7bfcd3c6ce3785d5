"""What an attacker may read, plant and have written."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.attacks.conftest import INSTANCE, eventually

from gpa.demo.lab import Place
from gpa.errors import UnavailableError

if TYPE_CHECKING:
    from tests.attacks.conftest import Stand

pytestmark = pytest.mark.kernel

ATTACKER = 4021

PROBE = """
told = []
with tcp() as made:
    for option in (1, 2, 3, 4):
        try:
            made.setsockopt(0x6770, option, bytes(8))
            told.append("granted")
        except OSError as trouble:
            told.append(errno.errorcode[trouble.errno])
    made.connect(IMDS)
    try:
        told.append(made.getsockopt(0x6770, 1, 256).hex())
    except OSError as trouble:
        told.append(errno.errorcode[trouble.errno])
    try:
        squat = tcp()
        squat.bind(LISTENER)
        told.append("bound")
    except OSError as trouble:
        told.append(errno.errorcode[trouble.errno])
tell(told)
"""

PEEK = """
told = []
for name in ("mem", "environ", "maps", "auxv", "fd", "map_files", "exe", "root", "stack"):
    path = f"/proc/{ARGUMENTS[0]}/{name}"
    try:
        os.listdir(path) if name in ("fd", "map_files") else (
            os.readlink(path) if name in ("exe", "root") else open(path, "rb").read(1)
        )
        told.append(name)
    except OSError:
        pass
for folder in ARGUMENTS[1:]:
    try:
        os.listdir(folder)
        told.append(folder)
    except OSError:
        pass
if libc.ptrace(16, int(ARGUMENTS[0]), None, None) == 0:
    told.append("ptrace")
tell(told)
"""


@pytest.mark.parametrize("uid", [0, ATTACKER])
@pytest.mark.parametrize("cgroup", ["vm/service", "vm/service/gpa.agent"])
def test_process_in_the_agents_cgroup_learns_nothing(stand: Stand, uid: int, cgroup: str) -> None:
    *options, record, bound = stand.attack(uid, PROBE, place=Place("vm", cgroup))
    assert set(options) == {"ENOPROTOOPT"}
    assert record in {"ENOTSUP", "EOPNOTSUPP"}  # two names of one number: what the kernel said
    assert bound in {"EPERM", "EADDRINUSE"}


def test_agents_process_and_folders_are_closed_to_others(stand: Stand) -> None:
    agent = stand.agent
    folders = [agent.key_folder, agent.rules_folder, agent.folder / "run", stand.lab.pins]
    assert stand.attack(ATTACKER, PEEK, agent.pid, *folders) == []


def test_key_is_in_its_file_alone(stand: Stand) -> None:
    """Not in logs, status, rules or records, nor on the command line or in the environment."""
    (file,) = stand.agent.key_folder.glob("*.key")
    key = json.loads(file.read_text())["key"]
    assert re.fullmatch("[0-9A-Fa-f]{64}", key)
    assert file.stat().st_mode & 0o777 == 0o600
    needles = [key.lower().encode(), key.upper().encode(), bytes.fromhex(key)]
    proc = f"/proc/{stand.agent.pid}"
    places = [p for p in stand.agent.folder.rglob("*") if p.is_file() and p != file]
    assert len(places) > 5
    for place in [*places, Path(proc, "cmdline"), Path(proc, "environ")]:
        data = place.read_bytes()
        assert not any(needle in data for needle in needles), place
        assert b"Azure-HMAC-SHA256 " not in data, place


def dumps(pid: int, folder: Path) -> bool:
    """Does this process leave its memory behind when it crashes?"""
    with contextlib.suppress(PermissionError):  # who may raise limits may ask it for a core
        no_limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(pid, resource.RLIMIT_CORE, no_limit)
    before = set(folder.iterdir())
    os.kill(pid, signal.SIGSEGV)
    assert eventually(lambda: not is_running(pid))
    cores = set(folder.iterdir()) - before
    for core in cores:
        core.unlink()
    return bool(cores)


def is_running(pid: int) -> bool:
    """A zombie has written its core."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_crash_leaves_no_core(stand: Stand) -> None:
    agent = stand.agent
    folder = Path(f"/proc/{agent.pid}/cwd").resolve()
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], cwd=folder
    ) as other:
        if not dumps(other.pid, folder):
            pytest.skip("nobody's core is written into the working folder here")
    assert not dumps(agent.pid, folder)
    agent.kill()  # it is dead: this waits for it
    agent.start()
    agent.wait_provisioned()
    assert stand.attack(ATTACKER, "tell(attempt(ARGUMENTS[0]))", INSTANCE) == 200


def test_logs_are_not_for_everybody(stand: Stand) -> None:
    for file in stand.agent.log_folder.iterdir():
        assert file.stat().st_mode & 0o007 == 0, file


def test_nothing_is_injected_into_a_log(stand: Stand) -> None:
    """Control characters, ends of lines and quotes in the name, the words and the target."""
    mark = secrets.token_hex(6)
    code = f"""
name = b'x\\n"}}{{\\x1b[2J{mark[:4]}'
libc.prctl(15, name, 0, 0, 0)
targets = ["?a=%0a%0d%22%7b", "?\\x1b[31m", "\\n2026-11-23 [INFO] fine", "?\\xff\\xfe"]
tell([attempt("/{mark}" + target, WIRESERVER) for target in targets])
"""
    words = f'"}}\n{{"decision": "allow", "m": "{mark}"}}\n'
    told = stand.attack(ATTACKER, code, words, "\x1b]0;x\x07")
    assert told[0] == 403
    assert set(told[1:]) <= {400, 403}
    assert eventually(lambda: stand.audited(mark))
    for file in stand.agent.log_folder.iterdir():
        data = file.read_bytes()
        assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", data), file
        if file.name == "audit.jsonl":
            records = [json.loads(line) for line in data.splitlines()]
            assert all(r["decision"] != "allow" for r in records if mark in json.dumps(r))
        elif file.suffix == ".log":
            stamp = re.compile(rb"\d{4}-\d\d-\d\dT|\{")
            assert all(stamp.match(line) for line in data.splitlines()), file


def test_links_planted_in_its_folders_are_not_followed(stand: Stand) -> None:
    """Log, status, lock and state as links to a file that matters: refused or replaced."""
    agent = stand.agent
    precious = stand.lab.folder / "precious"
    precious.write_text("precious")
    agent.stop()
    for place in (
        agent.log_folder / "audit.jsonl",
        agent.log_folder / "ProxyAgent.log",
        agent.log_folder / "status.json",
        agent.folder / "run" / "agent.lock",
        agent.folder / "run" / "interception.json",
    ):
        place.unlink(missing_ok=True)
        place.symlink_to(precious)
        with contextlib.suppress(UnavailableError):  # it may refuse to start
            agent.start()
            agent.wait_provisioned()
            stand.attack(ATTACKER, "tell(attempt(ARGUMENTS[0]))", INSTANCE)
            agent.stop()
        assert precious.read_text() == "precious", place
        if place.is_symlink():
            place.unlink()
    agent.start()
    agent.wait_provisioned()
    assert stand.attack(ATTACKER, "tell(attempt(ARGUMENTS[0]))", INSTANCE) == 200
