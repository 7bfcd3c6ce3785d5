//! One thread: waits for events and deadlines, and drives the connections they are for.
//!
//! A connection's handler returns; nothing here blocks but the wait itself. A handler that panics costs its
//! connection and nothing else.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::accept::Listeners;
use super::connection::{Connection, Fate, Phase};
use super::core::Core;
use super::counters::count;
use super::mailbox::Command;
use super::relief::Load;
use super::slab::{Key, Slab};
use super::timers::Wait;
use super::token::{self, Kind};
use crate::sys::epoll::Readiness;
use crate::sys::heap;
use crate::sys::net;
use crate::sys::time;

/// So many connections are a crowd, whose memory is given back when seven of eight have left.
const CROWD: usize = 128;

/// Of one user's connections that are closed to make room for others, one in so many at once.
const EVICTED_SHARE: usize = 8;

pub(super) struct Reactor {
    pub(super) core: Core,
    pub(super) connections: Slab<Connection>,
    pub(super) listeners: Listeners,
    /// Most connections since memory was given back.
    crowd: usize,
    pub(super) load: Load,
    stopping: bool,
}

impl Reactor {
    pub(super) fn new(core: Core) -> Self {
        let listeners = Listeners::new(core.thread > 0);
        Self { core, connections: Slab::new(), listeners, crowd: 0, load: Load::default(), stopping: false }
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        while !self.stopping {
            let timeout = self.timeout_ms();
            let events = self.core.epoll.wait(timeout).expect("the descriptor is an epoll's and ours alone");
            self.core.now = time::monotonic_ns();
            self.look_at_load();
            self.dispatch(events);
            self.pass_deadlines();
            self.core.recorder.announce(&self.core.shared.bell);
        }
    }

    fn dispatch(&mut self, events: usize) {
        // The host's events first: what the host closed must be gone from the pool before a caller's request asks.
        for index in 0..events {
            let (bits, ready) = self.core.epoll.event(index);
            if let (Kind::Upstream, key) = token::read(bits) {
                self.on_upstream(key, ready);
            }
        }
        let mut again = std::mem::take(&mut self.core.again);
        for key in again.drain(..) {
            self.drive(key);
        }
        again.append(&mut self.core.again);
        self.core.again = again;
        for index in 0..events {
            let (bits, ready) = self.core.epoll.event(index);
            match token::read(bits) {
                (Kind::Upstream, _) => {}
                (Kind::Caller, key) => self.on_caller(key, ready),
                (Kind::Listener, key) => self.accept(key),
                (Kind::Mailbox, _) => self.read_mail(),
            }
        }
    }

    fn timeout_ms(&mut self) -> i32 {
        if !self.core.again.is_empty() {
            return 0;
        }
        self.skip_watched();
        let deadlines = [
            self.core.timers.earliest(),
            self.core.pool.oldest().map(|since| since + self.core.idle_upstream),
            self.core.unwatched.front().map(|(at, _)| *at),
            self.listeners.paused_until(),
        ];
        let Some(at) = deadlines.into_iter().flatten().min() else { return -1 };
        let ms = at.saturating_sub(time::monotonic_ns()).div_ceil(1_000_000);
        i32::try_from(ms).unwrap_or(i32::MAX)
    }

    fn pass_deadlines(&mut self) {
        let now = self.core.now;
        while let Some((index, wait)) = self.core.timers.pop_due(now) {
            let Some((generation, connection)) = self.connections.entry(index) else { continue };
            let key = Key { index, generation };
            let core = &mut self.core;
            let fate = catch_unwind(AssertUnwindSafe(|| core.on_deadline(connection, wait)));
            self.settle(key, &fate);
        }
        while self.core.pool.oldest().is_some_and(|since| since + self.core.idle_upstream <= now) {
            self.core.close_oldest_idle();
        }
        while self.core.unwatched.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.core.unwatched.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if !self.core.register(connection) {
                self.close(key);
            }
        }
        if self.listeners.paused_until().is_some_and(|at| at <= now) {
            self.listeners.resume(&self.core.epoll);
        }
    }

    /// Forgets those that were answered before it was time to watch them.
    fn skip_watched(&mut self) {
        while let Some((_, key)) = self.core.unwatched.front() {
            if self.connections.get_mut(*key).is_some_and(|c| !c.registered && c.phase == Phase::Exchange) {
                break;
            }
            self.core.unwatched.pop_front();
        }
    }

    fn on_caller(&mut self, key: Key, ready: Readiness) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let core = &mut self.core;
        let fate = catch_unwind(AssertUnwindSafe(|| core.on_caller(connection, ready)));
        self.settle(key, &fate);
    }

    fn on_upstream(&mut self, key: Key, ready: Readiness) {
        let Some(owner) = self.core.note_upstream(key, ready) else { return };
        self.drive(owner);
    }

    pub(super) fn drive(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let core = &mut self.core;
        let fate = catch_unwind(AssertUnwindSafe(|| core.drive(connection)));
        self.settle(key, &fate);
    }

    fn settle(&mut self, key: Key, fate: &std::thread::Result<Fate>) {
        match fate {
            Ok(Fate::Keep) => {}
            Ok(Fate::Close) => self.close(key),
            Err(_) => {
                count(&self.core.counters().panics);
                self.close(key);
            }
        }
    }

    pub(super) fn close(&mut self, key: Key) {
        let Some(mut connection) = self.connections.remove(key) else { return };
        self.core.part(&mut connection);
        self.count_open();
        if self.crowd >= CROWD && self.connections.len() <= self.crowd / 8 {
            self.crowd = self.connections.len();
            self.core.shrink();
            heap::give_back();
        }
    }

    pub(super) fn count_open(&self) {
        let open = self.connections.len() as u64;
        self.core.counters().open.store(open, Ordering::Relaxed);
    }

    /// A new caller: ask who it is, and read at once, since most send with their handshake's last packet.
    pub(super) fn welcome(&mut self, fd: OwnedFd) {
        count(&self.core.counters().accepted);
        let caller = self.core.identify(fd.as_fd());
        let key = self.connections.insert(Connection::new(fd, caller));
        if let Some(connection) = self.connections.get_mut(key) {
            connection.key = key;
        }
        self.count_open();
        self.crowd = self.crowd.max(self.connections.len());
        self.drive(key);
    }

    /// Makes room for a descriptor: first of an idle connection to the host, then of the caller that was idle longest,
    /// then of the user who keeps us waiting on the most connections.
    pub(super) fn make_room(&mut self) -> bool {
        if self.core.close_oldest_idle() {
            return true;
        }
        let Some(index) = self.core.timers.first(Wait::Idle) else { return self.close_slowest() };
        let Some((generation, _)) = self.connections.entry(index) else { return false };
        self.close(Key { index, generation });
        true
    }

    /// Closes the oldest connections of the user who has the most that we wait for, root's never: whoever fills the
    /// table with halves of requests pays for it alone. A share of them at once, since finding them looks at all.
    fn close_slowest(&mut self) -> bool {
        let mut by_uid: HashMap<Option<u32>, Vec<Key>> = HashMap::new();
        for key in self.waiting_for(&[Wait::Head, Wait::Body, Wait::Reader, Wait::Linger]) {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            match connection.caller.as_ref().ok().map(|caller| caller.uid) {
                Some(0) => {}
                uid => by_uid.entry(uid).or_default().push(key),
            }
        }
        let Some(keys) = by_uid.into_values().max_by_key(Vec::len) else { return false };
        for key in &keys[..keys.len().div_ceil(EVICTED_SHARE)] {
            self.close(*key);
        }
        true
    }

    fn read_mail(&mut self) {
        let shared = Arc::clone(&self.core.shared);
        for command in shared.mailboxes[self.core.thread].take() {
            match command {
                Command::Listen(id, listener) => self.listeners.add(id, listener, &self.core.epoll),
                Command::Unlisten(id) => self.listeners.remove(id, &self.core.epoll),
                Command::Relieve => self.relieve(),
                Command::Published => self.release_held(),
                Command::Answer { key, status, body } => {
                    let Some(connection) = self.connections.get_mut(key) else { continue };
                    let core = &mut self.core;
                    let fate = catch_unwind(AssertUnwindSafe(|| core.on_reply(connection, status, &body)));
                    self.settle(key, &fate);
                }
                Command::Drain { take_waiting } => self.drain(take_waiting),
                Command::Stop => self.stopping = true,
            }
        }
    }

    /// A snapshot was published: what waits for one is judged again.
    fn release_held(&mut self) {
        for key in self.waiting_for(&[Wait::Hold, Wait::Look, Wait::Leaving]) {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if connection.phase == Phase::Held {
                connection.phase = Phase::Judge;
                self.drive(key);
            }
        }
    }

    fn drain(&mut self, take_waiting: bool) {
        if take_waiting {
            self.accept_waiting();
        }
        self.listeners.clear(&self.core.epoll);
        self.core.draining = true;
        for key in self.waiting_for(&[Wait::Idle]) {
            // Its next request may be there already: looked for once more, and closed when it is not.
            self.core.timers.clear(key.index);
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.readable = true;
            self.drive(key);
        }
        // After the last change to `open` by an accept: `Relay::drain` reads them in this order.
        self.core.shared.closed[self.core.thread].store(true, Ordering::Release);
    }

    fn waiting_for(&mut self, waits: &[Wait]) -> Vec<Key> {
        let mut keys = Vec::new();
        for wait in waits {
            let mut next = self.core.timers.first(*wait);
            while let Some(index) = next {
                next = self.core.timers.after(index);
                keys.extend(self.connections.entry(index).map(|(generation, _)| Key { index, generation }));
            }
        }
        keys
    }

    /// Takes one connection from a listening socket.
    pub(super) fn accept_one(&mut self, listener: &Arc<OwnedFd>) -> std::io::Result<()> {
        let fd = net::accept(listener.as_fd())?;
        self.welcome(fd);
        Ok(())
    }
}
