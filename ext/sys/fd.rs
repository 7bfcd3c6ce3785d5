//! Descriptors that Python hands over by number.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::cerr;

/// A descriptor of our own for the open file `number`, closed on exec.
///
/// # Errors
/// EBADF when there is no such descriptor, EMFILE when there is no room.
pub fn duplicate(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and touches no memory; a bad `number` is refused with EBADF.
    let own = cerr(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) })?;
    // SAFETY: the kernel has just given us `own`, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(own) })
}
