"""A host that answers with whatever bytes the request names: run in the laboratory's host.

It listens on ADDRESS PORT and reads a folder: a request for `/NAME…` is answered with the bytes of
the file `NAME`, written in the pieces that `NAME.json` lists: `[[bytes, seconds]…]`, each followed
by that pause; then it closes, if `NAME.json` ends with `"close"`. One line on stdout for each
request: connection, request on it, target. Standard library only.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import sys
import threading
import time
from pathlib import Path

FOLDER = Path(sys.argv[3])
numbers = itertools.count(1)


def serve(link: socket.socket, connection: int) -> None:
    """Requests without a body, one after the other."""
    said = b""
    for request in itertools.count(1):
        while b"\r\n\r\n" not in said:
            more = link.recv(1 << 16)
            if not more:
                return
            said += more
        head, _, said = said.partition(b"\r\n\r\n")
        target = head.split(b" ")[1].decode()
        print(json.dumps([connection, request, target]), flush=True)
        name = target[1:].partition("?")[0]
        answer = (FOLDER / name).read_bytes()
        for step in json.loads((FOLDER / f"{name}.json").read_text()):
            if step == "close":
                return
            length, pause = step
            link.sendall(answer[:length])
            answer = answer[length:]
            time.sleep(pause)


def handle(link: socket.socket, connection: int) -> None:
    """One connection; a caller that goes away is no matter."""
    with link, contextlib.suppress(OSError):
        serve(link, connection)


def main() -> None:
    """Accept for ever."""
    listener = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=512)
    print("ready", flush=True)
    while True:
        link, _ = listener.accept()
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=handle, args=(link, next(numbers)), daemon=True).start()


if __name__ == "__main__":
    main()
