"""What the control API can do: a method and a path each (docs/emulator.md, "Control API")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from gpa.emulator import scenario
from gpa.emulator.faults import Fault, HoldFault
from gpa.emulator.message import ENDPOINTS
from gpa.errors import GpaError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gpa.emulator.server import Server

MOST_RECORDS: Final = 1000
"""In one answer; ask again with `since`."""

LONGEST_WAIT: Final = 60.0
"""For a record that has not come yet, in seconds."""

_STATES: Final = {
    # (WireServer, IMDS): the state of version 1.0 by which a host says it
    ("disabled", "disabled"): "Disabled",
    ("audit", "audit"): "Audit",
    ("enforce", "audit"): "Wireserver",
    ("enforce", "enforce"): "WireserverAndImds",
}


class CommandError(Exception):
    """The command cannot be done.

    Attributes:
        status: to answer with.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Commands:
    """The API over one server and its host."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._host = server.host
        self._table: dict[tuple[str, str], Callable[[dict[str, str], bytes], Awaitable[object]]] = {
            ("GET", "/health"): self._health,
            ("GET", "/scenario"): self._get_scenario,
            ("PUT", "/scenario"): self._put_scenario,
            ("PATCH", "/scenario"): self._patch_scenario,
            ("GET", "/mode"): self._get_mode,
            ("PUT", "/mode"): self._put_mode,
            ("GET", "/rules"): self._get_rules,
            ("PUT", "/rules"): self._put_rules,
            ("GET", "/latency"): self._get_latency,
            ("PUT", "/latency"): self._put_latency,
            ("GET", "/key"): self._get_key,
            ("POST", "/key/reset"): self._reset_key,
            ("GET", "/faults"): self._get_faults,
            ("PUT", "/faults"): self._put_faults,
            ("POST", "/faults"): self._post_fault,
            ("DELETE", "/faults"): self._delete_faults,
            ("POST", "/hold"): self._hold,
            ("POST", "/release"): self._release,
            ("GET", "/records"): self._get_records,
            ("DELETE", "/records"): self._delete_records,
            ("GET", "/listening"): self._get_listening,
            ("PUT", "/listening"): self._put_listening,
        }

    async def run(self, method: str, path: str, query: dict[str, str], body: bytes) -> object:
        """Do it; gives the JSON to answer.

        Raises:
            CommandError: it cannot be done.
        """
        path = path.rstrip("/")
        if method == "DELETE" and path.startswith("/faults/"):
            return self._delete_fault(path.removeprefix("/faults/"))
        command = self._table.get((method, path))
        if command is None:
            methods = sorted(m for m, known in self._table if known == path)
            if methods:
                raise CommandError(405, f"{path} takes {', '.join(methods)}")
            raise CommandError(404, f"there is no {path}; docs/emulator.md lists what is")
        try:
            return await command(query, body)
        except (msgspec.DecodeError, ValueError) as error:  # ValidationError is a DecodeError
            raise CommandError(400, str(error)) from error
        except GpaError as error:
            raise CommandError(500, str(error)) from error

    # --- the whole --------------------------------------------------------------------------------

    async def _health(self, _query: dict[str, str], _body: bytes) -> object:
        host, server = self._host, self._server
        return {
            "status": "ok",
            "listening": {name: server.is_listening(name) for name in server.places},
            "addresses": server.places,
            "connections": server.connections,
            "refused_connections": server.refused,
            "held": host.held,
            "verdicts": host.recorder.verdicts,
            "records_lost": host.recorder.lost,
            "remembered_signatures": len(host.judge.replays),
        }

    async def _get_scenario(self, _query: dict[str, str], _body: bytes) -> object:
        return scenario.to_document(self._host.scenario)

    async def _put_scenario(self, _query: dict[str, str], body: bytes) -> object:
        return self._apply(msgspec.json.decode(body))

    async def _patch_scenario(self, _query: dict[str, str], body: bytes) -> object:
        return self._patch(msgspec.json.decode(body, type=dict[str, Any]))

    def _patch(self, patch: dict[str, object]) -> object:
        return self._apply(scenario.merged(scenario.to_document(self._host.scenario), patch))

    def _apply(self, document: object) -> object:
        self._host.scenario = scenario.from_document(document)
        return scenario.to_document(self._host.scenario)

    # --- modes, rules, keys -----------------------------------------------------------------------

    async def _get_mode(self, _query: dict[str, str], _body: bytes) -> object:
        return {name: self._host.channel.mode(name) for name in ENDPOINTS}

    async def _put_mode(self, query: dict[str, str], body: bytes) -> object:
        wanted = msgspec.json.decode(body, type=dict[str, scenario.ModeText])
        for name in wanted:
            if name not in ENDPOINTS:
                raise CommandError(400, f"there is no endpoint {name!r}: {', '.join(ENDPOINTS)}")
        channel = self._host.scenario.channel
        if channel.version == "none":
            raise CommandError(409, "a host of version none has no modes: set channel.version")
        if channel.version == "1.0":
            modes = {name: self._host.channel.mode(name) for name in ENDPOINTS} | {
                name: mode.lower() for name, mode in wanted.items()
            }
            state = _STATES.get((modes["wireserver"], modes["imds"]))
            if state is None or modes["hostga"] != modes["wireserver"]:
                raise CommandError(409, "version 1.0 has no state for these modes")
            self._patch({"channel": {"state": state}})
        else:
            self._patch({"rules": {name: {"mode": mode} for name, mode in wanted.items()}})
        return await self._get_mode(query, b"")

    async def _get_rules(self, _query: dict[str, str], _body: bytes) -> object:
        return scenario.to_document(self._host.scenario)["rules"]

    async def _put_rules(self, query: dict[str, str], body: bytes) -> object:
        """Items that are named are replaced; null goes back to what holds without a word."""
        wanted = msgspec.json.decode(body, type=dict[str, Any])
        document = scenario.to_document(self._host.scenario)
        document["rules"] |= wanted
        self._apply(document)
        return await self._get_rules(query, b"")

    async def _get_latency(self, _query: dict[str, str], _body: bytes) -> object:
        return msgspec.to_builtins(self._host.scenario.latency)

    async def _put_latency(self, query: dict[str, str], body: bytes) -> object:
        self._patch({"latency": msgspec.json.decode(body, type=dict[str, Any])})
        return await self._get_latency(query, b"")

    async def _get_key(self, _query: dict[str, str], _body: bytes) -> object:
        channel = self._host.channel
        key = channel.latched
        return {
            "guid": key.guid if key else None,
            "incarnation": channel.incarnation,
            "pending": list(channel.pending),
        }

    async def _reset_key(self, query: dict[str, str], _body: bytes) -> object:
        self._host.channel.reset()
        return await self._get_key(query, b"")

    # --- faults -----------------------------------------------------------------------------------

    async def _get_faults(self, _query: dict[str, str], _body: bytes) -> object:
        return self._host.faults.document()

    async def _put_faults(self, query: dict[str, str], body: bytes) -> object:
        self._host.faults.replace(msgspec.json.decode(body, type=list[Fault]))
        return await self._get_faults(query, b"")

    async def _post_fault(self, _query: dict[str, str], body: bytes) -> object:
        fault: Fault = msgspec.json.decode(body, type=Fault)
        return {"id": self._host.faults.add(fault)}

    async def _delete_faults(self, query: dict[str, str], _body: bytes) -> object:
        self._host.faults.replace([])
        return await self._get_faults(query, b"")

    def _delete_fault(self, number: str) -> object:
        if not number.isdecimal() or not self._host.faults.remove(int(number)):
            raise CommandError(404, f"there is no fault {number}")
        return self._host.faults.document()

    async def _hold(self, _query: dict[str, str], body: bytes) -> object:
        fault = msgspec.json.decode(body, type=HoldFault) if body else HoldFault()
        return {"id": self._host.faults.add(fault)}

    async def _release(self, _query: dict[str, str], _body: bytes) -> object:
        return {"released": self._host.release()}

    # --- records, listeners -----------------------------------------------------------------------

    async def _get_records(self, query: dict[str, str], _body: bytes) -> object:
        """`since`, `limit`, and `wait`: seconds to wait when there is none yet."""
        since = int(query.get("since", "0"))
        limit = min(max(int(query.get("limit", str(MOST_RECORDS))), 1), MOST_RECORDS)
        wait = min(max(float(query.get("wait", "0")), 0.0), LONGEST_WAIT)
        recorder = self._host.recorder
        with trio.move_on_after(wait):
            while not recorder.since(since, 1):
                await recorder.wait()
        return recorder.since(since, limit)

    async def _delete_records(self, _query: dict[str, str], _body: bytes) -> object:
        self._host.recorder.clear()
        return []

    async def _get_listening(self, _query: dict[str, str], _body: bytes) -> object:
        return {name: self._server.is_listening(name) for name in self._server.places}

    async def _put_listening(self, query: dict[str, str], body: bytes) -> object:
        wanted = msgspec.json.decode(body, type=dict[str, bool])
        for name in ENDPOINTS:
            if name in wanted and name not in self._server.places:
                raise CommandError(409, f"this emulator was started without {name}")
        for name in ENDPOINTS:
            if wanted.get(name) is True:
                self._server.listen(name)
            elif wanted.get(name) is False:
                self._server.close(name)
        await trio.lowlevel.checkpoint()  # a cancelled listener closes its socket now
        return await self._get_listening(query, b"")
