"""Connections counted by who, where and how they ended, for the aggregate status. Pure.

docs/protocol.md, "Aggregate status". Rows are capped: a client that comes as ever new programs
ends up in one row named `other`.
"""

from __future__ import annotations

import http
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gpa.endpoints import Endpoint

if TYPE_CHECKING:
    from gpa._native.records import AuditRow
    from gpa.agent.identity import Program, User

ROWS: Final = 256
"""In each of the two summaries; a row is some 500 bytes of status.json."""

OTHER: Final = "other"

FAILED: Final = frozenset({1, 2})
"""`gpa_audit.decision`: audit-allow and deny are failed authorizations."""


class _Row(NamedTuple):
    """As shown: what is unknown is empty there."""

    user: str
    groups: tuple[str, ...]
    ip: str
    port: int
    path: str
    command_line: str
    status: int


class Summary:
    """The counts since the start. Counted in one thread, shown in another: a list is taken at
    once."""

    def __init__(self) -> None:
        self.total = 0
        self._all: dict[_Row, int] = {}
        self._failed: dict[_Row, int] = {}

    def count(self, row: AuditRow, user: User | None, program: Program | None) -> None:
        """Count one request."""
        key = self._count(row["endpoint"], row["status"], user, program, 1)
        if row["decision"] in FAILED:
            _add(self._failed, key, 1)

    def count_allowed(
        self, endpoint: int, status: int, user: User | None, program: Program | None, times: int
    ) -> None:
        """Count requests of one process that were allowed and ended alike."""
        self._count(endpoint, status, user, program, times)

    def _count(
        self, endpoint: int, status: int, user: User | None, program: Program | None, times: int
    ) -> _Row:
        self.total += times
        ip, port = list(Endpoint)[endpoint].address if endpoint < len(Endpoint) else ("", 0)
        key = _Row(
            user=user.name if user else "",
            groups=(user.groups if user else None) or (),
            ip=ip,
            port=port,
            path=program.path if program else "",
            command_line=program.command_line if program else "",
            status=status,
        )
        _add(self._all, key, times)
        return key

    def rows(self) -> list[dict[str, Any]]:
        """`proxyConnectionSummary`."""
        return [_shown(row, count) for row, count in list(self._all.items())]

    def failed_rows(self) -> list[dict[str, Any]]:
        """`failedAuthenticateSummary`."""
        return [_shown(row, count) for row, count in list(self._failed.items())]


def _add(rows: dict[_Row, int], key: _Row, times: int) -> None:
    if key not in rows and len(rows) >= ROWS:
        key = _Row(OTHER, (), "", 0, "", "", 0)
    rows[key] = rows.get(key, 0) + times


def _shown(row: _Row, count: int) -> dict[str, Any]:
    return {
        "userName": row.user,
        "userGroups": list(row.groups),
        "ip": row.ip,
        "port": row.port,
        "processFullPath": row.path,
        "processCmdLine": row.command_line,
        "responseStatus": _phrase(row.status),
        "count": count,
    }


def _phrase(status: int) -> str:
    if not status:
        return ""
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
