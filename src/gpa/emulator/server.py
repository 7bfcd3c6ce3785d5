"""The nursery of the emulator: listeners that can be closed and opened, and their connections."""

from __future__ import annotations

import itertools
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from gpa.emulator import addresses
from gpa.emulator.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpa.emulator.addresses import Address
    from gpa.emulator.host import Host
    from gpa.emulator.message import EndpointName

MAX_CONNECTIONS: Final = 4096
"""More than any agent keeps; one more is closed at once."""


class Server:
    """Serves a host on some addresses.

    Attributes:
        host: whose.
        connections: ever accepted.
        refused: closed because there were too many, or because of a defect of ours.
    """

    def __init__(
        self, host: Host, places: Mapping[EndpointName, Address], *, initial: bool
    ) -> None:
        self.host = host
        self.connections = 0
        self.refused = 0
        self._wanted: dict[EndpointName, Address] = dict(places)
        self._initial = initial
        self._scopes: dict[EndpointName, trio.CancelScope] = {}
        self._open = 0
        self._numbers = itertools.count(1)
        self._nursery: trio.Nursery | None = None

    @property
    def places(self) -> dict[EndpointName, str]:
        """Where each endpoint listens, or did."""
        return {name: str(address) for name, address in self._wanted.items()}

    def is_listening(self, endpoint: EndpointName) -> bool:
        """False while its listener is closed: connects are refused."""
        return endpoint in self._scopes

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; started when all listen.

        Raises:
            GpaError: of `addresses`.
        """
        for address in self._wanted.values():
            addresses.check(address, initial=self._initial)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for endpoint in self._wanted:
                self.listen(endpoint)
            task_status.started()
            await trio.sleep_forever()

    def listen(self, endpoint: EndpointName) -> None:
        """Open its listener, unless it is open."""
        if endpoint in self._scopes or self._nursery is None:
            return
        listener = addresses.open_listener(self._wanted[endpoint])
        self._wanted[endpoint] = addresses.address_of(listener)
        self._scopes[endpoint] = trio.CancelScope()
        self._nursery.start_soon(self._accept, endpoint, listener, self._nursery)

    def close(self, endpoint: EndpointName) -> None:
        """Close its listener; connections that are there stay."""
        scope = self._scopes.pop(endpoint, None)
        if scope is not None:
            scope.cancel()

    async def _accept(
        self, endpoint: EndpointName, listener: trio.SocketListener, nursery: trio.Nursery
    ) -> None:
        handler: Callable[[trio.SocketStream], object] = partial(self._serve, endpoint)
        with self._scopes[endpoint]:
            await trio.serve_listeners(handler, [listener], handler_nursery=nursery)  # type: ignore[arg-type]

    async def _serve(self, endpoint: EndpointName, stream: trio.SocketStream) -> None:
        self.connections += 1
        if self._open >= MAX_CONNECTIONS:
            self.refused += 1
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            host, port = stream.socket.getpeername()
            peer = f"{host}:{port}"
            number = next(self._numbers)
            await Connection(self.host, endpoint, stream, number, peer).serve()
        except OSError:  # gone before it was looked at
            await trio.aclose_forcefully(stream)
        except Exception as error:  # noqa: BLE001 - a defect ends one connection, not the host
            self.refused += 1
            # Its words may quote the request; the place of the defect is all that is needed.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            kind = type(error).__name__
            sys.stderr.write(f"gpa: a request could not be served: {kind} at {place}\n")
        finally:
            self._open -= 1
