"""A real client: `client.py REQUEST` makes one HTTP request and prints what came of it, both JSON.

It runs under copies of the interpreter, so that each program of a scene is a file of its own. It
starts as root and becomes the user itself, before or after connect(): the standard library may lie
where that user cannot read, so that everything is imported before. No import of gpa.

REQUEST: `uid`, `gid`, `groups`; `drop` (`before` or `after` connect()); `family` (`inet`, or
`inet6` for a v4-mapped address); `address`, `port`, `method`, `target`, `fields`, `timeout` in
seconds; `socket`, a descriptor to use instead of a new one, and whether it is `connected`.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import time
from typing import Any

MAX_BODY = 1 << 20
"""More is not read: no answer of the demo is that long."""


def main(request: dict[str, Any]) -> dict[str, object]:
    """Ask, and tell what was answered and how long that took, from connect() to the last byte."""
    result: dict[str, object] = {"status": None, "fields": {}, "body": "", "error": None}
    family = socket.AF_INET6 if request["family"] == "inet6" else socket.AF_INET
    address = f"::ffff:{request['address']}" if request["family"] == "inet6" else request["address"]
    if request["drop"] == "before":
        become(request)
    start = time.perf_counter_ns()
    try:
        with socket.socket(family, socket.SOCK_STREAM, fileno=request.get("socket")) as connection:
            connection.settimeout(request["timeout"])
            if not request.get("connected"):
                connection.connect((address, request["port"]))
            if request["drop"] == "after":
                become(request)
            connection.sendall(head(request))
            answer = http.client.HTTPResponse(connection, method=request["method"])
            answer.begin()
            result["status"] = answer.status
            result["fields"] = {name.lower(): value for name, value in answer.getheaders()}
            result["body"] = answer.read(MAX_BODY).decode("utf-8", "replace")
            answer.close()
    except (OSError, http.client.HTTPException) as error:
        result["error"] = str(error) or type(error).__name__
    result["microseconds"] = (time.perf_counter_ns() - start) // 1000
    return result


def become(request: dict[str, Any]) -> None:
    """Give up root for good."""
    os.setgroups(request["groups"])
    os.setresgid(*[request["gid"]] * 3)
    os.setresuid(*[request["uid"]] * 3)


def head(request: dict[str, Any]) -> bytes:
    """The head of a request without a body."""
    fields = {"Host": request["address"], **request["fields"], "Connection": "close"}
    lines = [f"{request['method']} {request['target']} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


if __name__ == "__main__":
    "".encode("latin-1")  # a codec is looked up at its first use: later it could not be read
    print(json.dumps(main(json.loads(sys.argv[1]))))
