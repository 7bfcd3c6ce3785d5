# cython: language_level=3, boundscheck=False, wraparound=False
"""Batches of audit records to Python: the rows of ext/audit.h as dictionaries.

The only place on the Python side that knows the layout; the C compiler takes it from the header itself.
"""

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


cdef str text(const char *start, size_t size):
    """The bytes up to the first NUL; what is not UTF-8 is escaped, not lost."""
    cdef const char *end = <const char *>memchr(start, 0, size)
    if end != NULL:
        size = end - start
    return (<bytes>start[:size]).decode("utf-8", "backslashreplace")


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


def decode(const uint8_t[::1] data not None):
    """Rows of `struct gpa_audit` as dictionaries, oldest first.

    `caller` is None where the caller is not known, the indices None where nothing matched. ValueError when the size
    is not a whole number of rows.
    """
    cdef gpa_audit row
    cdef Py_ssize_t at, size = sizeof(gpa_audit)
    cdef list rows = []
    if data.shape[0] % size:
        raise ValueError(f"audit records have {size} bytes each, {data.shape[0]} is not a multiple")
    for at in range(0, data.shape[0], size):
        memcpy(&row, &data[at], size)
        rows.append({
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
            "privilege": None if row.privilege == 0xFFFF else row.privilege,
            "role": None if row.role == 0xFFFF else row.role,
            "identity": None if row.identity == 0xFFFF else row.identity,
            "signed": bool(row.signed_),
            "mode": row.mode,
            "method": text(row.method, GPA_AUDIT_METHOD_LEN),
            "target": text(row.target, min(<size_t>row.target_len, <size_t>GPA_AUDIT_TARGET_LEN)),
        })
    return rows
