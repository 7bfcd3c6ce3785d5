"""Rows of the relay to lines for people and machines. docs/audit.md describes every field.

`audit.jsonl` gets one line a request: an allowed one short (at most `ALLOWED_BYTES`), a refused or
failed one in full. The lines of most allowed requests come written from the native half (rows.py);
what is here writes the same for the rest. `ProxyAgent.Connection.log` gets refusals and failures as
text followed by the same object, everything only at a higher log level. All JSON is ASCII: no
control character and no forged line gets through, whatever a client sends.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from gpa.agent import redact, words
from gpa.agent.log import one_line, timestamp
from gpa.endpoints import Endpoint
from gpa.rules.units import NO_UNIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gpa._native.records import AuditRow
    from gpa.agent.identity import Exe, Names, Program, User
    from gpa.agent.summary import Summary
    from gpa.rules.units import Unit

    RuleWords = Callable[[int, int, int | None, int | None, int | None], bytes]
    Counts = Mapping[tuple[int, int, int, int, int], int]
    Pieces = tuple[list[bytes | AuditRow], Counts]

ALLOWED_BYTES: Final = 400
"""A line for an allowed request, newline included; disks fill by those."""

NAME_LIMIT: Final = 128
"""Characters of a rule's name in a full record; of a short one, a quarter."""

TARGET_BYTES: Final = 288
"""What a row holds of a target (ext/audit.h)."""

CUT: Final = ("target", "exe", "comm", "privilege", "role", "identity")
"""What an allowed request's line may lose parts of."""

EPOCHS_KEPT: Final = 16
"""Records lag behind by parts of a second; rules do not change sixteen times in it."""

ALLOW: Final = 0
"""`gpa_audit.decision` of a request that nothing was said against."""

NO_IDENTITY_MATCHED: Final = 21
"""`gpa_audit.reason` of a request that rules name, for other users or programs."""

UIDS_KEPT: Final = 4096
"""Callers whose groups are asked for by uid: not every user database lists all its users."""

DESCRIBED_PER_BATCH: Final = 64
"""New processes looked at in /proc for allowed requests; a flood of them costs no more."""


class RuleNames(Protocol):
    """Place in the compiled table of one endpoint to the name that people gave."""

    def privilege(self, place: int | None) -> str | None:
        """Name of a privilege."""

    def role(self, place: int | None) -> str | None:
        """Name of a role."""

    def identity(self, place: int | None) -> str | None:
        """Name of an identity."""


class Epochs:
    """Names of the last snapshots: a record is read with the names of the one that judged."""

    def __init__(self) -> None:
        self._names: OrderedDict[int, Mapping[Endpoint, RuleNames]] = OrderedDict()

    def add(self, epoch: int, names: Mapping[Endpoint, RuleNames]) -> None:
        """The snapshot of `epoch` was compiled with these."""
        self._names[epoch] = names
        while len(self._names) > EPOCHS_KEPT:
            self._names.popitem(last=False)

    def rule(
        self,
        epoch: int,
        endpoint: int,
        privilege: int | None,
        role: int | None,
        identity: int | None,
    ) -> dict[str, str]:
        """What matched, by name."""
        names = self._names.get(epoch)
        if names is None or endpoint >= len(Endpoint):
            return {}
        of_endpoint = names.get(list(Endpoint)[endpoint])
        if of_endpoint is None:
            return {}
        found = {
            "privilege": of_endpoint.privilege(privilege),
            "role": of_endpoint.role(role),
            "identity": of_endpoint.identity(identity),
        }
        return {kind: name for kind, name in found.items() if name is not None}

    def short_words(
        self,
        epoch: int,
        endpoint: int,
        privilege: int | None,
        role: int | None,
        identity: int | None,
    ) -> bytes:
        """The same as members of a short record, a comma before each."""
        rule = short_names(self.rule(epoch, endpoint, privilege, role, identity))
        return b"," + line(rule)[1:-2] if rule else b""


def short_names(rule: Mapping[str, str]) -> dict[str, str]:
    """Names in rules as a short record has them."""
    return {kind: name[: NAME_LIMIT // 4] for kind, name in rule.items()}


def short_record(row: AuditRow, rule: Mapping[str, str]) -> dict[str, Any]:
    """The record of an allowed request."""
    caller = row["caller"]
    record: dict[str, Any] = {
        "time": timestamp(row["unix_ns"]),
        "id": f"d-{row['decision_id']}",
        "endpoint": words.endpoint(row["endpoint"]),
        "method": row["method"],
        "target": _target(row["target"]),
        "decision": words.decision(row["decision"]),
        "reason": words.reason(row["reason"]),
        "status": row["status"],
        "us": row["duration_us"],
        "epoch": row["epoch"],
        "signed": row["signed"],
        **short_names(rule),
    }
    if caller is not None:
        record["uid"] = caller["uid"]
        record["pid"] = caller["tgid"]
        record["exe"] = caller["exe_name"]
        if caller["exe_name"] is None:
            record["comm"] = caller["comm"]
        if caller["euid"] != caller["uid"]:  # rules on users do not hold for him
            record["euid"] = caller["euid"]
    return record


def _target(text: str) -> str:
    """Without secrets; one that filled its row is said to be cut, which after that nobody could
    tell."""
    return redact.target(text) + ("~" if len(text.encode()) >= TARGET_BYTES else "")


def full_record(
    row: AuditRow,
    rule: Mapping[str, str],
    user: User | None,
    program: Program | None,
    unit: Unit = NO_UNIT,
) -> dict[str, Any]:
    """The record of a refused or failed request, with all that is known about its caller."""
    record = short_record(row, {})
    record |= {kind: name[:NAME_LIMIT] for kind, name in rule.items()}
    record |= {
        "mode": words.mode(row["mode"]),
        "requestBytes": row["request_bytes"],
        "responseBytes": row["response_bytes"],
    }
    caller = row["caller"]
    if caller is not None:
        record |= {
            "euid": caller["euid"],
            "gid": caller["gid"],
            "egid": caller["egid"],
            "loginuid": caller["loginuid"],
            "ppid": caller["ppid"],
            "start": caller["start_boottime"],
            "cgroup": caller["cgroup_id"],
            "comm": caller["comm"],
            "direct": caller["direct"],
        }
    if user is not None:
        record["user"] = user.name[:NAME_LIMIT]
        if user.groups is not None:
            record["groups"] = [group[:NAME_LIMIT] for group in user.groups[:32]]
    record |= {kind: name[:NAME_LIMIT] for kind, name in unit._asdict().items() if name}
    if program is not None:
        record["path"] = program.path
        record["cmdline"] = program.command_line
    return record


def line(record: Mapping[str, Any]) -> bytes:
    """One line of JSON, ASCII."""
    return json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"


def allowed_line(record: dict[str, Any]) -> bytes:
    """The same, never longer than `ALLOWED_BYTES`: the longest words are cut first."""
    data = line(record)
    while len(data) > ALLOWED_BYTES:
        longest = max(
            (key for key in CUT if isinstance(record.get(key), str)),
            key=lambda key: len(json.dumps(record[key])),
        )
        text = record[longest].removesuffix("~")
        if not text:
            break  # what is left is fixed words and numbers
        record[longest] = text[: len(text) - max(1, (len(data) - ALLOWED_BYTES) // 6)] + "~"
        data = line(record)
    return data


def connection_line(row: AuditRow, record: Mapping[str, Any]) -> bytes:
    """Text, then the object, as queries on the journal read it."""
    level = "INFO" if row["decision"] == ALLOW else "WARN"
    who = f"user {record['user']} (uid {record['uid']})" if record.get("user") else "nobody known"
    if not record.get("user") and "uid" in record:
        who = f"uid {record['uid']}"
    what = f"{record['decision']} {record['method']} {record['target']} of {who}"
    why = f"{record['reason']}, status {record['status']}"
    text = one_line(f"{what}: {why}").encode("ascii", "backslashreplace")
    return timestamp(row["unix_ns"]).encode() + f" [{level}] ".encode() + text + b" " + line(record)


class Auditor:
    """Rows to the bytes of the two files, and to the summary.

    Args:
        names: resolves users and programs; blocking.
        summary: counts every row.
        everything: write allowed requests to the connection log, too.

    Attributes:
        epochs: names in rules by epoch.
        seen_uids: of callers, for the look-up of groups.
        unknown: somebody was refused because no identity matched; a user, group or program may
            have come or changed since names were last looked up. Whoever looks resets it.
    """

    def __init__(self, names: Names, summary: Summary, *, everything: bool = False) -> None:
        self.epochs = Epochs()
        self.seen_uids: set[int] = set()
        self.unknown = False
        self._names = names
        self._summary = summary
        self._everything = everything

    @property
    def rule_words(self) -> RuleWords | None:
        """What rows are split with; None where every row is told in full."""
        return None if self._everything else self.epochs.short_words

    def lines(
        self, pieces: Iterable[bytes | AuditRow], counts: Counts = MappingProxyType({})
    ) -> tuple[bytes, bytes]:
        """Lines for the audit file and for the connection log; blocking, for a worker thread.

        Args:
            pieces: lines of the audit file, and rows that are to become some.
            counts: how often each (uid, endpoint, status, tgid, start) stands in the lines.
        """
        pieces = list(pieces)
        rows = [piece for piece in pieces if not isinstance(piece, bytes)]
        programs = self._describe(counts, rows)
        for (uid, endpoint, status, *process), times in counts.items():
            program = programs.get((process[0], process[1]))
            self._summary.count_allowed(endpoint, status, self._user(uid), program, times)
        audit, connections = bytearray(), bytearray()
        for piece in pieces:
            if isinstance(piece, bytes):
                audit += piece
            else:
                self._tell(piece, programs, audit, connections)
        return bytes(audit), bytes(connections)

    def _tell(
        self,
        row: AuditRow,
        programs: Mapping[tuple[int, int], Program | None],
        audit: bytearray,
        connections: bytearray,
    ) -> None:
        rule = self.epochs.rule(
            row["epoch"], row["endpoint"], row["privilege"], row["role"], row["identity"]
        )
        allowed = row["decision"] == ALLOW
        caller, user, program = row["caller"], None, None
        if caller is not None:
            user = self._user(caller["uid"])
            program = programs.get((caller["tgid"], caller["start_boottime"]))
        self._summary.count(row, user, program)
        self.unknown |= not allowed and row["reason"] == NO_IDENTITY_MATCHED
        if allowed:
            audit += allowed_line(short_record(row, rule))
            if not self._everything:
                return
        unit = NO_UNIT if caller is None else self._names.unit(caller["cgroup_id"])
        record = full_record(row, rule, user, program, unit)
        if not allowed:
            audit += line(record)
        connections += connection_line(row, record)

    def _user(self, uid: int) -> User | None:
        if len(self.seen_uids) < UIDS_KEPT:
            self.seen_uids.add(uid)
        return self._names.user(uid)

    def _describe(
        self, counts: Counts, rows: Iterable[AuditRow]
    ) -> dict[tuple[int, int], Program | None]:
        """Look at the processes before anything else: many live for milliseconds."""
        callers: list[tuple[tuple[int, int], Exe | None, bool]] = [
            ((tgid, start), None, True) for _, _, _, tgid, start in counts
        ]
        for row in rows:
            if (caller := row["caller"]) is not None:
                process = (caller["tgid"], caller["start_boottime"])
                callers.append((process, caller["exe"], row["decision"] == ALLOW))
        programs: dict[tuple[int, int], Program | None] = {}
        described = 0
        for process, exe, allowed in callers:
            known = self._names.seen(*process)
            if known or not allowed or described < DESCRIBED_PER_BATCH:
                described += not known
                programs[process] = self._names.program(*process, exe)
        return programs
