//! epoll(7) and eventfd(2): what one reactor thread sleeps on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::cerr;

/// Events asked of one wait; what is left over comes with the next.
const BATCH: usize = 256;

/// What happened to a descriptor, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness(u32);

impl Readiness {
    #[must_use]
    pub const fn readable(self) -> bool {
        self.0 & libc::EPOLLIN as u32 != 0
    }

    #[must_use]
    pub const fn writable(self) -> bool {
        self.0 & libc::EPOLLOUT as u32 != 0
    }

    /// The peer will send nothing more.
    #[must_use]
    pub const fn read_closed(self) -> bool {
        self.0 & libc::EPOLLRDHUP as u32 != 0
    }

    /// Reset, or closed in both directions.
    #[must_use]
    pub const fn gone(self) -> bool {
        self.0 & (libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0
    }
}

/// One epoll instance with the room for a batch of its events.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    events: Box<[libc::epoll_event]>,
}

impl Epoll {
    /// # Errors
    /// As `epoll_create1(2)`.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = cerr(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: epoll_create1 has just made this descriptor and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; BATCH].into_boxed_slice() })
    }

    /// Reports every change of a connection, in both directions, once (edge-triggered): it is registered once and
    /// never modified.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn add_connection(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let edges = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        self.add(fd, edges.cast_unsigned(), token)
    }

    /// Reports a listening socket while connections wait, and wakes one of the threads that watch it.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn add_listener(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        self.add(fd, (libc::EPOLLIN | libc::EPOLLEXCLUSIVE).cast_unsigned(), token)
    }

    /// Reports an event descriptor as long as it is set.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn add_level(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        self.add(fd, libc::EPOLLIN.cast_unsigned(), token)
    }

    fn add(&self, fd: BorrowedFd<'_>, events: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: both descriptors are open, `event` lives during the call.
        cerr(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) })
            .map(drop)
    }

    /// Forgets a descriptor that stays open. One that is closed need not be removed.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: both descriptors are open; EPOLL_CTL_DEL ignores the event.
        cerr(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), std::ptr::null_mut()) })
            .map(drop)
    }

    /// Sleeps until something happens or `timeout_ms` passed (-1: no limit); gives how many events there are. A
    /// signal is no event.
    ///
    /// # Errors
    /// As `epoll_wait(2)`, without EINTR.
    pub fn wait(&mut self, timeout_ms: i32) -> io::Result<usize> {
        let room = i32::try_from(self.events.len()).unwrap_or(i32::MAX);
        // SAFETY: pointer and length are those of one live, exclusive slice.
        let n = cerr(unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), room, timeout_ms) });
        match n {
            Ok(n) => Ok(usize::try_from(n).unwrap_or(0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The token and readiness of event `index` of the last wait.
    #[must_use]
    pub fn event(&self, index: usize) -> (u64, Readiness) {
        let event = self.events[index];
        (event.u64, Readiness(event.events))
    }
}

/// A counter in the kernel by which one thread wakes another.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// # Errors
    /// As eventfd(2).
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = cerr(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
        // SAFETY: eventfd has just made this descriptor and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes who waits. A counter that is full wakes as well, so nothing can fail that matters.
    pub fn set(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: pointer and length are those of one live array.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Takes what was set.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: pointer and length are those of one live, exclusive array.
        let _ = unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
