//! cgroup v2 by number: what eBPF tells of a caller is its cgroup's id.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::cerr;

/// `FILEID_KERNFS`: the handle of a kernfs node is its id and nothing else (include/linux/exportfs.h, Linux 5.5).
const KERNFS: i32 = 0xfe;

/// `struct file_handle` of open_by_handle_at(2) with a handle of eight bytes.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: [u8; 8],
}

/// The folder of the cgroup with that id; `mount` is any folder of the same hierarchy. It cannot be read, only asked
/// what it is (`O_PATH`).
///
/// # Errors
/// ESTALE when that cgroup is gone; EPERM without `CAP_DAC_READ_SEARCH`.
pub fn by_id(mount: BorrowedFd<'_>, id: u64) -> io::Result<OwnedFd> {
    let handle = Handle { bytes: 8, kind: KERNFS, id: id.to_ne_bytes() };
    // SAFETY: `handle` has the layout of struct file_handle followed by the `bytes` bytes that it announces, and lives
    // during the call; the kernel only reads it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            &raw const handle,
            libc::O_PATH | libc::O_CLOEXEC | libc::O_DIRECTORY,
        )
    };
    let fd = cerr(libc::c_int::try_from(result).unwrap_or(-1))?;
    // SAFETY: the kernel has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
