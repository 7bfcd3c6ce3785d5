//! The one call of bpf(2) that the relay makes; everything else about eBPF is libbpf's, in the control plane.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::caller::Ident;

/// `BPF_MAP_LOOKUP_ELEM` of <linux/bpf.h>.
const MAP_LOOKUP_ELEM: libc::c_int = 1;

/// `union bpf_attr` as far as looking up needs it.
#[repr(C)]
struct Lookup {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The record that a socket carries in the map `idents` of bpf/maps.h. A storage map is asked by the number of the
/// socket's descriptor (Linux 5.2).
///
/// # Errors
/// ENOENT when it carries none; EPERM without CAP_BPF.
pub fn record_of(map: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> io::Result<Ident> {
    let number = socket.as_raw_fd();
    let mut ident = Ident::zeroed();
    let lookup = Lookup {
        map: map.as_raw_fd().cast_unsigned(),
        pad: 0,
        key: (&raw const number).expose_provenance() as u64,
        value: (&raw mut ident).expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: `lookup` is a whole attr whose size is given; its two addresses are those of `number` and `ident`, which
    // live during the call and have the sizes of the map's key and value: the map is `idents`, whose value is
    // asserted in bpf/record.h to have the size of `Ident`, for which every pattern of bits is valid.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, MAP_LOOKUP_ELEM, &raw const lookup, std::mem::size_of::<Lookup>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(ident) }
}
