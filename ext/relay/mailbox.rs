//! What the control plane tells a thread: seldom, under a lock, with a wake-up.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use super::slab::Key;
use crate::sys::epoll::EventFd;

#[derive(Debug)]
pub(super) enum Command {
    Listen(u32, Arc<OwnedFd>),
    Unlisten(u32),
    /// Take connections: another thread cannot do more.
    Relieve,
    /// There is a new snapshot.
    Published,
    /// The answer to a local question.
    Answer {
        key: Key,
        status: u16,
        body: Box<[u8]>,
    },
    /// Accept no more, those that wait in the queue perhaps first; close each connection after the request it is at.
    Drain {
        take_waiting: bool,
    },
    Stop,
}

#[derive(Debug)]
pub(super) struct Mailbox {
    commands: Mutex<Vec<Command>>,
    event: EventFd,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { commands: Mutex::new(Vec::new()), event: EventFd::new()? })
    }

    pub(super) fn put(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.event.set();
    }

    pub(super) fn take(&self) -> Vec<Command> {
        self.event.clear();
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
