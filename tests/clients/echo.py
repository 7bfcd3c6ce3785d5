"""A host that answers what it was asked: method, target and the body's digest, as JSON.

Run in the laboratory's host: `echo.py ADDRESS PORT`. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.chunks() if self.headers["Transfer-Encoding"] else self.rfile.read(self.length)
        told = {"method": self.command, "target": self.path, "length": len(body)}
        answer = json.dumps(told | {"digest": hashlib.sha256(body).hexdigest()}).encode()
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    @property
    def length(self) -> int:
        return int(self.headers["Content-Length"] or 0)

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Be silent."""


if __name__ == "__main__":
    ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Echo).serve_forever()
