"""The agent beside haproxy as a plain reverse proxy, in one run on one machine.

    make bench-peers, or as root .venv/bin/python benches/peers/compare.py [--rounds 5] [--json]

haproxy identifies nobody, decides nothing, signs nothing and logs nothing; the agent does all four.
The host is a haproxy as well, which returns 1 KiB from memory; wrk asks. The rounds are interleaved
and each way's median round counts. CPU is user and system time of the proxy's cgroup over requests
answered; the client's and the host's are not in it. Needs root, haproxy and wrk.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from gpa.demo import cgroups
from gpa.demo.lab import AROUND, HOST, VM, Lab, Place
from gpa.errors import GpaError, UnavailableError

IMDS = "169.254.169.254"
TARGET = "/metadata/instance?api-version=2021-02-01"
PEER = Place(AROUND.netns, "peer")
PEER_PORT = 8080

PLAIN_HOST = f"""
global
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout http-keep-alive 60s
  timeout connect 5s
  timeout server 60s
frontend host
  bind {IMDS}:80
  http-request return status 200 content-type text/plain string {"x" * 1024}
"""

PROXY = f"""
global
  nbthread 1
defaults
  mode http
  http-reuse always
  timeout client 60s
  timeout http-keep-alive 60s
  timeout connect 5s
  timeout server 60s
frontend proxy
  bind 127.0.0.1:{PEER_PORT}
  default_backend imds
backend imds
  server imds {IMDS}:80
"""


@dataclass(frozen=True)
class Way:
    """A way for requests to go: where wrk runs, what it asks, whose CPU is counted."""

    name: str
    place: Place
    address: str
    cgroup: str | None


@dataclass(frozen=True)
class Figure:
    """One round: microseconds, but for requests."""

    requests: int
    per_second: float
    p50: float
    p99: float
    cpu_per_request: float | None
    relay_cpu_per_request: float | None


WAYS = (
    Way("direct", AROUND, IMDS, None),
    Way("haproxy", AROUND, f"127.0.0.1:{PEER_PORT}", PEER.cgroup),
    Way("gpa", VM, IMDS, "vm/service"),
)


def cpu_of(lab: Lab, cgroup: str) -> tuple[float, float]:
    """Microseconds of CPU that a cgroup has used; of those, the living threads of the relay."""
    folder = lab.cgroup / cgroup
    every = float(re.search(r"usage_usec (\d+)", (folder / "cpu.stat").read_text())[1])  # type: ignore[index]
    ticks = 0
    for pid in cgroups.members(folder):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            name, _, rest = (thread / "stat").read_text().partition("(")[2].rpartition(")")
            if name.startswith("gpa-relay"):
                words = rest.split()
                ticks += int(words[11]) + int(words[12])
    return every, ticks * 1e6 / os.sysconf("SC_CLK_TCK")


def micros(text: str) -> float:
    """`1.23ms` as wrk writes it, in microseconds."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def measure(lab: Lab, way: Way, options: argparse.Namespace, *, keep: bool) -> Figure:
    """One round of wrk.

    Raises:
        UnavailableError: an answer was not 200, or a connection failed.
    """
    command = ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", "--latency"]
    command += ["-H", "Metadata: true", *([] if keep else ["-H", "Connection: close"])]
    before = cpu_of(lab, way.cgroup) if way.cgroup else (0.0, 0.0)
    run = lab.run_as(
        0,
        0,
        [*command, f"http://{way.address}{TARGET}"],
        place=way.place,
        timeout=options.seconds + 20,
    )
    after = cpu_of(lab, way.cgroup) if way.cgroup else (0.0, 0.0)
    every, relay = (new - old for new, old in zip(after, before, strict=True))
    text = run.stdout
    if run.returncode or "Non-2xx" in text:
        raise UnavailableError(f"{way.name}: not every answer was 200: {text} {run.stderr}")
    # wrk counts the end of a connection that was announced as a read error: only others matter.
    errors = re.search(r"Socket errors: connect (\d+), read \d+, write (\d+), timeout (\d+)", text)
    if errors and any(int(n) for n in errors.groups()):
        raise UnavailableError(f"{way.name}: {errors[0]}")
    requests = int(re.search(r"(\d+) requests in", text)[1])  # type: ignore[index]
    return Figure(
        requests=requests,
        per_second=float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]),  # type: ignore[index]
        p50=micros(re.search(r"^ +50% +(\S+)", text, re.MULTILINE)[1]),  # type: ignore[index]
        p99=micros(re.search(r"^ +99% +(\S+)", text, re.MULTILINE)[1]),  # type: ignore[index]
        cpu_per_request=every / requests if way.cgroup else None,
        relay_cpu_per_request=relay / requests if relay else None,
    )


def start_haproxy(lab: Lab, name: str, config: str, place: Place) -> None:
    """Start it in the foreground; it dies with the laboratory."""
    path = lab.folder / f"{name}.cfg"
    path.write_text(config)
    # The master-less foreground mode: one process, which is what is measured.
    process = lab.spawn(0, 0, ["haproxy", "-db", "-f", path], place=place, stderr=subprocess.STDOUT)
    time.sleep(0.5)
    if process.poll() is not None:
        raise UnavailableError(f"haproxy did not start: {process.stdout and process.stdout.read()}")


def rss(lab: Lab, cgroup: str) -> float:
    """Resident memory of the living processes of a cgroup, MiB."""
    pages = 0
    for pid in cgroups.members(lab.cgroup / cgroup):
        pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


FIRST_SIGNED = f"""
import socket, time
request = b"GET {TARGET} HTTP/1.1\\r\\nHost: {IMDS}\\r\\nMetadata: true\\r\\n\\r\\n"
while True:
    try:
        with socket.create_connection(("{IMDS}", 80), timeout=10) as s:
            s.sendall(request)
            if b"x-ms-azure-host-authorization: value" in s.recv(65536).lower():
                break
    except OSError:
        pass
    time.sleep(0.002)
"""


def start_agent(lab: Lab) -> tuple[float, float]:
    """Start the agent twice: seconds to the first signed answer without and with a key on disk."""
    agent = None
    times = []
    for _ in range(2):
        # The client is warm before the clock starts, as a workload is that waits for its token.
        client = lab.spawn(
            0,
            0,
            [sys.executable, "-I", "-c", "input()" + FIRST_SIGNED],
            place=VM,
            stdin=subprocess.PIPE,
        )
        time.sleep(0.3)
        begin = time.monotonic()
        if agent is None:
            agent = lab.start_agent(wait=False)
        else:
            agent.start(wait=False)
        assert client.stdin is not None
        client.stdin.write("\n")
        client.stdin.flush()
        client.wait(30)
        times.append(time.monotonic() - begin)
        agent.wait_provisioned()
        if len(times) == 1:
            agent.stop()
            agent.detach()
    return times[0], times[1]


def run(options: argparse.Namespace) -> dict[str, object]:
    """All of it, in one laboratory."""
    with Lab() as lab:
        cgroups.make(lab.cgroup / PEER.cgroup)
        start_haproxy(lab, "host", PLAIN_HOST, HOST)
        emulate = ["-P", "-m", "gpa", "emulate", "--wireserver", "168.63.129.16:80"]
        emulator = lab.spawn(0, 0, [sys.executable, *emulate], place=HOST, stderr=None)
        assert emulator.stdout is not None
        assert emulator.stdout.readline(), "the emulator did not start"
        start_haproxy(lab, "proxy", PROXY, PEER)
        cold, warm = start_agent(lab)
        time.sleep(2)
        idle = {"gpa": rss(lab, "vm/service"), "haproxy": rss(lab, PEER.cgroup)}
        rounds: dict[str, list[Figure]] = {}
        for _ in range(options.rounds):
            for keep in (True, False):
                for way in WAYS:
                    figure = measure(lab, way, options, keep=keep)
                    kind = "kept-alive" if keep else "new connection"
                    rounds.setdefault(f"{kind}, {way.name}", []).append(figure)
        return {
            "first_signed_answer_seconds": {"key from the host": cold, "key on disk": warm},
            "rss_idle_mib": idle,
            "rss_after_mib": {"gpa": rss(lab, "vm/service"), "haproxy": rss(lab, PEER.cgroup)},
            "rounds": {name: asdict(median(figures)) for name, figures in rounds.items()},
        }


def median(figures: list[Figure]) -> Figure:
    """The round in the middle by CPU, or by rate where no CPU is counted."""
    key = statistics.median_low(f.cpu_per_request or f.per_second for f in figures)
    return next(f for f in figures if (f.cpu_per_request or f.per_second) == key)


def show(result: dict[str, object]) -> None:
    """For people."""
    print(json.dumps({k: v for k, v in result.items() if k != "rounds"}, indent=2))
    rounds = result["rounds"]
    assert isinstance(rounds, dict)
    print(f"{'':26}{'req/s':>9}{'p50 µs':>9}{'p99 µs':>9}{'CPU µs':>9}{'ratio':>7}{'relay µs':>10}")
    for name, f in rounds.items():
        cpu = f["cpu_per_request"]
        base = rounds[name.split(",")[0] + ", haproxy"]["cpu_per_request"]
        tail = f"{cpu:9.1f}{cpu / base:7.2f}" if cpu else ""
        tail += f"{f['relay_cpu_per_request']:10.1f}" if f["relay_cpu_per_request"] else ""
        print(f"{name:26}{f['per_second']:9.0f}{f['p50']:9.0f}{f['p99']:9.0f}{tail}")


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if missing := [tool for tool in ("haproxy", "wrk") if shutil.which(tool) is None]:
        print(f"missing: {' '.join(missing)}; on Debian: apt-get install {' '.join(missing)}")
        return 1
    try:
        result = run(options)
    except GpaError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
