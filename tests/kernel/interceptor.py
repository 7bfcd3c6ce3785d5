"""The kernel half without the relay: attaches, accepts, and says on stdout who the kernel named.

`interceptor.py CONFIG CGROUP_ROOT`: started as root inside a laboratory. Prints one JSON object a
line: `{"ready": …}`, then one per accepted connection. Commands on stdin, one a line: `mode audit`,
`pause`, `resume` (stop and start accepting), `close` (the listener), `counters`, `quit` (leaves the
pins), `release`.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
from collections import deque
from pathlib import Path
from typing import Any

from gpa import config
from gpa._native import records
from gpa.agent.interception import SOL_GPA, Interception
from gpa.endpoints import Endpoint, Mode

SO_IDENT = 1


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def identity(connection: socket.socket) -> dict[str, Any] | None:
    try:
        record = connection.getsockopt(SOL_GPA, SO_IDENT, records.IDENT_SIZE)
    except OSError:
        return None
    return dict(records.decode_caller(record))


def main() -> None:
    settings = config.load(Path(sys.argv[1]))
    root = Path(sys.argv[2])
    leaf = root / "service" / "gpa.agent"
    leaf.mkdir(exist_ok=True)
    (leaf / "cgroup.procs").write_text(str(os.getpid()))
    listener = socket.socket()

    def listen() -> socket.socket:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 3080))
        listener.listen(4096)
        return listener

    half = Interception.attach(settings, cgroup_root=root, leaf=leaf, listener=listen)
    half.set_modes(dict.fromkeys(Endpoint, Mode.ENFORCE))
    say(ready=os.getpid())
    accepting = True
    held: deque[socket.socket] = deque(maxlen=64)
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)
    poll.register(listener, select.POLLIN)
    number = listener.fileno()
    while True:
        for fd, _ in poll.poll():
            if fd == number:
                connection, peer = listener.accept()
                say(accepted=identity(connection), peer=peer)
                # Kept open for a while: the caller may still ask its socket.
                held.append(connection)
                continue
            word, _, rest = sys.stdin.readline().strip().partition(" ")
            if word == "mode":
                half.set_modes(dict.fromkeys(Endpoint, Mode(rest)))
            elif word == "pause" and accepting:
                poll.unregister(number)
                accepting = False
            elif word == "resume" and not accepting:
                poll.register(number, select.POLLIN)
                accepting = True
            elif word == "close":
                if accepting:
                    poll.unregister(number)
                listener.close()
            elif word == "counters":
                say(counters=half.counters())
                continue
            elif word == "release":
                half.release()
                say(released=True)
                return
            else:
                half.leave()
                return
            say(done=word)


if __name__ == "__main__":
    main()
