"""The listener's address, the loopback interface, and a firewall's rules about the host's
addresses. What is sent here goes to 127.0.0.1 only.
"""

from __future__ import annotations

import errno
import re
import socket
from typing import TYPE_CHECKING, Final

from gpa.agent.listener import is_listening, port_holder
from gpa.doctor.finding import Finding, failure, ok, warning
from gpa.endpoints import LISTEN_ADDRESS, Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.config import Config
    from gpa.doctor.machine import Machine

LOOPBACK_SECONDS: Final = 2.0
"""For a connection of this process to itself."""

PROTECTED: Final = tuple(dict.fromkeys(endpoint.address[0] for endpoint in Endpoint))


def check_listener(
    machine: Machine, agent: int | None, address: tuple[str, int] = LISTEN_ADDRESS
) -> Finding:
    """Is the agent's address free, or its own.

    Args:
        machine: whose /proc tells who listens.
        agent: pid of the running agent; None when there is none.
        address: where it listens.
    """
    where = f"{address[0]}:{address[1]}"
    if agent is not None:
        if is_listening(address[1], agent, machine.proc):
            return ok("listener", f"the agent listens on {where}")
        return failure(
            "listener",
            f"the agent runs, but does not listen on {where} here"
            + (
                f": {port_holder(address[1], machine.proc / 'net', machine.proc)} does"
                if is_listening(address[1], None, machine.proc)
                else ""
            ),
            "end who has the port, and the agent takes it within 30 s; or look from the agent's"
            " network namespace",
        )
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the agent does
        try:
            probe.bind(address)  # never listens: nobody can take it for the agent
        except OSError as error:
            return _refused(machine, address, error)
    return ok("listener", f"{where} is free")


def _refused(machine: Machine, address: tuple[str, int], error: OSError) -> Finding:
    where = f"{address[0]}:{address[1]}"
    if error.errno == errno.EADDRINUSE:
        return _taken(machine, address)
    if error.errno in (errno.EPERM, errno.EACCES):
        return ok("listener", f"{where} is kept for the agent by what the last one left")
    return failure(
        "listener",
        f"nothing can listen on {where}: {error.strerror}",
        "ip link set lo up, and look again",
    )


def _taken(machine: Machine, address: tuple[str, int]) -> Finding:
    return failure(
        "listener",
        f"{address[0]}:{address[1]} is taken by "
        + port_holder(address[1], machine.proc / "net", machine.proc),
        "end it, or have it listen elsewhere: the agent's address is fixed",
    )


def check_loopback(machine: Machine, config: Config) -> Iterator[Finding]:
    """Can a process here connect to another over 127.0.0.1."""
    del machine, config
    try:
        with socket.create_server(("127.0.0.1", 0), backlog=1) as server:
            server.settimeout(LOOPBACK_SECONDS)
            with socket.create_connection(server.getsockname(), timeout=LOOPBACK_SECONDS):
                server.accept()[0].close()
    except OSError as error:
        yield failure(
            "loopback",
            f"a connection over 127.0.0.1 fails: {error.strerror or error}",
            "ip link set lo up, and let the firewall pass what stays on lo",
        )
    else:
        yield ok("loopback", "a connection over 127.0.0.1 works")


# --- the firewall -------------------------------------------------------------------------------

_IPTABLES_ROOT: Final = re.compile(r"-m owner --uid-owner (0|root)\b.* -j ACCEPT")
_IPTABLES_NOT_ROOT: Final = re.compile(r"! --uid-owner (0|root)\b")
_IPTABLES_DROP: Final = re.compile(r"-j (DROP|REJECT)\b")
_NFT_NOT_ROOT: Final = re.compile(r"\bskuid != (0|\"?root\"?)")
_NFT_ROOT: Final = re.compile(r"\bskuid (== )?(0|\"?root\"?)\b.*\baccept\b")
_DESTINATION: Final = r"(?:(?<!! )-d |daddr (?!!=)(?:\{{[^}}]*)?){address}(?:/32)?\b"
"""Alone or, with nft(8), in a set; what is negated is about everybody else."""
_NFT_DROP: Final = re.compile(r"\b(drop|reject)\b")


def check_firewall(machine: Machine, config: Config) -> Iterator[Finding]:
    """WALinuxAgent drops what users other than root send to WireServer: a second wall. Rules that
    drop root's packets as well would cut the agent off."""
    del config
    # Asked only where there are tables: asking would load the kernel's modules.
    rules = []
    if machine.read(machine.proc / "net/ip_tables_names"):
        rules += _iptables(machine.ask_tool("iptables-save") or "")
    if (machine.sys / "module/nf_tables").exists():
        rules += _nft(machine.ask_tool("nft", "list", "ruleset") or "")
        if not rules:
            rules += _iptables(machine.ask_tool("iptables-nft-save") or "")
    cutting = [rule for rule, spares_root in rules if not spares_root]
    if cutting:
        yield warning(
            "firewall",
            f"a rule may drop what the agent sends to the host: {'; '.join(cutting)}",
            "let packets of uid 0 pass before that rule",
        )
    elif rules:
        yield ok(
            "firewall",
            "what users other than root send to the host is dropped, as WALinuxAgent does it: no"
            " harm, the agent's connections are root's and those of users never leave the machine",
        )
    else:
        yield ok("firewall", "no rule about the host's addresses is seen, and none is needed")


def _iptables(text: str) -> list[tuple[str, bool]]:
    """Rules of iptables-save(8) that drop what goes to the host, and whether they spare root."""
    found = []
    accepted: set[str] = set()
    for line in text.splitlines():
        if line.startswith("*"):
            accepted.clear()  # another table
        address = _about(line)
        if address is None or not line.startswith("-A OUTPUT "):
            continue
        if _IPTABLES_ROOT.search(line) and "!" not in line:
            accepted.add(address)
        elif _IPTABLES_DROP.search(line):
            found.append((line, address in accepted or bool(_IPTABLES_NOT_ROOT.search(line))))
    return found


def _nft(text: str) -> list[tuple[str, bool]]:
    """The same of nft(8)."""
    found = []
    accepted: set[str] = set()
    output = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("chain "):
            accepted.clear()
            output = False
        if "hook output" in line:
            output = True
        address = _about(line)
        if address is None or not output:
            continue
        if _NFT_ROOT.search(line):
            accepted.add(address)
        elif _NFT_DROP.search(line):
            found.append((line, address in accepted or bool(_NFT_NOT_ROOT.search(line))))
    return found


def _about(line: str) -> str | None:
    """The protected address that a rule names as its destination."""
    for address in PROTECTED:
        if re.search(_DESTINATION.format(address=re.escape(address)), line):
            return address
    return None
