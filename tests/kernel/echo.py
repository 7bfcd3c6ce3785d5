"""The host's addresses with somebody behind them: says what it heard and from whom."""

from __future__ import annotations

import select
import socket

IMDS, WIRESERVER = "169.254.169.254", "168.63.129.16"
STREAMS = [(IMDS, 80), *((WIRESERVER, port) for port in (80, 53, 443, 8080, 32525, 32526, 32527))]
DATAGRAMS = [(WIRESERVER, port) for port in (53, 67, 80)]


def main() -> None:
    """Answer until killed."""
    poll, sockets = select.poll(), {}
    for kind, places in ((socket.SOCK_STREAM, STREAMS), (socket.SOCK_DGRAM, DATAGRAMS)):
        for place in places:
            made = socket.socket(socket.AF_INET, kind)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(place)
            if kind == socket.SOCK_STREAM:
                made.listen(64)
            sockets[made.fileno()] = made
            poll.register(made, select.POLLIN)
    print("listening", flush=True)
    while True:
        for fd, _ in poll.poll():
            ready = sockets[fd]
            if ready.type == socket.SOCK_DGRAM:
                data, source = ready.recvfrom(100)
                ready.sendto(data + b" " + source[0].encode(), source)
            elif ready.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                one, _ = ready.accept()
                sockets[one.fileno()] = one
                poll.register(one, select.POLLIN)
            else:
                poll.unregister(fd)
                with sockets.pop(fd):
                    if data := ready.recv(100):
                        ready.sendall(data + b" " + ready.getpeername()[0].encode())


if __name__ == "__main__":
    main()
