"""A host for figures: answers every request with the same 1 KiB, as fast as Python can.

Run as a program: `plain_host.py ADDRESS PORT`. It reads heads only, so requests must have no body.
Beside the emulator it hides nothing: what is left of a round trip is the way there and back.
"""

from __future__ import annotations

import selectors
import socket
import sys

BODY = b"x" * 1024
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + BODY
SIGNED = b"HTTP/1.1 200 OK\r\nX-Was-Signed: yes\r\nContent-Length: 1024\r\n\r\n" + BODY


def serve(address: str, port: int) -> None:
    """Until it is killed."""
    ready = selectors.DefaultSelector()
    listener = socket.create_server((address, port), backlog=1024)
    listener.setblocking(False)
    ready.register(listener, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in ready.select():
            if key.fileobj is listener:
                accepted, _ = listener.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.register(accepted, selectors.EVENT_READ, bytearray())
            elif isinstance(connection := key.fileobj, socket.socket):
                try:
                    data = connection.recv(65536)
                except OSError:
                    data = b""
                if not data:
                    ready.unregister(connection)
                    connection.close()
                    continue
                key.data.extend(data)
                while (end := key.data.find(b"\r\n\r\n")) >= 0:
                    head = bytes(key.data[:end]).lower()
                    del key.data[: end + 4]
                    signed = b"\r\nx-ms-azure-host-authorization: azure-hmac-sha256 " in head
                    connection.sendall(SIGNED if signed else ANSWER)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
