"""`gpa emulate` as people and other programs start it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from gpa import errors
from gpa.emulator import addresses
from gpa.emulator.addresses import Address
from gpa.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LOOPBACK = ["--imds", "127.0.0.1:0", "--wireserver", "127.0.0.1:0"]


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "gpa", "emulate", *map(str, words)]


@contextlib.contextmanager
def running(*words: str | Path, pass_fds: Sequence[int] = ()) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    document: dict[str, Any] = json.loads(process.stdout.readline())
    return document


def get(address: str, target: str) -> int:
    request = urllib.request.Request(f"http://{address}{target}", headers={"Metadata": "True"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - it is http
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_it_says_where_it_listens_serves_records_and_ends(tmp_path: Path) -> None:
    control, record = tmp_path / "control", tmp_path / "record"
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('[rules.imds]\nmode = "audit"\n')
    with running(
        *LOOPBACK, "--control", control, "--record", record, "--scenario", scenario
    ) as process:
        said = ready(process)
        assert said["ready"] is True
        assert said["pid"] == process.pid
        assert said["control"] == str(control)
        assert get(said["listening"]["imds"], "/metadata/versions") == 200
        assert get(said["listening"]["wireserver"], "/?comp=versions") == 401
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")
    assert not control.exists()
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [(r["endpoint"], r["status"], r["mode"]) for r in lines] == [
        ("imds", 200, "audit"),
        ("wireserver", 401, "enforce"),
    ]
    assert record.stat().st_mode & 0o777 == 0o600


def test_the_ready_line_goes_to_a_descriptor() -> None:
    reader, writer = os.pipe()
    words = [*LOOPBACK, "--ready-fd", str(writer)]
    with os.fdopen(reader) as pipe, running(*words, pass_fds=[writer]) as process:
        os.close(writer)
        assert json.loads(pipe.read())["ready"] is True  # closed once written
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "")


def test_ctrl_c_is_an_interruption() -> None:
    with running(*LOOPBACK) as process:
        ready(process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (errors.EXIT_INTERRUPTED, "")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], errors.EXIT_USAGE, "say what to serve"),
        (["--imds", "localhost:80"], errors.EXIT_USAGE, "is not ADDRESS:PORT"),
        (["--imds", "127.0.0.1:99999"], errors.EXIT_USAGE, "is not ADDRESS:PORT"),
        ([*LOOPBACK, "--ready-fd", "987"], errors.EXIT_USAGE, "is no open descriptor"),
        ([*LOOPBACK, "--scenario", "/nowhere"], errors.EXIT_CONFIG, "there is no /nowhere"),
        ([*LOOPBACK, "--record", "/no/where"], errors.EXIT_CANNOT_CREATE, "cannot write"),
        ([*LOOPBACK, "--control", "/no/where"], errors.EXIT_CANNOT_CREATE, "cannot make"),
        (["--check"], errors.EXIT_USAGE, "--check needs --scenario"),
    ],
)
def test_a_mistake_is_one_line_and_a_code(words: list[str], code: int, message: str) -> None:
    run = subprocess.run(command(*words), capture_output=True, text=True, check=False, timeout=30)
    assert run.returncode == code, run
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert message in run.stderr


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        run = subprocess.run(
            command("--imds", address), capture_output=True, text=True, check=False, timeout=30
        )
    assert run.returncode == errors.EXIT_CANNOT_CREATE
    assert f"{address} is taken" in run.stderr


def test_a_scenario_is_checked_without_serving(tmp_path: Path) -> None:
    scenario = tmp_path / "s.toml"
    for text, code in (("", 0), ("x = 1\n", errors.EXIT_CONFIG)):
        scenario.write_text(text)
        words = command("--check", "--scenario", scenario)
        run = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
        assert (run.returncode, run.stdout) == (code, "")
    assert "s.toml:1: x: nobody knows this key" in run.stderr


@pytest.mark.parametrize("text", ["169.254.169.254:80", "0.0.0.0:80", "10.0.0.1:80"])
def test_the_machines_own_network_is_left_alone(text: str) -> None:
    address = addresses.parse(text)
    with pytest.raises(UsageError, match="not loopback: run the emulator in a network namespace"):
        addresses.check(address, initial=True)
    addresses.check(address, initial=False)
    addresses.check(Address("127.0.0.2", 80), initial=True)


@pytest.mark.parametrize(
    "text", ["", "80", ":80", "127.0.0.1", "127.0.0.1:", "::1:80", "1.2.3:80", "1.2.3.4:-1",
             "224.0.0.1:80", "127.0.0.1:٣"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not ADDRESS:PORT"):
        addresses.parse(text)


def fake_proc(root: Path, ours: str, first: str | None) -> Path:
    """A /proc in which namespaces are plain files."""
    for name in {ours, first} - {None}:
        (root / str(name)).touch()
    (root / "self/ns").mkdir(parents=True)
    (root / "self/ns/net").symlink_to(root / ours)
    if first is not None:
        (root / "1/ns").mkdir(parents=True)
        (root / "1/ns/net").symlink_to(root / first)
    return root


@pytest.mark.parametrize(
    ("ours", "first", "sysctl", "initial"),
    [
        ("a", "a", False, True),
        ("a", "b", False, False),
        ("a", None, False, False),
        ("a", None, True, True),
        ("a", "b", True, True),
    ],
)
def test_the_signs_of_the_initial_namespace(
    tmp_path: Path, ours: str, first: str | None, sysctl: bool, initial: bool
) -> None:
    proc = fake_proc(tmp_path, ours, first)
    sign = tmp_path / "sysctl"
    if sysctl:
        sign.touch()
    assert addresses.is_initial_namespace(proc, sign) is initial


def test_without_proc_it_is_the_initial_namespace(tmp_path: Path) -> None:
    assert addresses.is_initial_namespace(tmp_path, tmp_path / "none")
