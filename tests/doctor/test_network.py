"""The listener's address, loopback, the firewall. All on 127.0.0.1, with ports of our own."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpa.config import Config
from gpa.doctor import network
from gpa.doctor.finding import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.doctor.conftest import Fake

    from gpa.doctor.finding import Finding

LEGACY = """*security
:OUTPUT ACCEPT [0:0]
-A OUTPUT -d 168.63.129.16/32 -p tcp -m tcp --dport 53 -j ACCEPT
{root}
-A OUTPUT -d 168.63.129.16/32 -p tcp -m conntrack --ctstate INVALID,NEW -j DROP
COMMIT
"""
ROOT_PASSES = "-A OUTPUT -d 168.63.129.16/32 -p tcp -m owner --uid-owner 0 -j ACCEPT"

NFT = """table ip walinuxagent {{
    chain output {{
        type filter hook output priority -300; policy accept;
        tcp dport != 53 ip daddr 168.63.129.16 {who} ct state invalid,new counter drop
    }}
}}
"""


@pytest.fixture
def holder() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


def listener(fake: Fake, agent: int | None, address: tuple[str, int]) -> Finding:
    return network.check_listener(replace(fake.machine, proc=Path("/proc")), agent, address)


def test_free(fake: Fake, holder: tuple[str, int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    finding = listener(fake, None, address)
    assert (finding.state, finding.words) == (State.OK, f"127.0.0.1:{address[1]} is free")


def test_taken(fake: Fake, holder: tuple[str, int]) -> None:
    finding = listener(fake, None, holder)
    assert finding.state is State.FAILURE
    assert f"is taken by pid {os.getpid()} (" in finding.words


def test_the_agents(fake: Fake, holder: tuple[str, int]) -> None:
    assert listener(fake, os.getpid(), holder).state is State.OK
    # An agent that waits for the port.
    finding = listener(fake, os.getppid(), holder)
    assert finding.state is State.FAILURE
    assert f"pid {os.getpid()} (" in finding.words


def test_an_address_that_is_not_here(fake: Fake) -> None:
    finding = listener(fake, None, ("192.0.2.1", 3080))
    assert finding.state is State.FAILURE
    assert "ip link set lo up" in finding.remedy


def test_loopback(fake: Fake) -> None:
    (finding,) = network.check_loopback(fake.machine, Config())
    assert finding.state is State.OK


def firewall(fake: Fake) -> Finding:
    (finding,) = network.check_firewall(fake.machine, Config())
    return finding


def test_no_firewall_is_not_asked(fake: Fake) -> None:
    """iptables-save(8) would load modules."""
    fake.tool("iptables-save", LEGACY.format(root=""))
    fake.tool("nft", NFT.format(who=""))
    assert "no rule" in firewall(fake).words


@pytest.mark.parametrize(
    ("root", "state"), [(ROOT_PASSES, State.OK), ("", State.WARNING)], ids=["spared", "cut"]
)
def test_iptables(fake: Fake, root: str, state: State) -> None:
    fake.write("proc/net/ip_tables_names", "security\n")
    fake.tool("iptables-save", LEGACY.format(root=root))
    finding = firewall(fake)
    assert finding.state is state
    assert ("WALinuxAgent" in finding.words) is (state is State.OK)


def test_iptables_in_one_rule(fake: Fake) -> None:
    fake.write("proc/net/ip_tables_names", "filter\n")
    rule = "-A OUTPUT -d 169.254.169.254/32 -m owner ! --uid-owner 0 -j REJECT"
    fake.tool("iptables-save", f"*filter\n{rule}\nCOMMIT")
    assert firewall(fake).state is State.OK
    # About everything but the host.
    fake.tool("iptables-save", "*filter\n-A OUTPUT ! -d 168.63.129.16/32 -j DROP\nCOMMIT")
    assert "no rule" in firewall(fake).words
    # Of another table, and for another address.
    fake.tool("iptables-save", f"*nat\n{ROOT_PASSES}\n*filter\n-A OUTPUT -d 10.0.0.1/32 -j DROP")
    assert "no rule" in firewall(fake).words


@pytest.mark.parametrize(
    ("who", "state"),
    [("skuid != 0", State.OK), ('meta skuid != "root"', State.OK), ("", State.WARNING)],
)
def test_nft(fake: Fake, who: str, state: State) -> None:
    (fake.folder / "sys/module/nf_tables").mkdir(parents=True)
    fake.tool("nft", NFT.format(who=who))
    assert firewall(fake).state is state


def test_nft_with_a_set(fake: Fake) -> None:
    (fake.folder / "sys/module/nf_tables").mkdir(parents=True)
    rules = NFT.format(who="").replace("168.63.129.16", "{{ 169.254.169.254, 168.63.129.16 }}")
    fake.tool("nft", rules.replace("{{", "{").replace("}}", "}"))
    assert firewall(fake).state is State.WARNING


def test_a_tool_that_fails(fake: Fake) -> None:
    (fake.folder / "sys/module/nf_tables").mkdir(parents=True)
    fake.tool("nft", NFT.format(who=""), code=1)
    assert "no rule" in firewall(fake).words
