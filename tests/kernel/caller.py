"""Connects in many ways; standard library only, runs as anybody with `-I -S`.

`caller.py WAY ADDRESS PORT [ARGUMENT…]` prints one JSON object: `local`, `peer` and `pid` where it
connected, `error` (a name such as ECONNREFUSED) and `pid` where it did not; `heard` where it had
an answer.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import socket
import sys
import threading

TIMEOUT = 5.0
IPPROTO_MPTCP = 262
MSG_FASTOPEN = 0x20000000
SO_BINDTODEVICE = 25
TCP_FASTOPEN_CONNECT = 30
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUSER, CLONE_NEWPID = (
    0x20000,
    0x2000000,
    0x10000000,
    0x20000000,
)


def tcp(family: int = socket.AF_INET, protocol: int = 0) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM, protocol)
    made.settimeout(TIMEOUT)
    return made


def plain(to: tuple[str, int]) -> socket.socket:
    made = tcp()
    made.connect(to)
    return made


def mapped(to: tuple[str, int]) -> socket.socket:
    made = tcp(socket.AF_INET6)
    made.connect(("::ffff:" + to[0], to[1]))
    return made


def mptcp(to: tuple[str, int]) -> socket.socket:
    made = tcp(protocol=IPPROTO_MPTCP)
    made.connect(to)
    return made


def fastopen(to: tuple[str, int]) -> socket.socket:
    made = tcp()
    made.setblocking(True)
    made.sendto(b"GET ", MSG_FASTOPEN, to)
    return made


def fastopen_connect(to: tuple[str, int]) -> socket.socket:
    """The SYN may leave with the first byte only."""
    made = tcp()
    made.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    made.connect(to)
    made.send(b"GET ")
    return made


def mptcp_mapped(to: tuple[str, int]) -> socket.socket:
    made = tcp(socket.AF_INET6, IPPROTO_MPTCP)
    made.connect(("::ffff:" + to[0], to[1]))
    return made


def failed_before(to: tuple[str, int]) -> socket.socket:
    """A socket that was refused elsewhere before."""
    made = tcp()
    made.setblocking(True)  # else the next connect() tells of this one
    if made.connect_ex(("127.0.0.1", 1)) != errno.ECONNREFUSED:
        raise SystemExit("somebody listens on port 1")
    made.connect(to)
    return made


def twice(to: tuple[str, int]) -> socket.socket:
    """Connect a connected socket, then disconnect and connect it to WireServer."""
    made = tcp()
    made.setblocking(True)  # else the next connect() tells of this one
    made.connect(to)
    if made.connect_ex(("168.63.129.16", 80)) != errno.EISCONN or made.getpeername() != to:
        raise SystemExit("connected twice at once")
    disconnect(made)
    made.connect(("168.63.129.16", 80))
    return made


def shared_port(to: tuple[str, int]) -> socket.socket:
    """A local port that we chose, which another socket has as well."""
    made, other = tcp(), tcp()
    for one in (made, other):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", int(sys.argv[4])))
    made.connect(to)
    # Elsewhere to us, but the same listener behind it: the four numbers are taken.
    if other.connect_ex(("168.63.129.16", 80)) != errno.EADDRNOTAVAIL:
        raise SystemExit("two connections of the same four numbers")
    return made


def namespaces(to: tuple[str, int]) -> socket.socket:
    """From user, mount, cgroup and pid namespaces of our own, as root and process 2 in there."""
    flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWPID
    user = f"0 {os.getuid()} 1"
    if ctypes.CDLL(None).unshare(flags):
        raise SystemExit("no namespaces")
    with open("/proc/self/uid_map", "w") as table:  # noqa: PTH123 - no pathlib here
        table.write(user)
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        if os.getpid() != 1 or os.getuid() != 0:
            os._exit(1)
        made = plain(to)
        socket.send_fds(theirs, [b"x"], [made.fileno()])
        os._exit(0)
    theirs.close()
    _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
    os.waitpid(child, 0)
    told["pid"] = child
    return socket.socket(fileno=fd)


def moved(to: tuple[str, int]) -> socket.socket:
    """The socket is made here, and connected in another cgroup."""
    made = tcp()
    with open(sys.argv[4], "w") as procs:  # noqa: PTH123 - no pathlib here
        procs.write("0")
    made.connect(to)
    return made


def talk(to: tuple[str, int]) -> socket.socket:
    """TCP with an answer."""
    made = plain(to)
    made.send(b"hello")
    told["heard"] = made.recv(100).decode()
    return made


def datagram(to: tuple[str, int]) -> socket.socket:
    """UDP with an answer, unconnected and connected."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(TIMEOUT)
    made.sendto(b"hello", to)
    answer, source = made.recvfrom(100)
    if source != to:
        raise SystemExit(f"answered by {source}")
    made.connect(to)
    made.send(b"hello")
    told["heard"] = (answer + b" " + made.recv(100)).decode()
    return made


def nonblocking(to: tuple[str, int]) -> socket.socket:
    made = tcp()
    made.setblocking(False)
    code = made.connect_ex(to)
    if code not in (0, errno.EINPROGRESS):
        raise OSError(code, os.strerror(code))
    select.select([], [made], [], TIMEOUT)
    code = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    return made


def thread(to: tuple[str, int]) -> socket.socket:
    result: list[socket.socket | OSError] = []

    def work() -> None:
        try:
            result.append(plain(to))
        except OSError as trouble:
            result.append(trouble)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    if isinstance(result[0], OSError):
        raise result[0]
    return result[0]


def bound(to: tuple[str, int]) -> socket.socket:
    made = tcp()
    made.bind((sys.argv[4], 0))
    made.connect(to)
    return made


def bound6(to: tuple[str, int]) -> socket.socket:
    made = tcp(socket.AF_INET6)
    made.bind(("::", 0))
    made.connect(("::ffff:" + to[0], to[1]))
    return made


def device(to: tuple[str, int]) -> socket.socket:
    made = tcp()
    made.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, sys.argv[4].encode() + b"\0")
    made.connect(to)
    return made


def disconnect(used: socket.socket) -> None:
    """connect() with AF_UNSPEC: the socket is as new (connect(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.connect(used.fileno(), (ctypes.c_char * 16)(), 16):
        raise OSError(ctypes.get_errno(), "disconnect")


def launder(to: tuple[str, int]) -> socket.socket:
    """Connect as root, disconnect, drop root, connect the same socket to the listener."""
    made = plain(to)
    disconnect(made)
    os.setresuid(int(sys.argv[4]), int(sys.argv[4]), int(sys.argv[4]))
    made.connect(("127.0.0.1", 3080))
    return made


def drop(to: tuple[str, int]) -> socket.socket:
    """Connect as root, then become the uid named."""
    made = plain(to)
    os.setresuid(int(sys.argv[4]), int(sys.argv[4]), int(sys.argv[4]))
    return made


def passed(to: tuple[str, int]) -> socket.socket:
    """Another uid uses the connected descriptor: a forked child that gave up root."""
    made = plain(to)
    child = os.fork()
    if child == 0:
        os.setresuid(int(sys.argv[4]), int(sys.argv[4]), int(sys.argv[4]))
        made.send(b"GET ")
        os._exit(0)
    os.waitpid(child, 0)
    return made


def forge(to: tuple[str, int]) -> socket.socket:
    """Try to take the agent's privileges: exemption, a claim."""
    made = tcp()
    for option in (2, 3):
        try:
            made.setsockopt(0x6770, option, b"\1" * 8)
        except OSError as trouble:
            if trouble.errno != errno.ENOPROTOOPT:
                raise
        else:
            raise SystemExit(f"option {option} was granted")
    made.connect(to)
    try:
        made.getsockopt(0x6770, 1, 256)
    except OSError:
        return made
    raise SystemExit("the record was told")


def squat(_: tuple[str, int]) -> socket.socket:
    """Bind the agent's port by every family and address; succeeds only if all are refused."""
    for family, address in (
        (socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0"),  # noqa: S104 - the attack
        (socket.AF_INET, "127.0.0.2"),
        (socket.AF_INET6, "::"),
        (socket.AF_INET6, "::ffff:127.0.0.1"),
        (socket.AF_INET6, "::1"),
    ):
        with socket.socket(family) as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                made.bind((address, 3080))
            except PermissionError:
                continue
            raise SystemExit(f"bound {address}")
    raise PermissionError(errno.EPERM, "refused everywhere")


def flood(to: tuple[str, int]) -> socket.socket:
    """Half-open connections: to a port nobody answers on, until the quota refuses."""
    made = []
    for _ in range(int(sys.argv[4])):
        one = tcp()
        one.setblocking(False)
        code = one.connect_ex(to)
        made.append(one)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
    return made[-1]


told: dict[str, object] = {"pid": os.getpid()}
"""What is printed."""


def main() -> None:
    way, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    try:
        with globals()[way]((address, port)) as made:
            told.update(local=made.getsockname(), peer=made.getpeername())
    except OSError as trouble:
        told["error"] = errno.errorcode.get(trouble.errno or 0, str(trouble))
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
