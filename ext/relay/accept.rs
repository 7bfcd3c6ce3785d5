//! Taking connections: shared listening sockets, bursts, and what happens when descriptors run out.
//!
//! Running out must not spin: the kernel would report the waiting connection for ever. Room is made by closing what
//! is idle; when nothing is, the sockets are left alone for a moment and callers wait in the queue.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::config::ACCEPT_BURST;
use super::counters::count;
use super::reactor::Reactor;
use super::slab::Key;
use super::token::{self, Kind};
use crate::sys::epoll::Epoll;
use crate::sys::net::is_exhausted;

/// The listening sockets of one thread; the same sockets are watched by the others.
#[derive(Debug)]
pub(super) struct Listeners {
    sockets: Vec<(u32, Arc<OwnedFd>)>,
    paused_until: Option<u64>,
    /// Nobody asks this thread to take connections at the moment.
    off_duty: bool,
    /// Accepts per event: one call more than there are connections is one too many, so it grows only while the queue
    /// is found non-empty again and again.
    burst: usize,
    full_bursts: u32,
}

impl Listeners {
    pub(super) const fn new(off_duty: bool) -> Self {
        Self { sockets: Vec::new(), paused_until: None, off_duty, burst: 1, full_bursts: 0 }
    }

    pub(super) fn add(&mut self, id: u32, socket: Arc<OwnedFd>, epoll: &Epoll) {
        if self.are_watched() {
            watch(epoll, id, &socket);
        }
        self.sockets.push((id, socket));
    }

    pub(super) fn remove(&mut self, id: u32, epoll: &Epoll) {
        if let Some(at) = self.sockets.iter().position(|(other, _)| *other == id) {
            let _ = epoll.remove(self.sockets.remove(at).1.as_fd());
        }
    }

    pub(super) fn clear(&mut self, epoll: &Epoll) {
        for (_, socket) in self.sockets.drain(..) {
            let _ = epoll.remove(socket.as_fd());
        }
    }

    pub(super) const fn paused_until(&self) -> Option<u64> {
        self.paused_until
    }

    fn pause(&mut self, until: u64, epoll: &Epoll) {
        self.look_away(epoll);
        self.paused_until = Some(until);
    }

    pub(super) fn resume(&mut self, epoll: &Epoll) {
        self.paused_until = None;
        self.look(epoll);
    }

    pub(super) fn leave(&mut self, epoll: &Epoll) {
        self.look_away(epoll);
        self.off_duty = true;
    }

    pub(super) fn take_up(&mut self, epoll: &Epoll) {
        self.off_duty = false;
        self.look(epoll);
    }

    const fn are_watched(&self) -> bool {
        self.paused_until.is_none() && !self.off_duty
    }

    fn look(&self, epoll: &Epoll) {
        if self.are_watched() {
            self.sockets.iter().for_each(|(id, socket)| watch(epoll, *id, socket));
        }
    }

    fn look_away(&self, epoll: &Epoll) {
        for (_, socket) in &self.sockets {
            let _ = epoll.remove(socket.as_fd());
        }
    }

    fn all(&self) -> Vec<Arc<OwnedFd>> {
        self.sockets.iter().map(|(_, socket)| Arc::clone(socket)).collect()
    }

    fn get(&self, id: u32) -> Option<Arc<OwnedFd>> {
        self.sockets.iter().find(|(other, _)| *other == id).map(|(_, socket)| Arc::clone(socket))
    }
}

fn watch(epoll: &Epoll, id: u32, socket: &OwnedFd) {
    // It fails only for a descriptor that is no socket, which `Relay::listen` has refused, or without kernel memory;
    // then the other threads watch it.
    let _ = epoll.add_listener(socket.as_fd(), token::write(Kind::Listener, Key { index: id, generation: 0 }));
}

impl Reactor {
    pub(super) fn accept(&mut self, key: Key) {
        let Some(socket) = self.listeners.get(key.index) else { return };
        let burst = self.listeners.burst;
        for accepted in 0..burst {
            if self.is_full() && !self.make_room() {
                return self.pause();
            }
            match self.accept_one(&socket) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.listeners.burst = accepted.max(1);
                    self.listeners.full_bursts = 0;
                    return;
                }
                Err(error) if is_exhausted(&error) => {
                    count(&self.core.counters().exhausted);
                    if !self.make_room() {
                        return self.pause();
                    }
                }
                // The caller has left the queue: its trouble alone (accept(2), "Error handling").
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => break,
                // Whatever it is, it would be reported for ever.
                Err(_) => return self.pause(),
            }
        }
        self.listeners.full_bursts += 1;
        if self.listeners.full_bursts >= 4 {
            self.listeners.burst = (burst * 2).min(ACCEPT_BURST);
            self.listeners.full_bursts = 0;
        }
    }

    /// Empties the queues of all listening sockets, as far as there is room.
    pub(super) fn accept_waiting(&mut self) {
        for socket in self.listeners.all() {
            while !self.is_full() && self.accept_one(&socket).is_ok() {}
        }
    }

    /// Each thread may have its share of all connections, and of what others leave.
    fn is_full(&self) -> bool {
        let (limit, threads) = (self.core.connection_limit, self.core.shared.mailboxes.len());
        self.connections.len() >= limit / threads && self.core.shared.open() >= limit as u64
    }

    fn pause(&mut self) {
        self.listeners.pause(self.core.now + self.core.exhausted_pause, &self.core.epoll);
    }
}
