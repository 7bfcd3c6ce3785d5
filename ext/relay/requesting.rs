//! The caller's half of a request: its head, and a body that has to be held.

use std::io;
use std::os::fd::AsFd;

use super::config::{BODY_PROGRESS, CHUNKED_STEP, READ, WINDOW};
use super::connection::{Body, Connection, Exchange, Fate, Phase, Step};
use super::core::{Core, ns};
use super::counters::count;
use super::questions::LocalPath;
use super::timers::Wait;
use crate::error::Reason;
use crate::http::answer::CONTINUE;
use crate::http::body::ChunkedDecoder;
use crate::http::{Framing, Progress};
use crate::sys::net;
use crate::sys::time;

impl Core {
    /// Reads until a head is complete. A connection without a byte holds no buffer.
    pub(super) fn read_head(&mut self, connection: &mut Connection) -> Step {
        let mut exchange = match connection.exchange.take() {
            Some(exchange) => exchange,
            None if connection.readable => self.take_exchange(),
            None => return self.idle(connection),
        };
        loop {
            // Pipelined input was read with the request before.
            if !exchange.input.is_empty()
                && let Some(step) = self.parse_head(connection, &mut exchange)
            {
                connection.exchange = Some(exchange);
                return match step {
                    Ok(step) => step,
                    Err(reason) => self.refuse(connection, reason),
                };
            }
            if !connection.readable {
                break;
            }
            let before = exchange.input.len();
            let room = if before < READ { READ - before } else { before };
            match net::recv_append(connection.fd.as_fd(), &mut exchange.input, room) {
                Ok(0) => return self.forget_exchange(exchange),
                Ok(n) => connection.readable = n == room || connection.read_closed,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.readable = false,
                Err(_) => return self.forget_exchange(exchange),
            }
        }
        if exchange.input.is_empty() {
            self.put_exchange_back(exchange);
            return self.idle(connection);
        }
        connection.exchange = Some(exchange);
        if self.timers.waits_for(connection.key.index) != Some(Wait::Head) {
            self.wait(connection, Wait::Head, self.timeouts().head);
        }
        Step::Wait
    }

    /// Nothing of a request is there.
    fn idle(&mut self, connection: &Connection) -> Step {
        if self.draining && !connection.first {
            return Step::Close;
        }
        if self.timers.waits_for(connection.key.index) != Some(Wait::Idle) {
            let timeouts = self.timeouts();
            let patience = if self.draining { timeouts.newcomer } else { timeouts.idle };
            self.wait(connection, Wait::Idle, patience);
        }
        Step::Wait
    }

    /// The caller has gone before its request was whole: nothing was asked.
    fn forget_exchange(&mut self, exchange: Box<Exchange>) -> Step {
        self.put_exchange_back(exchange);
        Step::Close
    }

    /// None while the head is incomplete.
    fn parse_head(&mut self, connection: &mut Connection, x: &mut Exchange) -> Option<Result<Step, Reason>> {
        if let Err(reason) = connection.caller {
            self.begin(x);
            return Some(Err(reason));
        }
        let direct = connection.caller.is_ok_and(|ident| ident.is_direct());
        match x.head.parse(&x.input) {
            Ok(Progress::Incomplete) => None,
            Ok(Progress::Complete) => {
                x.has_head = true;
                self.begin(x);
                connection.phase = Phase::Judge;
                Some(Ok(Step::Again))
            }
            Err(_) if direct && !LocalPath::may_begin(&x.input) => {
                self.begin(x);
                Some(Err(Reason::Misdirected))
            }
            Err(refusal) => {
                self.begin(x);
                Some(Err(refusal.0))
            }
        }
    }

    /// A request begins to count when its head is complete, or is refused.
    fn begin(&mut self, x: &mut Exchange) {
        count(&self.counters().requests);
        x.started = time::monotonic_ns();
        x.unix_ns = time::realtime_ns();
        // Unique in all threads, and growing in each: the thread stands in the low bits.
        x.decision_id = self.next_decision << 4 | self.thread as u64;
        self.next_decision += 1;
    }

    /// The request may be served, and its body has to be held before it is: begins to read it.
    pub(super) fn begin_body(&mut self, connection: &mut Connection, uid: u32) -> Step {
        let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
        let (body_at, wanted) = match x.head.framing() {
            Framing::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                (Body::Inline(length), length)
            }
            Framing::Chunked => (Body::Decoded, CHUNKED_STEP.min(self.shared.config.body_limit)),
            Framing::None | Framing::UntilClose => (Body::None, 0),
        };
        x.lease = self.shared.bodies.take(uid, wanted);
        if x.lease.is_none() {
            return self.wait_for_room(connection);
        }
        x.body_begun = true;
        x.body_at = body_at;
        x.decoder = ChunkedDecoder::default();
        connection.phase = Phase::Body;
        if answer_expect(connection) { Step::Again } else { Step::Close }
    }

    /// Reads a held body to its end.
    pub(super) fn read_body(&mut self, connection: &mut Connection) -> Step {
        loop {
            let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
            let room = match self.take_in_body(x) {
                Ok(0) => {
                    x.body_whole = true;
                    connection.phase = Phase::Judge;
                    return Step::Again;
                }
                Ok(room) => room,
                Err(Reason::OverBudget) => return self.wait_for_room(connection),
                Err(reason) => return self.refuse(connection, reason),
            };
            if !connection.readable {
                self.time_body(connection);
                return Step::Wait;
            }
            match net::recv_append(connection.fd.as_fd(), &mut x.input, room) {
                Ok(0) => return Step::Close,
                Ok(n) => connection.readable = n == room || connection.read_closed,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.readable = false,
                Err(_) => return Step::Close,
            }
        }
    }

    /// Takes what has arrived; gives how many bytes to read next, 0 when the body is whole.
    fn take_in_body(&self, x: &mut Exchange) -> Result<usize, Reason> {
        let head = x.head.head_len();
        if let Body::Inline(length) = x.body_at {
            let arrived = (x.input.len() - head).min(length);
            x.body_bytes = arrived as u64;
            return Ok((length - arrived).min(WINDOW));
        }
        if x.body_at != Body::Decoded {
            return Ok(0);
        }
        // Room for all that these bytes can become is taken before they are decoded.
        let arrived = x.input.len() - head;
        let limit = self.shared.config.body_limit;
        if let Some(lease) = &mut x.lease
            && x.body.len() + arrived > lease.amount()
            && lease.amount() < limit
            && !lease.grow(CHUNKED_STEP.max(arrived).min(limit - lease.amount()))
        {
            return Err(Reason::OverBudget);
        }
        let (used, done) = x.decoder.decode(&x.input[head..], &mut x.body).map_err(|refusal| refusal.0)?;
        x.input.drain(head..head + used);
        x.body_bytes = x.body.len() as u64;
        if x.body.len() > limit {
            return Err(Reason::BodyTooLarge);
        }
        Ok(if done { 0 } else { READ.max(WINDOW / 4) })
    }

    /// A new deadline only after progress that is worth one.
    fn time_body(&mut self, connection: &mut Connection) {
        let Some(x) = connection.exchange.as_deref_mut() else { return };
        let timed = self.timers.waits_for(connection.key.index) == Some(Wait::Body);
        if !timed || x.body_bytes - x.body_timed >= BODY_PROGRESS {
            x.body_timed = x.body_bytes;
            self.wait(connection, Wait::Body, self.timeouts().body);
        }
    }

    fn wait_for_room(&mut self, connection: &mut Connection) -> Step {
        let (room, poll) = (ns(self.timeouts().room), ns(self.timeouts().room_poll));
        let now = self.now;
        let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
        if x.room_until == 0 {
            x.room_until = now + room;
            count(&self.counters().held);
        }
        let until = x.room_until.min(now + poll);
        connection.phase = Phase::Room;
        self.wait_until(connection, Wait::Room, until);
        Step::Wait
    }

    pub(super) fn ask_for_room_again(&mut self, connection: &mut Connection) -> Fate {
        let Some(x) = connection.exchange.as_deref_mut() else { return Fate::Close };
        if x.room_until <= self.now {
            return match self.refuse(connection, Reason::OverBudget) {
                Step::Close => Fate::Close,
                Step::Again | Step::Wait => self.drive(connection),
            };
        }
        connection.phase = if x.body_begun { Phase::Body } else { Phase::Judge };
        self.drive(connection)
    }
}

/// Answers `Expect: 100-continue`, unless the body has begun to arrive unasked. False when the caller has gone.
pub(super) fn answer_expect(connection: &mut Connection) -> bool {
    let Some(x) = connection.exchange.as_deref() else { return false };
    if !x.head.expects_continue() || x.input.len() > x.head.head_len() {
        return true;
    }
    // 25 bytes into an empty send buffer: what does not fit at once has no reader.
    net::send(connection.fd.as_fd(), CONTINUE).is_ok_and(|n| n == CONTINUE.len())
}
