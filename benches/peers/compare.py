"""The agent beside haproxy in one run: requests per second and CPU per request, as ratios.

`make bench-peers` (root, haproxy and wrk from the distribution). Everything happens in a network
namespace and child cgroups of its own. The host is haproxy too: it answers a static KiB, the
emulator has the secure channel only. Both proxies face the same load in turn, several rounds,
interleaved; CPU is user + system time of the proxy's cgroup (`cpu.stat`) over requests answered.
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
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

PAYLOAD = "x" * 1024
CONNECTIONS = 64
CURL = ["curl", "-s", "-o", "/dev/null", "-m", "5", "-w", "%{http_code}", "-H", "Metadata:true"]
TARGET = "/metadata/instance?api-version=2021-02-01"

UPSTREAM = """
global
  nbthread 1
  maxconn 20000
defaults
  mode http
  timeout client 60s
  timeout connect 5s
  timeout server 60s
frontend host
  bind 169.254.169.254:80
  http-request return status 200 content-type application/json string {payload}
"""

PEER = """
global
  nbthread 1
  maxconn 20000
defaults
  mode http
  timeout client 60s
  timeout connect 5s
  timeout server 60s
  http-reuse always
frontend peer
  bind 127.0.0.1:3081
  default_backend host
backend host
  server host 169.254.169.254:80
"""

CLOSING = """
request = function()
  return wrk.format("GET", nil, {["Metadata"]="true", ["Connection"]="close"})
end
"""


def cgroup_mount() -> Path:
    """Where cgroup v2 is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            return Path(left.split()[4])
    sys.exit("no cgroup v2")


class Bench:
    """One laboratory: cgroups `agent`, `peer`, `client`, `host` below one of this run."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.root = cgroup_mount() / f"gpa-bench-{os.getpid()}"
        self.stack = stack
        stack.callback(self._remove)
        self.inside = self.root / "inside"
        self.groups = {
            "agent": self.inside / "agent",
            "client": self.inside / "client",
            "peer": self.root / "peer",
            "host": self.root / "host",
        }
        for group in self.groups.values():
            group.mkdir(parents=True, exist_ok=True)

    def _remove(self) -> None:
        for group in sorted(self.root.rglob("*"), reverse=True):
            if group.is_dir():
                with suppress(OSError):
                    group.rmdir()
        with suppress(OSError):
            self.root.rmdir()

    def start(self, group: str, *argv: str | Path) -> subprocess.Popen[str]:
        """Start a process in a cgroup; it is ended with the bench."""
        procs = self.groups[group] / "cgroup.procs"
        log = self.stack.enter_context((self.folder / f"{group}.log").open("a"))
        process = subprocess.Popen(
            ["sh", "-c", f'echo $$ > {procs} && exec "$@"', "sh", *map(str, argv)],
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )

        def end() -> None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

        self.stack.callback(end)
        return process

    def cpu(self, group: str) -> int:
        """CPU time of a cgroup and those below, µs."""
        text = (self.groups[group] / "cpu.stat").read_text()
        return int(re.search(r"usage_usec (\d+)", text)[1])  # type: ignore[index]

    def load(self, url: str, *, close: bool, seconds: int) -> tuple[int, float]:
        """Requests answered and requests per second; anything but 2xx ends the bench."""
        script = self.folder / "close.lua"
        script.write_text(CLOSING)
        argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-H", "Metadata: true"]
        if close:
            argv += ["-s", str(script)]
        procs = self.groups["client"] / "cgroup.procs"
        done = subprocess.run(
            ["sh", "-c", f'echo $$ > {procs} && exec "$@"', "sh", *argv, url],
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds + 60,
        )
        if "Non-2xx" in done.stdout:
            sys.exit(f"{url}: not every answer was a 2xx\n{done.stdout}")
        count = int(re.search(r"(\d+) requests in", done.stdout)[1])  # type: ignore[index]
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])  # type: ignore[index]
        return count, rate


def wait_for(check: str, what: str) -> None:
    """Wait up to 15 s until `curl` gets a 200."""
    for _ in range(150):
        done = subprocess.run(
            [*CURL, check],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.stdout == "200":
            return
        time.sleep(0.1)
    sys.exit(f"{what} does not answer")


def prepare(bench: Bench) -> subprocess.Popen[str]:
    """Addresses, host, peer and agent; returns the agent."""
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "addr", "add", "169.254.169.254/32", "dev", "lo"],
        ["ip", "addr", "add", "168.63.129.16/32", "dev", "lo"],
    ):
        subprocess.run(command, check=True)
    folder = bench.folder
    (folder / "host.cfg").write_text(UPSTREAM.format(payload=PAYLOAD))
    (folder / "peer.cfg").write_text(PEER)
    bench.start("host", "haproxy", "-f", folder / "host.cfg")
    bench.start("peer", "haproxy", "-f", folder / "peer.cfg")
    scenario = folder / "scenario.toml"
    scenario.write_text('[channel]\nversion = "1.0"\nstate = "WireserverAndImds"\n')
    bench.start(
        "host",
        *(sys.executable, "-m", "gpa", "emulate", "--wireserver", "168.63.129.16:80"),
        *("--scenario", scenario),
    )
    config = {
        f"{name}Folder": str(folder / name) for name in ("log", "event", "latchKey", "rules", "run")
    }
    config |= {"pinFolder": str(folder / "bpf" / "gpa"), "cgroupRoot": str(bench.inside)}
    (folder / "bpf").mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", folder / "bpf"], check=True)
    bench.stack.callback(lambda: subprocess.run(["umount", folder / "bpf"], check=False))
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    detach = [sys.executable, "-m", "gpa", "detach", "--config", str(path)]
    bench.stack.callback(lambda: subprocess.run(detach, check=False))
    agent = bench.start("agent", sys.executable, "-m", "gpa", "run", "--config", path)
    (bench.groups["client"] / "cgroup.procs").write_text(str(os.getpid()))
    wait_for(f"http://169.254.169.254{TARGET}", "the agent")
    wait_for(f"http://127.0.0.1:3081{TARGET}", "haproxy")
    return agent


def measure(bench: Bench, rounds: int, seconds: int) -> dict[str, dict[str, float]]:
    """Medians per proxy and kind of load."""
    urls = {"agent": f"http://169.254.169.254{TARGET}", "peer": f"http://127.0.0.1:3081{TARGET}"}
    rows: dict[str, dict[str, float]] = {}
    for kind, close in (("kept-alive", False), ("new connection", True)):
        samples: dict[str, list[tuple[float, float]]] = {"agent": [], "peer": []}
        for _ in range(rounds):
            for group, url in urls.items():
                before = bench.cpu(group)
                count, rate = bench.load(url, close=close, seconds=seconds)
                samples[group].append(((bench.cpu(group) - before) / count, rate))
        rows[kind] = {
            f"{group}_{name}": statistics.median(sample[at] for sample in samples[group])
            for group in urls
            for at, name in enumerate(("cpu_us", "per_second"))
        }
        rows[kind]["cpu_ratio"] = rows[kind]["agent_cpu_us"] / rows[kind]["peer_cpu_us"]
    return rows


def main() -> None:
    """Run, print the table, write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("run as root: this makes a network namespace and loads eBPF")
    for tool in ("haproxy", "wrk", "curl", "unshare"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is missing: apt-get install haproxy wrk curl util-linux")
    if not arguments.inside:
        inside = ["unshare", "--net", "--mount", "--", sys.executable, *sys.argv, "--inside"]
        sys.exit(subprocess.run(inside, check=False).returncode)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpa-bench-")))
        bench = Bench(folder, stack)
        home = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
        stack.callback(
            (cgroup_mount() / home.lstrip("/") / "cgroup.procs").write_text, str(os.getpid())
        )
        prepare(bench)
        rows = measure(bench, arguments.rounds, arguments.seconds)
    print(f"{'':16}{'agent µs':>10}{'haproxy µs':>12}{'ratio':>8}{'agent/s':>10}{'haproxy/s':>11}")
    for kind, row in rows.items():
        print(
            f"{kind:16}{row['agent_cpu_us']:10.1f}{row['peer_cpu_us']:12.1f}"
            f"{row['cpu_ratio']:8.2f}{row['agent_per_second']:10.0f}{row['peer_per_second']:11.0f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
