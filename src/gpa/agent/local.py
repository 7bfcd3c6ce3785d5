"""Answers to the agent's own endpoints; the relay has parsed and checked the requests.

docs/protocol.md, "Local endpoints".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from gpa.agent.relay import Question

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpa._native.records import CallerFields
    from gpa.agent.relay import Relay

PROVISION = "/provision"
STATUS = "/gpa-aggregated-status"


class Source(Protocol):
    """Who knows the answers."""

    def provision_answer(self, tick: int, *, notify: bool) -> dict[str, object]:
        """Body of the answer to `/provision`."""

    def aggregate(self) -> dict[str, Any]:
        """Body of the answer to `/gpa-aggregated-status`."""


class LocalEndpoints:
    """Takes questions from the relay and answers them."""

    def __init__(
        self, relay: Relay, decode_caller: Callable[[bytes], CallerFields], source: Source
    ) -> None:
        self._relay = relay
        self._decode_caller = decode_caller
        self._source = source

    def answer_all(self) -> bool:
        """Answer what waits; True when there was something."""
        questions = [Question(*question) for question in self._relay.questions()]
        for question in questions:
            status, body = self._answer(question)
            self._relay.answer(question.token, status, json.dumps(body).encode())
        return bool(questions)

    def _answer(self, question: Question) -> tuple[int, dict[str, Any]]:
        if question.path == PROVISION:
            return 200, self._source.provision_answer(question.tick or 0, notify=question.notify)
        if question.path != STATUS:
            return 404, _refusal("NotFound", "the agent has nothing under this path")
        if not self._is_root(question.caller):
            return 403, _refusal("AccessDenied", "the agent's status is for root only")
        return 200, self._source.aggregate()

    def _is_root(self, record: bytes) -> bool:
        """Real and effective uid 0; a caller who is not known is nobody."""
        try:
            caller = self._decode_caller(record)
        except ValueError:
            return False
        return caller["uid"] == 0 and caller["euid"] == 0


def _refusal(error: str, words: str) -> dict[str, str]:
    return {"error": error, "error_description": words}
