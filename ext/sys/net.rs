//! Stream sockets as the relay uses them: non-blocking, one system call a function, errno as `io::Error`.
//!
//! Descriptors are `OwnedFd`/`BorrowedFd`, so none is closed twice or used after it was closed. Buffers are slices
//! or the spare capacity of a `Vec`.

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::cerr;
use crate::caller::{Ident, SO_EXEMPT, SO_IDENT, SOL_GPA};

#[expect(clippy::cast_possible_truncation, reason = "AF_INET is 2")]
const FAMILY: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;

/// Takes one connection from the queue of `listener`: non-blocking, closed on exec.
///
/// # Errors
/// `WouldBlock` when the queue is empty; EMFILE, ENFILE, ENOBUFS, ENOMEM when the system has no room; ECONNABORTED
/// when the peer left the queue.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: accept4 takes null for an address nobody asks for; the result is checked before it is owned.
    let fd = cerr(unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
        )
    })?;
    // SAFETY: accept4 has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A new IPv4 stream socket: non-blocking, closed on exec.
///
/// # Errors
/// As socket(2); EMFILE and ENFILE when descriptors are exhausted.
pub fn tcp_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked before it is owned.
    let fd =
        cerr(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: socket has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Starts a connection. True when it stands at once, false when it is under way.
///
/// # Errors
/// As connect(2), without EINPROGRESS.
pub fn connect(fd: BorrowedFd<'_>, (ip, port): ([u8; 4], u16)) -> io::Result<bool> {
    let address = libc::sockaddr_in {
        sin_family: FAMILY,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip) },
        sin_zero: [0; 8],
    };
    let length = length_of::<libc::sockaddr_in>();
    // SAFETY: `address` is a whole sockaddr_in that lives during the call, `length` its size.
    match cerr(unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), length) }) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads into `buffer`; 0 is the end of the stream.
///
/// # Errors
/// `WouldBlock` when nothing is there; ECONNRESET and its peers.
pub fn recv(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length are those of one live, exclusive slice.
    let n = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Appends at most `room` bytes to `buffer` without clearing them first; 0 is the end of the stream.
///
/// # Errors
/// As [`recv`].
pub fn recv_append(fd: BorrowedFd<'_>, buffer: &mut Vec<u8>, room: usize) -> io::Result<usize> {
    buffer.reserve(room);
    let spare = &mut buffer.spare_capacity_mut()[..room];
    // SAFETY: pointer and length are those of the spare capacity, exclusive and live; the kernel only writes to it.
    let n = unsafe { libc::recv(fd.as_raw_fd(), spare.as_mut_ptr().cast(), room, 0) };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: recv has initialised the first `n` bytes, `n <= room <= capacity - len`.
    unsafe { buffer.set_len(buffer.len() + n) };
    Ok(n)
}

/// Reads and throws away at most `room` bytes that wait in the kernel, without copying them; 0 is the end of the
/// stream.
///
/// # Errors
/// As [`recv`].
pub fn discard(fd: BorrowedFd<'_>, room: usize) -> io::Result<usize> {
    // SAFETY: MSG_TRUNC on a TCP socket discards without writing to the buffer (tcp(7)), so null is never written to.
    let n = unsafe { libc::recv(fd.as_raw_fd(), std::ptr::null_mut(), room, libc::MSG_TRUNC) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Writes what the socket takes; a peer that has gone is EPIPE, not a signal.
///
/// # Errors
/// `WouldBlock` when the send buffer is full; EPIPE, ECONNRESET.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: pointer and length are those of one live slice.
    let n = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Writes `first` and then `second` in one call and, where they fit, in one segment.
///
/// # Errors
/// As [`send`].
pub fn send_both(fd: BorrowedFd<'_>, first: &[u8], second: &[u8]) -> io::Result<usize> {
    if second.is_empty() {
        return send(fd, first);
    }
    if first.is_empty() {
        return send(fd, second);
    }
    let parts = [
        libc::iovec { iov_base: first.as_ptr().cast_mut().cast(), iov_len: first.len() },
        libc::iovec { iov_base: second.as_ptr().cast_mut().cast(), iov_len: second.len() },
    ];
    // SAFETY: msghdr is plain data for which zero is valid: no name, no control data, no flags.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = parts.as_ptr().cast_mut();
    message.msg_iovlen = parts.len();
    // SAFETY: `message` names two live slices, which sendmsg only reads; `parts` outlives the call.
    let n = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Says to the peer that nothing more will be sent.
///
/// # Errors
/// ENOTCONN when the peer has already gone.
pub fn shutdown_write(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers.
    cerr(unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) }).map(drop)
}

/// The socket's pending error, taken from it (`SO_ERROR`).
///
/// # Errors
/// As getsockopt(2).
pub fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<io::Error>> {
    let mut code: libc::c_int = 0;
    let mut length = length_of::<libc::c_int>();
    // SAFETY: `code` and `length` live during the call, `length` is the size of `code`.
    cerr(unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut code).cast(), &raw mut length)
    })?;
    Ok((code != 0).then(|| io::Error::from_raw_os_error(code)))
}

/// Small answers leave at once; an accepted socket inherits it from its listener.
///
/// # Errors
/// As setsockopt(2).
pub fn set_nodelay(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// Lets acknowledgements wait for the data that they can travel with, from the first byte on.
///
/// # Errors
/// As setsockopt(2).
pub fn set_delayed_ack(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int(fd, libc::IPPROTO_TCP, libc::TCP_QUICKACK, 0)
}

/// Takes the simplest congestion control there is (RFC 5681): every kernel has it, and it needs neither pacing timers
/// nor a model of the path. An accepted socket inherits it from its listener.
///
/// # Errors
/// As setsockopt(2).
pub fn set_simple_congestion_control(fd: BorrowedFd<'_>) -> io::Result<()> {
    let name = b"reno";
    // SAFETY: pointer and length are those of one live array.
    cerr(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_CONGESTION, name.as_ptr().cast(), 4) })
        .map(drop)
}

/// Switches a descriptor to non-blocking.
///
/// # Errors
/// As fcntl(2).
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers.
    let flags = cerr(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: no pointers.
    cerr(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// Exempts a socket from the interception, before it connects.
///
/// # Errors
/// ENOPROTOOPT when the program of bpf/handover.h does not answer: the caller must not connect then.
pub fn exempt(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_int(fd, SOL_GPA, SO_EXEMPT, 1)
}

/// Size of an option or address as the socket calls want it.
const fn length_of<T>() -> libc::socklen_t {
    #[expect(clippy::cast_possible_truncation, reason = "a few hundred bytes at most")]
    let length = mem::size_of::<T>() as libc::socklen_t;
    length
}

fn set_int(fd: BorrowedFd<'_>, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    let length = length_of::<libc::c_int>();
    // SAFETY: `value` lives during the call, `length` is its size.
    cerr(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), length) }).map(drop)
}

/// Asks the kernel half who made the connection that `fd` was accepted from.
///
/// # Errors
/// EOPNOTSUPP or ENOPROTOOPT when nobody knows; EINVAL when the record has another length than ours.
pub fn ident(fd: BorrowedFd<'_>) -> io::Result<Ident> {
    let mut ident = Ident::zeroed();
    let whole = length_of::<Ident>();
    let mut length = whole;
    // SAFETY: `ident` is plain integers and byte arrays without padding, for which every bit pattern is valid; it and
    // `length` live during the call and `length` is its size.
    cerr(unsafe { libc::getsockopt(fd.as_raw_fd(), SOL_GPA, SO_IDENT, (&raw mut ident).cast(), &raw mut length) })?;
    if length == whole { Ok(ident) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
}

/// How many descriptors this process may have open now (`RLIMIT_NOFILE`, the soft one).
///
/// # Errors
/// As getrlimit(2).
pub fn descriptor_limit() -> io::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives during the call.
    cerr(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// True for the errors by which the system says that it has no room for one more descriptor or socket.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
