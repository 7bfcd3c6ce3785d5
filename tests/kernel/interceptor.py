"""The kernel half without the relay: attaches, accepts, and says on stdout who the kernel named.

`interceptor.py CONFIG CGROUP_ROOT`: started as root inside a laboratory. Prints one JSON object a
line: `{"ready": …}`, then one per accepted connection. Commands on stdin, one a line: `mode audit`,
`pause`, `resume` (stop and start accepting), `close` (the listener), `counters`, `census EXPECTED`
(see `Census`), `quit` (leaves the pins), `release`.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

from gpa import config
from gpa._native import records
from gpa.agent.interception import SOL_GPA, Interception
from gpa.endpoints import Endpoint, Mode

SO_IDENT = 1
CLAIM = struct.Struct("=IIIIQ")
"""What tests/attacks/crowd.c says of itself: uid, worker, number, pid, inode of its program."""
CENSUS_SECONDS = 180


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def identity(connection: socket.socket) -> dict[str, Any] | None:
    try:
        record = connection.getsockopt(SOL_GPA, SO_IDENT, records.IDENT_SIZE)
    except OSError:
        return None
    return dict(records.decode_caller(record))


class Census:
    """Counts who connects: each claims on the connection to be somebody, or says nothing.

    Attributes:
        claims: how often each (worker, number) was heard; once is right.
        wrong: claims that the kernel contradicts.
        silent: connections without a claim, by the uid that the kernel names.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.claims: Counter[tuple[int, int]] = Counter()
        self.wrong: list[str] = []
        self.silent: Counter[int] = Counter()
        self._listener = listener
        self._open: dict[int, tuple[socket.socket, dict[str, Any] | None]] = {}
        self._poll = select.epoll()
        self._poll.register(listener, select.EPOLLIN)

    def take(self, expected: int) -> None:
        """Until so many claims were heard, or for `CENSUS_SECONDS`."""
        end = time.monotonic() + CENSUS_SECONDS
        while len(self.claims) < expected and time.monotonic() < end:
            for fd, _ in self._poll.poll(0.1, 256):
                if fd == self._listener.fileno():
                    connection, _ = self._listener.accept()
                    # Asked for at once: what is said later must not change it.
                    self._open[connection.fileno()] = connection, identity(connection)
                    self._poll.register(connection, select.EPOLLIN)
                else:
                    self._hear(*self._open.pop(fd))
        self._poll.close()
        for connection, _ in self._open.values():
            connection.close()

    def _hear(self, connection: socket.socket, who: dict[str, Any] | None) -> None:
        with connection:
            self._poll.unregister(connection)
            try:
                said = connection.recv(CLAIM.size)
            except ConnectionError:
                said = b""
        if who is None or who["direct"] or who["uid"] != who["euid"] or not who["exe"]:
            self.wrong.append(f"said {said!r}, is {who}")
        elif not said:
            self.silent[who["uid"]] += 1
        else:
            uid, worker, number, pid, inode = CLAIM.unpack(said)
            self.claims[worker, number] += 1
            if (uid, pid, inode) != (who["uid"], who["tgid"], who["exe"][1]):
                self.wrong.append(f"said {uid}, {pid}, {inode}, is {who}")


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
            elif word == "census":
                census = Census(listener)
                census.take(int(rest))
                say(
                    claims=len(census.claims),
                    twice=census.claims.total() - len(census.claims),
                    wrong=len(census.wrong),
                    some=census.wrong[:5],
                    silent=census.silent,
                )
                continue
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
