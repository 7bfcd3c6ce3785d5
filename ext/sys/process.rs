//! This process: who it is, and that nobody looks into it.

use std::io;

use super::cerr;

/// The user whose files are ours.
#[must_use]
pub fn effective_uid() -> u32 {
    // SAFETY: geteuid(2) has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// No core dump, no ptrace and no /proc/PID/mem for others: the process holds keys.
///
/// # Errors
/// Those of setrlimit(2) and prctl(2).
pub fn harden() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is a valid rlimit that outlives the call.
    cerr(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) })?;
    // SAFETY: PR_SET_DUMPABLE takes one integer; the rest is not looked at.
    cerr(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    Ok(())
}
