//! The records that C, Cython and Rust share: what Rust reads lies where the headers put it. Cython takes its offsets from
//! the headers at compile time, `tests/native/test_glue.py` compares what it reads.

use super::AuditRow;
use crate::caller;
use crate::caller::Ident;

const RECORD: &str = include_str!("../../bpf/record.h");
const AUDIT: &str = include_str!("../audit.h");

/// Name, offset, size.
type Field = (String, usize, usize);

macro_rules! fields {
    ($record:ident, $value:expr, $($field:ident)*) => {
        vec![$((stringify!($field).to_owned(), std::mem::offset_of!($record, $field), size_of_val(&$value.$field))),*]
    };
}

fn defined(name: &str) -> u32 {
    let line = [RECORD, AUDIT].iter().flat_map(|header| header.lines()).find_map(|line| {
        let (found, value) = line.strip_prefix("#define ")?.split_once(' ')?;
        (found == name).then_some(value)
    });
    let value = line.expect("a constant of the headers").split("/*").next().unwrap_or_default().trim();
    if let Some(bit) = value.strip_prefix("(1U << ") {
        return 1 << bit.trim_end_matches(')').parse::<u32>().expect("a bit");
    }
    value.strip_prefix("0x").map_or_else(|| value.parse(), |hex| u32::from_str_radix(hex, 16)).expect("a number")
}

/// The fields of a struct as a C compiler lays them out, one a line in the headers; every one must lie at a multiple of
/// its own size, so that nothing is between them.
fn laid_out(header: &str, name: &str) -> Vec<Field> {
    let (_, rest) = header.split_once(&format!("struct {name} {{")).expect("the struct");
    let (body, _) = rest.split_once("\n};").expect("its end");
    let mut fields = Vec::new();
    let mut at = 0;
    for line in body.lines().filter(|line| !line.is_empty()) {
        let (declaration, _) = line.trim().split_once(';').expect("one field a line");
        let (kind, name) = declaration.rsplit_once(' ').expect("a type and a name");
        let (name, count) = name.split_once('[').map_or((name, 1), |(name, length)| {
            let length = length.trim_end_matches(']');
            (name, length.parse().unwrap_or_else(|_| defined(length) as usize))
        });
        let size = match kind {
            "__u64" | "__s64" => 8,
            "__u32" => 4,
            "__u16" => 2,
            "__u8" | "char" => 1,
            "struct gpa_ident" => size_of::<Ident>(),
            other => panic!("not understood: {other}"),
        };
        assert_eq!(at % size.min(8), 0, "{name} has padding before it");
        // `signed` is a word of C.
        fields.push((name.trim_end_matches('_').to_owned(), at, size * count));
        at += size * count;
    }
    fields
}

#[test]
fn a_caller_lies_where_the_kernel_half_puts_it() {
    let value = Ident::zeroed();
    let ours = fields!(Ident, value,
        start_boottime connect_ns cgroup_id netns_cookie sock_cookie exe_ino exe_ctime_s exe_ctime_ns exe_dev exe_gen
        exe_sbmagic tgid tid ppid pf_flags uid gid euid egid loginuid userns_inum mntns_inum exe_mntns_inum dst_ip4
        dst_port family mark bound_if comm gl_comm abi flags exe_name reserve);
    assert_eq!(ours, laid_out(RECORD, "gpa_ident"));
    assert_eq!(size_of::<Ident>(), ours.iter().map(|(_, _, size)| size).sum::<usize>());
}

#[test]
fn an_audit_row_lies_where_cython_looks() {
    let value = AuditRow::default();
    let ours = fields!(AuditRow, value,
        caller unix_ns decision_id epoch request_bytes response_bytes duration_us status endpoint decision reason
        privilege role identity signed mode target_len pad method target);
    assert_eq!(ours, laid_out(AUDIT, "gpa_audit"));
    assert_eq!(size_of::<AuditRow>(), ours.iter().map(|(_, _, size)| size).sum::<usize>());
}

#[test]
fn numbers_are_those_of_the_headers() {
    let ours = [
        ("GPA_ABI", caller::ABI),
        ("GPA_SOL", caller::SOL_GPA.cast_unsigned()),
        ("GPA_SO_IDENT", caller::SO_IDENT.cast_unsigned()),
        ("GPA_SO_EXEMPT", caller::SO_EXEMPT.cast_unsigned()),
        ("GPA_SO_CLAIM", caller::SO_CLAIM.cast_unsigned()),
        ("GPA_DIRECT", caller::FLAG_DIRECT),
        ("GPA_ACCEPTED", caller::FLAG_ACCEPTED),
        ("GPA_EXE_KNOWN", caller::FLAG_EXE_KNOWN),
        ("GPA_EXE_NAME", caller::FLAG_EXE_NAME),
    ];
    for (name, value) in ours {
        assert_eq!(value, defined(name), "{name}");
    }
}
