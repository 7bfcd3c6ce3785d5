//! The kernel, behind safe signatures: the only place of the crate with `unsafe`.

pub mod bpf;
pub mod cgroup;
pub mod epoll;
pub mod fd;
pub mod heap;
pub mod mem;
pub mod net;
pub mod ns;
pub mod plain;
pub mod process;
pub mod time;

use std::io;

/// The one translation of errno: a negative result of a system call is the calling thread's last error.
fn cerr(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
