"""Interception in small: the agent's own code attaches it to the trial's cgroup, and a connect() to
a protected address must arrive with its caller's name.

It happens in a process of its own, `python -m gpa.doctor.capture CGROUP`, started by unshare(1) in
a network namespace without wires, so that nothing can leave, and in a mount namespace, whose end
takes the pins along.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpa._native import records
from gpa.agent.cgroup import LEAF_NAME, Leaf
from gpa.agent.interception import SOL_GPA, Interception
from gpa.config import Config
from gpa.doctor.finding import Finding, failure, ok, warning
from gpa.endpoints import Endpoint
from gpa.errors import GpaError, InterceptionError

if TYPE_CHECKING:
    from gpa.doctor.machine import Machine

SO_IDENT: Final = 1
"""GPA_SO_IDENT of bpf/record.h."""

SCRATCH: Final = Path("/run")
"""Covered by an empty filesystem in the mount namespace; nothing of Python's lives there."""

CONNECT_SECONDS: Final = 3.0
TRIAL_SECONDS: Final = 30.0
"""It takes half a second, on a machine that is not busy."""

UNTRIED: Final = 3
"""Exit code: the namespaces could not be furnished."""

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def check_capture(machine: Machine, cgroup: Path, lock: int) -> Finding:
    """Have it tried in a process of its own, and judge what it says.

    Args:
        machine: where unshare(1) is looked for.
        cgroup: the trial's.
        lock: the descriptor by which the trial lives, as long as that process does, too.
    """
    tool = machine.find_tool("unshare")
    if tool is None:
        return warning("capture", "not tried: there is no unshare(1)", "install util-linux")
    try:
        done = subprocess.run(
            [tool, "--mount", "--net", sys.executable, "-P", "-m", __name__, str(cgroup)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=TRIAL_SECONDS,
            env={**os.environ, "PATH": machine.path},
            pass_fds=(lock,),
        )
    except subprocess.TimeoutExpired:
        return judge(None, f"it took longer than {TRIAL_SECONDS:g} s")
    return judge(done.returncode, (done.stderr.strip().splitlines() or ["it says nothing"])[-1])


def judge(code: int | None, said: str) -> Finding:
    """From its exit code, None when it did not end, and its last words on stderr."""
    if code == 0:
        return ok("capture", "a connect was redirected, and the kernel named its caller")
    if code == UNTRIED or said.startswith("unshare:"):
        return warning(
            "capture",
            f"not tried: {said}",
            "try it where root may make namespaces and mount (CAP_SYS_ADMIN)",
        )
    return failure(
        "capture",
        f"a connect that should be intercepted is not, or comes without its caller's name: {said}",
        "mend what fails above; where nothing does, look at cgroup-v2 and neighbours: another"
        " program on the hook may change what ours does",
    )


def main(cgroup: Path) -> int:
    """Inside the namespaces."""
    try:
        _furnish()
    except OSError as error:
        sys.stderr.write(f"{error.strerror or error}\n")
        return UNTRIED
    except subprocess.CalledProcessError as error:
        sys.stderr.write(error.stderr)
        return UNTRIED
    try:
        _try(cgroup)
    except (GpaError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return InterceptionError.exit_code
    return 0


def _furnish() -> None:
    """lo up, and room for pins and state."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = bytearray(struct.pack("=16sH22x", b"lo", 0))
        fcntl.ioctl(any_socket, SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("=H", request, 16)
        struct.pack_into("=H", request, 16, flags | IFF_UP)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, request)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "mode=0700", "gpa", str(SCRATCH)],
        check=True,
        capture_output=True,
        text=True,
    )


def _try(cgroup: Path) -> None:
    leaf = Leaf(path=cgroup / LEAF_NAME, start=cgroup)
    leaf.enter()
    config = Config(pin_folder=SCRATCH / "pins", run_folder=SCRATCH)
    listener = socket.socket()

    def listen() -> socket.socket:
        # Not the agent's port: one that runs may serve this namespace, too.
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        listener.settimeout(CONNECT_SECONDS)
        return listener

    with listener:
        half = Interception.attach(config, cgroup_root=cgroup, leaf=leaf.path, listener=listen)
        try:
            with socket.create_connection(Endpoint.IMDS.address, timeout=CONNECT_SECONDS):
                _check_identity(listener, leaf.path)
        finally:
            half.release()


def _check_identity(listener: socket.socket, leaf: Path) -> None:
    accepted, _ = listener.accept()
    with accepted:
        caller = records.decode_caller(accepted.getsockopt(SOL_GPA, SO_IDENT, records.IDENT_SIZE))
    # Pids differ between pid namespaces; the cgroup is this process's alone.
    if (caller["uid"], caller["cgroup_id"]) != (os.getuid(), leaf.stat().st_ino):
        raise InterceptionError(f"the kernel named uid {caller['uid']}, {caller['comm']!r}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
