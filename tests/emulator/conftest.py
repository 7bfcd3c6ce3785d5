"""A host on loopback, with a clock that stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.emulator.guest import Clock, Emulated

from gpa.emulator import scenario_file
from gpa.emulator.addresses import Address
from gpa.emulator.host import Host
from gpa.emulator.message import ENDPOINTS
from gpa.emulator.server import Server

if TYPE_CHECKING:
    import trio


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def scenario_text() -> str:
    """A test parametrizes this to have another host."""
    return ""


@pytest.fixture
def host(clock: Clock, scenario_text: str) -> Host:
    return Host(scenario_file.parse(scenario_text.encode(), "test.toml"), clock=clock)


@pytest.fixture
async def emulated(nursery: trio.Nursery, host: Host) -> Emulated:
    places = {name: Address("127.0.0.1", 0) for name in ENDPOINTS}
    server = Server(host, places, initial=True)
    await nursery.start(server.run)
    return Emulated(host, server)
