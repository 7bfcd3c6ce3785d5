"""Says bytes to addresses, and tells what came back: run in the laboratory, jobs on stdin as JSON.

A job is `{to: [address, port], pieces: [base64…], pause, methods, wait, shut}`: the pieces are
sent `pause` seconds apart, then `shut` closes the sending side; heard until there is an answer to
each of `methods`, the far side closes, or nothing came for `wait` seconds. Without methods it
closes at once.
Standard library only.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

THREADS = 24
SURPLUS_SECONDS = 0.01
"""How long is listened for bytes that nobody should send behind the last answer."""


def answered(methods: list[str], data: bytes) -> bool:
    """Whether each has its final answer in `data`; as far as a length or no body frames it."""
    methods = methods.copy()
    while methods and (end := data.find(b"\r\n\r\n")) >= 0:
        lines = data[:end].split(b"\r\n")
        status = lines[0].split(b" ")[1]
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in lines[1:])
        }
        length = int(fields.get(b"content-length", b"0"))
        if methods[0] == "HEAD" or status in {b"204", b"304"} or status.startswith(b"1"):
            length = 0
        if b"transfer-encoding" in fields or len(data) < end + 4 + length:
            break
        data = data[end + 4 + length :]
        if not status.startswith(b"1"):
            methods.pop(0)
    return not methods


def speak(job: dict[str, Any]) -> dict[str, Any]:
    heard, end = b"", "timeout"
    began = time.monotonic()
    try:
        with socket.create_connection(tuple(job["to"]), timeout=5) as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for number, piece in enumerate(job["pieces"]):
                    if number and job.get("pause"):
                        time.sleep(job["pause"])
                    link.sendall(base64.b64decode(piece))
                if job.get("shut"):
                    link.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused before all was said: the answer counts
            methods = job.get("methods", ["GET"])
            link.settimeout(job.get("wait", 5))
            while methods:
                if answered(methods, heard) and b"\r\nConnection: close\r\n" not in heard:
                    link.settimeout(SURPLUS_SECONDS)
                try:
                    more = link.recv(1 << 16)
                except TimeoutError:
                    break
                if not more:
                    end = "closed"
                    break
                heard += more
    except OSError as error:
        end = type(error).__name__
    told = base64.b64encode(heard).decode()
    return {"heard": told, "end": end, "seconds": time.monotonic() - began}


def main() -> None:
    """Do all jobs, many at a time."""
    jobs = json.load(sys.stdin)
    with ThreadPoolExecutor(THREADS) as pool:
        json.dump(list(pool.map(speak, jobs)), sys.stdout)


if __name__ == "__main__":
    main()
