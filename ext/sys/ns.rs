//! Sockets in other network namespaces.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread;

use super::cerr;

/// A socket that belongs to the network namespace `namespace`: closed on exec. A namespace is a thread's, and a socket
/// keeps the one it was made in, so a thread of its own goes there and ends: none of ours stays in a foreign one.
///
/// # Errors
/// As setns(2) and socket(2); EAGAIN when no thread can be had.
pub fn socket_in(namespace: BorrowedFd<'_>, family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    thread::scope(|scope| {
        let there = move || {
            // SAFETY: setns takes two integers; a descriptor that is no network namespace is refused with EINVAL. It
            // changes this thread alone, which ends with this closure.
            cerr(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })?;
            // SAFETY: no pointers; the result is checked before it is owned.
            let fd = cerr(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
            // SAFETY: socket has just made this descriptor and nobody else knows it.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        };
        let visitor = thread::Builder::new().name("gpa-netns".into()).spawn_scoped(scope, there)?;
        visitor.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the other namespace failed")))
    })
}
