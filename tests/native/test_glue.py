"""The edge between Python and the native half: what crosses it, and which exception comes out."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import struct
import threading
from pathlib import Path

import pytest

from gpa import _native
from gpa._native import records
from gpa.errors import (
    HostAnswerError,
    HostStatusError,
    HostUnreachableError,
    KeyFileError,
    KeyMissingError,
)

GUID = "9cf81e97-0316-4ad3-94a7-8ccbdee8ddbf"
KEY = "4A404E635266556A586E3272357538782F413F4428472B4B6250645367566B59"
RECORD = {
    "authorizationScheme": "Azure-HMAC-SHA256",
    "guid": GUID,
    "incarnationId": 3,
    "issued": "2026-01-01T00:00:00Z",
    "key": KEY,
}
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "keys"
    made.mkdir(mode=0o700)
    return made


def stored(folder: Path, record: object) -> Path:
    path = folder / f"{GUID}.key"
    path.write_text(json.dumps(record))
    path.chmod(0o600)
    return path


class Host:
    """Answers one request on a connection with the bytes given."""

    def __init__(self, answer: bytes) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.theirs = socket.create_connection(listener.getsockname())
            self.mine, _ = listener.accept()
        self.request = b""
        self.thread = threading.Thread(target=self._serve, args=(answer,))
        self.thread.start()

    def _serve(self, answer: bytes) -> None:
        while b'HMAC-SHA256"}' not in self.request:
            more = self.mine.recv(4096)
            if not more:
                break
            self.request += more
        self.mine.sendall(answer)
        self.mine.shutdown(socket.SHUT_WR)

    def acquire(self, folder: Path) -> _native.SigningKey:
        try:
            return _native.acquire_key(self.theirs.fileno(), folder, 5.0, DATE)
        finally:
            self.theirs.close()
            self.thread.join()
            self.mine.close()


def answer(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_key_from_disk_signs_the_check_value(folder: Path) -> None:
    key = _native.SigningKey.load(stored(folder, RECORD))
    fields = [
        ("Metadata", " true "),
        ("host", "169.254.169.254"),
        ("x-ms-azure-host-claims", '{ "isRoot": "true"}'),
        ("x-ms-azure-host-date", DATE),
    ]
    assert (key.guid, key.incarnation) == (GUID, 3)
    assert key.authorization("GET", "/metadata/instance?api-version=2021-02-01", fields, b"") == (
        f"Azure-HMAC-SHA256 {GUID} 40dcaba1dc4d6f7a38cff1418d9304a76416624dd1146ccba80546b01890b155"
    )


def test_a_handle_shows_no_key(folder: Path) -> None:
    key = _native.SigningKey.load(stored(folder, RECORD))
    assert repr(key) == f"<SigningKey {GUID}>"
    shown = " ".join(str(getattr(key, name)) for name in dir(key))
    assert KEY.lower() not in shown.lower()


def test_missing_key_file(folder: Path) -> None:
    with pytest.raises(KeyMissingError):
        _native.SigningKey.load(folder / f"{GUID}.key")


@pytest.mark.parametrize("key", [KEY[:-1], KEY + "0", "g" * 64, ""])
def test_torn_key_file_is_told_without_its_bytes(folder: Path, key: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        _native.SigningKey.load(stored(folder, RECORD | {"key": key}))
    assert KEY[:16] not in str(caught.value)


def test_key_file_that_others_may_read(folder: Path) -> None:
    path = stored(folder, RECORD)
    path.chmod(0o644)
    with pytest.raises(KeyFileError):
        _native.SigningKey.load(path)


def test_acquire_stores_the_key_before_it_gives_a_handle(folder: Path) -> None:
    host = Host(answer("200 OK", json.dumps(RECORD).encode()))
    key = host.acquire(folder)
    assert key.guid == GUID
    path = folder / f"{GUID}.key"
    assert json.loads(path.read_text()) == RECORD
    assert path.stat().st_mode & 0o777 == 0o600
    assert host.request.startswith(b"POST /secure-channel/key HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (answer("403 Forbidden", b"{}"), HostStatusError),
        (answer("200 OK", b"{}"), HostAnswerError),
        (answer("200 OK", json.dumps(RECORD | {"guid": "../../x"}).encode()), HostAnswerError),
        (b"SSH-2.0-OpenSSH\r\n", HostAnswerError),
        (b"", (HostAnswerError, HostUnreachableError)),
    ],
)
def test_acquire_from_a_broken_host(folder: Path, reply: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        Host(reply).acquire(folder)
    assert list(folder.iterdir()) == []


def test_descriptor_that_is_none() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        _native.exempt(1_000_000)


def test_exemption_is_refused_outside_the_agents_cgroup() -> None:
    with socket.socket() as mine, pytest.raises(OSError, match="Protocol not available"):
        _native.exempt(mine.fileno())


def test_table_that_is_none() -> None:
    with pytest.raises(ValueError, match="endpoints"):
        _native.Snapshot(1, b"{}")


def test_connection_that_nobody_intercepted_is_misdirected_and_recorded() -> None:
    """The relay through Python's eyes, without the kernel half: 421, and one row about it."""
    relay = _native.Relay(threads=1)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            relay.listen(listener.fileno())
            relay.arm()
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"GET /metadata/instance HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n")
                client.settimeout(5)
                told = client.recv(4096)
            assert told.startswith(b"HTTP/1.1 421 ")
            assert select.select([relay.wake_fd()], [], [], 5)[0]
            assert len(os.read(relay.wake_fd(), 8)) == 8
            (row,) = records.decode(relay.take_records(16))
        assert (row["status"], row["caller"], row["signed"]) == (421, None, False)
        assert relay.counters()["accepted"] == 1
        assert relay.drain(5, take_waiting=True)
    finally:
        relay.stop()


def test_rows_are_whole() -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        records.decode(b"\0" * (records.ROW_SIZE - 1))
    with pytest.raises(ValueError, match="256"):
        records.decode_caller(b"\0" * (records.IDENT_SIZE + 1))


def test_a_caller_is_read_from_where_the_header_puts_it() -> None:
    """Each field has a value of its own; ext/audit/tests.rs compares what Rust reads."""
    header = (Path(__file__).parents[2] / "bpf" / "record.h").read_text()
    body = header.partition("struct gpa_ident {")[2].partition("\n};")[0]
    kinds = {"__u64": "Q", "__s64": "q", "__u32": "I", "__u16": "H", "char": "s"}
    sizes = {"GPA_COMM_LEN": 16, "GPA_EXE_NAME_LEN": 64}
    values: dict[str, int | bytes] = {}
    layout = "="
    for kind, name, size in re.findall(r"^\t(\w+) (\w+)(?:\[(\w+)\])?;", body, re.MULTILINE):
        if name == "reserve":  # at the end, and nobody reads it
            layout += struct.calcsize(f"={size}{kinds[kind]}") * "x"
            continue
        layout += (str(sizes[size]) if size else "") + kinds[kind]
        values[name] = name.encode() if size else 1000 + len(values)
    values["flags"] = 0b1101  # direct, executable known, its name whole
    record = struct.pack(layout, *values.values())
    assert len(record) == records.IDENT_SIZE
    told: dict[str, object] = dict(records.decode_caller(record))
    assert told.pop("exe") == tuple(
        values[f"exe_{part}"] for part in ("dev", "ino", "ctime_s", "ctime_ns")
    )
    assert told.pop("direct") is True
    assert told.pop("leader_comm") == "gl_comm"
    assert (told.pop("comm"), told.pop("exe_name")) == ("comm", "exe_name")
    assert told.pop("userns") == values["userns_inum"]
    assert told.pop("mntns") == values["mntns_inum"]
    assert told == {name: values[name] for name in told}
    assert told["loginuid"] == values["loginuid"]
