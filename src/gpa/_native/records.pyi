from collections.abc import Callable
from typing import Final, TypedDict, type_check_only

ROW_SIZE: Final[int]
IDENT_SIZE: Final[int]

@type_check_only
class CallerFields(TypedDict):
    uid: int
    gid: int
    euid: int
    egid: int
    loginuid: int | None
    tgid: int
    tid: int
    ppid: int
    start_boottime: int
    connect_ns: int
    cgroup_id: int
    netns_cookie: int
    sock_cookie: int
    abi: int
    userns: int
    mntns: int
    exe: tuple[int, int, int, int] | None
    exe_name: str | None
    comm: str
    leader_comm: str
    direct: bool
    family: int

@type_check_only
class AuditRow(TypedDict):
    caller: CallerFields | None
    unix_ns: int
    decision_id: int
    epoch: int
    request_bytes: int
    response_bytes: int
    duration_us: int
    status: int
    endpoint: int
    decision: int
    reason: int
    privilege: int | None
    role: int | None
    identity: int | None
    signed: bool
    mode: int
    method: str
    target: str

def decode_caller(data: bytes) -> CallerFields: ...
def decode(data: bytes) -> list[AuditRow]: ...
def split(
    data: bytes,
    rule_words: Callable[[int, int, int | None, int | None, int | None], bytes],
    *,
    endpoints: tuple[bytes, ...],
    reasons: dict[int, bytes],
    harmless: tuple[bytes, ...],
    limit: int,
) -> tuple[list[bytes | AuditRow], dict[tuple[int, int, int, int, int], int]]: ...
