//! What the handlers of one thread share, and the loop that takes a connection from phase to phase.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::clock::DateText;
use super::config::{RelayConfig, SPARE_EXCHANGES, SPARE_EXCHANGES_LATER, Timeouts, WINDOW};
use super::connection::{Connection, Exchange, Fate, Phase, Step};
use super::counters::{Counters, count};
use super::records::Recorder;
use super::shared::Shared;
use super::slab::{Key, Slab};
use super::timers::{Timers, Wait};
use super::token::{self, Kind};
use super::upstream::{Pool, Upstream};
use crate::caller::{Endpoint, Ident};
use crate::error::Reason;
use crate::http::canonical::Canonical;
use crate::sys::epoll::{Epoll, Readiness};

pub(super) struct Core {
    pub(super) thread: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) epoll: Epoll,
    /// Monotonic ns when the batch of events at hand began.
    pub(super) now: u64,
    pub(super) timers: Timers,
    pub(super) upstreams: Slab<Upstream>,
    pub(super) pool: Pool,
    pub(super) recorder: Recorder,
    pub(super) date: DateText,
    pub(super) canonical: Canonical,
    /// One window of bytes on their way, and one head to be written: never kept between two calls.
    pub(super) window: Vec<u8>,
    pub(super) out: Vec<u8>,
    #[expect(clippy::vec_box, reason = "they go to a connection and come back without being copied")]
    spare_exchanges: Vec<Box<Exchange>>,
    /// Connections that have had their turn and have more to do.
    pub(super) again: Vec<Key>,
    /// Callers that wait for the host and are not registered yet; when to do it. Most are answered before.
    pub(super) unwatched: VecDeque<(u64, Key)>,
    /// A descriptor to be given up for a connection to the host when there are no others.
    pub(super) spare_descriptor: Option<OwnedFd>,
    /// The host refused or did not answer all tries of a request, and has not been reached since.
    pub(super) down: [bool; Endpoint::ALL.len()],
    pub(super) draining: bool,
    pub(super) next_decision: u64,
    /// Of all threads together.
    pub(super) connection_limit: usize,
    pub(super) idle_upstream: u64,
    pub(super) exhausted_pause: u64,
}

impl Core {
    pub(super) fn new(thread: usize, shared: Arc<Shared>, recorder: Recorder, limit: usize) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let mailbox = shared.mailboxes[thread].fd();
        epoll.add_level(mailbox, token::write(Kind::Mailbox, Key { index: 0, generation: 0 }))?;
        let timeouts = &shared.config.timeouts;
        let (idle_upstream, exhausted_pause) = (ns(timeouts.idle_upstream), ns(timeouts.exhausted));
        Ok(Self {
            thread,
            epoll,
            now: crate::sys::time::monotonic_ns(),
            timers: Timers::new(),
            upstreams: Slab::new(),
            pool: Pool::new(),
            recorder,
            date: DateText::new(),
            canonical: Canonical::default(),
            window: vec![0; WINDOW],
            out: Vec::new(),
            spare_exchanges: Vec::new(),
            again: Vec::new(),
            unwatched: VecDeque::new(),
            spare_descriptor: shared.mailboxes[thread].fd().try_clone_to_owned().ok(),
            down: [false; Endpoint::ALL.len()],
            draining: false,
            next_decision: 1,
            connection_limit: limit,
            idle_upstream,
            exhausted_pause,
            shared,
        })
    }

    pub(super) fn config(&self) -> &RelayConfig {
        &self.shared.config
    }

    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.shared.config.timeouts
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.shared.counters[self.thread]
    }

    /// Who made this connection: asked of the kernel, never of the caller.
    pub(super) fn identify(&self, accepted: BorrowedFd<'_>) -> Result<Ident, Reason> {
        match self.config().interception.caller(accepted) {
            Ok(ident) if ident.abi != 0 => Ok(ident),
            Ok(_) => Err(Reason::IdentityLost),
            Err(_) => Err(Reason::Misdirected),
        }
    }

    /// Takes a connection as far as it goes now.
    pub(super) fn drive(&mut self, connection: &mut Connection) -> Fate {
        loop {
            let step = match connection.phase {
                Phase::Head => self.read_head(connection),
                Phase::Judge => self.judge(connection),
                Phase::Body => self.read_body(connection),
                Phase::Exchange => self.exchange(connection),
                Phase::Flush => self.flush_rest(connection),
                Phase::Linger => self.linger(connection),
                Phase::Held | Phase::Room | Phase::Retry | Phase::Question => Step::Wait,
            };
            match step {
                Step::Again => {}
                Step::Close => return Fate::Close,
                Step::Wait => return self.watch(connection),
            }
        }
    }

    /// Registers a connection that has to wait for its caller; one that waits for the host only after a while, since
    /// most are answered before and many are closed then.
    fn watch(&mut self, connection: &mut Connection) -> Fate {
        if connection.registered {
            return Fate::Keep;
        }
        let only_the_host = connection.phase == Phase::Exchange
            && connection.exchange.as_ref().is_some_and(|x| x.request_sent && x.to_caller.is_empty());
        if only_the_host {
            self.unwatched.push_back((self.now + ns(self.timeouts().watch), connection.key));
            return Fate::Keep;
        }
        if self.register(connection) { Fate::Keep } else { Fate::Close }
    }

    /// False when the kernel has no room for one more registration.
    pub(super) fn register(&self, connection: &mut Connection) -> bool {
        let token = token::write(Kind::Caller, connection.key);
        connection.registered =
            connection.registered || self.epoll.add_connection(connection.fd.as_fd(), token).is_ok();
        connection.registered
    }

    pub(super) fn on_caller(&mut self, connection: &mut Connection, ready: Readiness) -> Fate {
        if ready.gone() {
            return Fate::Close;
        }
        connection.readable |= ready.readable() || ready.read_closed();
        if ready.read_closed() && !connection.read_closed {
            connection.read_closed = true;
            self.maybe_leaving(connection);
        }
        self.drive(connection)
    }

    /// A caller that will send no more either reads on or has left; TCP tells only when something is sent to it. One
    /// that is still owed its first byte is waited for a moment longer.
    fn maybe_leaving(&mut self, connection: &Connection) {
        let index = connection.key.index;
        let waits_for_us = matches!(
            self.timers.waits_for(index),
            Some(Wait::Hold | Wait::Room | Wait::Retry | Wait::Connect | Wait::FirstByte | Wait::FirstByteOfUpload)
        );
        if waits_for_us {
            self.timers.set(index, Wait::Leaving, self.now + ns(self.timeouts().leaving));
        }
    }

    /// Sets what a connection waits for, and how long.
    pub(super) fn wait(&mut self, connection: &Connection, wait: Wait, duration: Duration) {
        self.wait_until(connection, wait, self.now + ns(duration));
    }

    pub(super) fn wait_until(&mut self, connection: &Connection, wait: Wait, at: u64) {
        self.timers.set(connection.key.index, wait, at);
        if connection.read_closed {
            self.maybe_leaving(connection);
        }
    }

    pub(super) fn on_deadline(&mut self, connection: &mut Connection, wait: Wait) -> Fate {
        match wait {
            Wait::Head | Wait::Body => self.refuse_now(connection, Reason::RequestTimeout),
            Wait::Hold | Wait::Question => self.refuse_now(connection, Reason::NotReady),
            Wait::Room => self.ask_for_room_again(connection),
            Wait::Connect => self.on_connect_timeout(connection),
            Wait::FirstByte | Wait::FirstByteOfUpload => self.refuse_now(connection, Reason::HostTimeout),
            Wait::Retry | Wait::Look => {
                connection.phase = Phase::Judge;
                self.drive(connection)
            }
            Wait::Idle | Wait::NextByte | Wait::Reader | Wait::Leaving | Wait::Linger => Fate::Close,
        }
    }

    fn refuse_now(&mut self, connection: &mut Connection, reason: Reason) -> Fate {
        match self.refuse(connection, reason) {
            Step::Close => Fate::Close,
            Step::Again | Step::Wait => self.drive(connection),
        }
    }

    /// The last that is done for a connection before it is closed.
    pub(super) fn part(&mut self, connection: &mut Connection) {
        self.timers.clear(connection.key.index);
        self.drop_upstream(connection);
        if let Some(exchange) = &connection.exchange
            && exchange.has_head
            && !exchange.recorded
        {
            count(&self.counters().left);
            self.record_departure(connection);
        }
        if let Some(exchange) = connection.exchange.take() {
            self.put_exchange_back(exchange);
        }
    }

    pub(super) fn take_exchange(&mut self) -> Box<Exchange> {
        self.spare_exchanges.pop().unwrap_or_else(|| Box::new(Exchange::new()))
    }

    /// Gives back what only a crowd needs.
    pub(super) fn shrink(&mut self) {
        self.spare_exchanges.truncate(SPARE_EXCHANGES_LATER);
        self.timers.shrink();
    }

    pub(super) fn put_exchange_back(&mut self, mut exchange: Box<Exchange>) {
        if self.spare_exchanges.len() < SPARE_EXCHANGES {
            exchange.reset_for_another();
            self.spare_exchanges.push(exchange);
        }
    }
}

/// Nanoseconds of a limit.
pub(super) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}
