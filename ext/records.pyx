# cython: language_level=3, boundscheck=False, wraparound=False
"""Batches of audit records to Python: the rows of ext/audit.h as dictionaries, and those of allowed requests at once as
lines of the audit file.

The only place on the Python side that knows the layout; the C compiler takes it from the header itself.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy


cdef extern from "audit.h":
    enum:
        GPA_COMM_LEN
        GPA_EXE_NAME_LEN
        GPA_EXE_KNOWN
        GPA_EXE_NAME
        GPA_DIRECT
        GPA_AUDIT_METHOD_LEN
        GPA_AUDIT_TARGET_LEN

    struct gpa_ident:
        uint64_t start_boottime, connect_ns, cgroup_id, netns_cookie, sock_cookie, exe_ino
        int64_t exe_ctime_s
        uint32_t exe_ctime_ns, exe_dev, exe_gen, exe_sbmagic
        uint32_t tgid, tid, ppid, pf_flags, uid, gid, euid, egid, loginuid
        uint32_t userns_inum, mntns_inum, exe_mntns_inum, dst_ip4
        uint16_t dst_port, family
        uint32_t mark, bound_if
        char comm[16]
        char gl_comm[16]
        uint32_t abi, flags
        char exe_name[64]
        uint32_t reserve[4]

    struct gpa_audit:
        gpa_ident caller
        uint64_t unix_ns, decision_id, epoch, request_bytes, response_bytes
        uint32_t duration_us
        uint16_t status
        uint8_t endpoint, decision
        uint16_t reason, privilege, role, identity
        uint8_t signed_, mode
        uint16_t target_len
        char method[8]
        char target[288]


ROW_SIZE = sizeof(gpa_audit)
IDENT_SIZE = sizeof(gpa_ident)


cdef size_t length(const char *start, size_t size) noexcept:
    """Bytes before the first NUL."""
    cdef const char *end = <const char *>memchr(start, 0, size)
    return size if end == NULL else <size_t>(end - start)


cdef str text(const char *start, size_t size):
    """The bytes up to the first NUL; what is not UTF-8 is escaped, not lost."""
    return (<bytes>start[:length(start, size)]).decode("utf-8", "backslashreplace")


cdef dict caller_fields(const gpa_ident *c):
    return {
        "uid": c.uid,
        "gid": c.gid,
        "euid": c.euid,
        "egid": c.egid,
        "loginuid": None if c.loginuid == 0xFFFFFFFF else c.loginuid,
        "tgid": c.tgid,
        "tid": c.tid,
        "ppid": c.ppid,
        "start_boottime": c.start_boottime,
        "connect_ns": c.connect_ns,
        "cgroup_id": c.cgroup_id,
        "netns_cookie": c.netns_cookie,
        "sock_cookie": c.sock_cookie,
        "abi": c.abi,
        "userns": c.userns_inum,
        "mntns": c.mntns_inum,
        "exe": (c.exe_dev, c.exe_ino, c.exe_ctime_s, c.exe_ctime_ns) if c.flags & GPA_EXE_KNOWN else None,
        "exe_name": text(c.exe_name, GPA_EXE_NAME_LEN) if c.flags & GPA_EXE_NAME else None,
        "comm": text(c.comm, GPA_COMM_LEN),
        "leader_comm": text(c.gl_comm, GPA_COMM_LEN),
        "direct": bool(c.flags & GPA_DIRECT),
        "family": c.family,
    }


def decode_caller(const uint8_t[::1] data not None):
    """One `struct gpa_ident` as a dictionary; ValueError when the size is not that of the record."""
    cdef gpa_ident row
    if data.shape[0] != sizeof(gpa_ident):
        raise ValueError(f"a caller record has {sizeof(gpa_ident)} bytes, not {data.shape[0]}")
    memcpy(&row, &data[0], sizeof(gpa_ident))
    return caller_fields(&row)


cdef object place(uint16_t index):
    return None if index == 0xFFFF else index


cdef dict row_fields(const gpa_audit *row):
    return {
        "caller": caller_fields(&row.caller) if row.caller.connect_ns else None,
        "unix_ns": row.unix_ns,
        "decision_id": row.decision_id,
        "epoch": row.epoch,
        "request_bytes": row.request_bytes,
        "response_bytes": row.response_bytes,
        "duration_us": row.duration_us,
        "status": row.status,
        "endpoint": row.endpoint,
        "decision": row.decision,
        "reason": row.reason,
        "privilege": place(row.privilege),
        "role": place(row.role),
        "identity": place(row.identity),
        "signed": bool(row.signed_),
        "mode": row.mode,
        "method": text(row.method, GPA_AUDIT_METHOD_LEN),
        "target": text(row.target, min(<size_t>row.target_len, <size_t>GPA_AUDIT_TARGET_LEN)),
    }


cdef Py_ssize_t count_rows(const uint8_t[::1] data) except -1:
    if data.shape[0] % <Py_ssize_t>sizeof(gpa_audit):
        raise ValueError(f"audit records have {sizeof(gpa_audit)} bytes each, {data.shape[0]} is not a multiple")
    return data.shape[0] // <Py_ssize_t>sizeof(gpa_audit)


def decode(const uint8_t[::1] data not None):
    """Rows of `struct gpa_audit` as dictionaries, oldest first.

    `caller` is None where the caller is not known, the indices None where nothing matched. ValueError when the size
    is not a whole number of rows.
    """
    cdef gpa_audit row
    cdef Py_ssize_t number
    cdef list rows = []
    for number in range(count_rows(data)):
        memcpy(&row, &data[number * <Py_ssize_t>sizeof(gpa_audit)], sizeof(gpa_audit))
        rows.append(row_fields(&row))
    return rows


include "line.pxi"


cdef void put_row(Line *line, Stamp *stamp, const gpa_audit *row, bytes endpoint, bytes reason, bytes rule,
                  tuple harmless) except *:
    """As `allowed_line` of gpa/agent/audit.py, which writes what stays not whole; a test compares."""
    cdef const gpa_ident *caller = &row.caller
    put_text(line, '{"time":"')
    put_time(line, stamp, row.unix_ns)
    put_text(line, '","id":"d-')
    put_number(line, row.decision_id)
    put_text(line, '","endpoint":"')
    put(line, endpoint, len(endpoint))
    put_text(line, '","method":"')
    put_plain(line, row.method, length(row.method, GPA_AUDIT_METHOD_LEN))
    put_text(line, '","target":"')
    put_target(line, row.target, min(<size_t>row.target_len, <size_t>GPA_AUDIT_TARGET_LEN), harmless)
    put_text(line, '","decision":"allow","reason":"')
    put(line, reason, len(reason))
    put_text(line, '","status":')
    put_number(line, row.status)
    put_text(line, ',"us":')
    put_number(line, row.duration_us)
    put_text(line, ',"epoch":')
    put_number(line, row.epoch)
    put_text(line, ',"signed":true' if row.signed_ else ',"signed":false')
    put(line, rule, len(rule))
    put_text(line, ',"uid":')
    put_number(line, caller.uid)
    put_text(line, ',"pid":')
    put_number(line, caller.tgid)
    put_text(line, ',"exe":"')
    put_plain(line, caller.exe_name, length(caller.exe_name, GPA_EXE_NAME_LEN))
    put_text(line, '"}\n')


cdef bytes rule_of(dict known, object words, const gpa_audit *row):
    key = (row.epoch, row.endpoint, row.privilege, row.role, row.identity)
    found = known.get(key)
    if found is None:
        found = known[key] = words(
            row.epoch, row.endpoint, place(row.privilege), place(row.role), place(row.identity)
        )
    return found


cdef void add(dict counts, const gpa_audit *row, Py_ssize_t times) except *:
    """Count requests that ended like this one."""
    if times:
        key = (row.caller.uid, row.endpoint, row.status, row.caller.tgid, row.caller.start_boottime)
        counts[key] = counts.get(key, 0) + times


cdef bint counted_alike(const gpa_audit *a, const gpa_audit *b) noexcept:
    return (a.caller.uid == b.caller.uid and a.endpoint == b.endpoint and a.status == b.status
            and a.caller.tgid == b.caller.tgid and a.caller.start_boottime == b.caller.start_boottime)


cdef bint judged_alike(const gpa_audit *a, const gpa_audit *b) noexcept:
    return (a.epoch == b.epoch and a.endpoint == b.endpoint and a.privilege == b.privilege
            and a.role == b.role and a.identity == b.identity)


def split(const uint8_t[::1] data not None, rule_words not None, *, tuple endpoints not None, dict reasons not None,
          tuple harmless not None, Py_ssize_t limit):
    """Rows of `struct gpa_audit`, oldest first: lines of the audit file where a known program was plainly allowed, else
    dictionaries as `decode` gives them; and how often each (uid, endpoint, status, tgid, start) stands in the lines.

    `rule_words(epoch, endpoint, privilege, role, identity)` gives the members that name what matched, as bytes with a
    comma before each; `endpoints` and `reasons` are the words for their numbers, `harmless` the query parameters shown
    (lower case), `limit` the bytes of a line. A line that would be longer, or has more than printable ASCII in it, or a
    target that filled its row, or two user ids, is left to Python. ValueError when the size is not a whole number of rows.
    """
    cdef Py_ssize_t number, rows = count_rows(data)
    cdef list pieces = []
    cdef dict counts = {}, rules = {}
    cdef gpa_audit row, counted, judged
    cdef Py_ssize_t times = 0
    cdef bytes rule = None
    cdef object reason
    cdef Line line
    cdef Stamp stamp
    cdef char *first
    cdef char *used
    cdef char *lines = <char *>PyMem_Malloc(max(rows * limit, 1))
    if lines == NULL:
        raise MemoryError
    stamp.size = 0
    first = used = lines
    try:
        for number in range(rows):
            memcpy(&row, &data[number * <Py_ssize_t>sizeof(gpa_audit)], sizeof(gpa_audit))
            line.whole = (row.decision == 0 and row.caller.connect_ns and row.caller.flags & GPA_EXE_NAME
                          and row.caller.uid == row.caller.euid
                          and row.endpoint < len(endpoints) and row.target_len < GPA_AUDIT_TARGET_LEN)
            reason = reasons.get(row.reason) if line.whole else None
            if reason is not None:
                if rule is None or not judged_alike(&row, &judged):
                    rule, judged = rule_of(rules, rule_words, &row), row
                line.at, line.end = used, used + limit
                put_row(&line, &stamp, &row, endpoints[row.endpoint], reason, rule, harmless)
                if line.whole:
                    used = line.at
                    if not times or not counted_alike(&row, &counted):
                        add(counts, &counted, times)
                        times, counted = 0, row
                    times += 1
                    continue
            if used != first:
                pieces.append(<bytes>first[:used - first])
                first = used
            pieces.append(row_fields(&row))
        if used != first:
            pieces.append(<bytes>first[:used - first])
        add(counts, &counted, times)
        return pieces, counts
    finally:
        PyMem_Free(lines)
