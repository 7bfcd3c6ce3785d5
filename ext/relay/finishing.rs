//! How a request ends: an answer of our own, or the last byte of the host's; its record; what becomes of the
//! connection.

use std::io;
use std::os::fd::AsFd;

use super::config::{LINGER_BYTES, WINDOW};
use super::connection::{Body, Connection, Exchange, Fate, Phase, Step};
use super::core::Core;
use super::counters::count;
use super::timers::Wait;
use crate::audit::Decision;
use crate::error::{Reason, Refusal};
use crate::http::Framing;
use crate::http::answer::{write_json, write_refusal};
use crate::http::head::Method;
use crate::sys::net;
use crate::sys::time;

impl Core {
    /// Answers a request ourselves, in the host's stead, and ends the connection. Whatever had been begun with the
    /// host is dropped.
    pub(super) fn refuse(&mut self, connection: &mut Connection, reason: Reason) -> Step {
        self.drop_upstream(connection);
        let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
        if x.answered {
            // Half an answer stands already; nothing but the end of the connection can say that it is not whole.
            return Step::Close;
        }
        if x.unix_ns == 0 || x.started == 0 {
            x.started = time::monotonic_ns();
            x.unix_ns = time::realtime_ns();
        }
        let refusal = Refusal(reason);
        settle_decision(x, reason);
        x.status = refusal.status();
        x.closing = true;
        x.lease = None;
        x.hold = None;
        let head_only = x.has_head && x.head.method_kind() == Method::Head;
        x.to_caller.clear();
        x.flushed = 0;
        write_refusal(&mut x.to_caller, refusal, Some(x.decision_id), true, head_only);
        count(&self.counters().refused);
        self.record(connection);
        connection.phase = Phase::Flush;
        Step::Again
    }

    /// The control plane's answer to a local question: JSON, as it was given.
    pub(super) fn on_reply(&mut self, connection: &mut Connection, status: u16, body: &[u8]) -> Fate {
        if connection.phase != Phase::Question {
            return Fate::Keep;
        }
        let draining = self.draining;
        let Some(x) = connection.exchange.as_deref_mut() else { return Fate::Close };
        // HTTP/1.0 would have to be told that the connection stays; it is not worth it here.
        x.closing = draining || !x.head.keep_alive() || x.head.is_http10();
        x.to_caller.clear();
        x.flushed = 0;
        write_json(&mut x.to_caller, status, body, x.closing, false);
        x.status = status;
        x.answer_bytes = body.len() as u64;
        connection.phase = Phase::Flush;
        self.record(connection);
        self.drive(connection)
    }

    /// Writes what is left of an answer, then ends the request.
    pub(super) fn flush_rest(&mut self, connection: &mut Connection) -> Step {
        match self.flush(connection) {
            Step::Again => self.finish(connection),
            other => other,
        }
    }

    /// Writes what waits for the caller. `Again` when nothing is left.
    pub(super) fn flush(&mut self, connection: &mut Connection) -> Step {
        let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
        while x.flushed < x.to_caller.len() {
            match net::send(connection.fd.as_fd(), &x.to_caller[x.flushed..]) {
                Ok(n) => {
                    x.flushed += n;
                    x.answered = true;
                    self.timers.clear(connection.key.index);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.timers.waits_for(connection.key.index) != Some(Wait::Reader) {
                        self.wait(connection, Wait::Reader, self.timeouts().reader);
                    }
                    return Step::Wait;
                }
                Err(_) => return Step::Close,
            }
        }
        x.to_caller.clear();
        x.flushed = 0;
        Step::Again
    }

    /// The caller has its whole answer: on to the next request, or to the end.
    fn finish(&mut self, connection: &mut Connection) -> Step {
        if connection.exchange.as_ref().is_some_and(|x| !x.recorded) {
            count(&self.counters().relayed);
            self.record(connection);
        }
        let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
        let body_unread = match x.body_at {
            Body::Streamed(rest) => rest > 0,
            Body::None => !matches!(x.head.framing(), Framing::None | Framing::Length(0)),
            Body::Inline(0) => false, // said to be empty: nothing was ever read
            Body::Inline(_) | Body::Decoded => !x.body_whole,
        };
        let incomplete = !x.has_head || body_unread;
        if x.closing || incomplete {
            x.consume();
            // Closing while bytes are unread resets the connection, and the caller may lose the answer with it.
            let unread = incomplete || connection.readable || !x.input.is_empty();
            return if unread { begin_linger(connection) } else { Step::Close };
        }
        x.consume();
        connection.first = false;
        connection.phase = Phase::Head;
        self.timers.clear(connection.key.index);
        if !x.input.is_empty() {
            x.reset();
        } else if let Some(exchange) = connection.exchange.take() {
            self.put_exchange_back(exchange);
        }
        Step::Again
    }

    /// Reads on for a while, so that the caller reads its answer before it learns that nobody listens.
    pub(super) fn linger(&mut self, connection: &mut Connection) -> Step {
        if self.timers.waits_for(connection.key.index) != Some(Wait::Linger) {
            self.wait(connection, Wait::Linger, self.timeouts().linger);
        }
        if !connection.readable {
            return Step::Wait;
        }
        let mut thrown_away = 0;
        while thrown_away < LINGER_BYTES {
            match net::discard(connection.fd.as_fd(), WINDOW) {
                Ok(0) => return Step::Close,
                Ok(n) => thrown_away += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connection.readable = false;
                    return Step::Wait;
                }
                Err(_) => return Step::Close,
            }
        }
        Step::Close
    }

    /// The caller left before its answer was whole.
    pub(super) fn record_departure(&mut self, connection: &mut Connection) {
        if let Some(x) = connection.exchange.as_deref_mut() {
            x.judged.decision = match x.judged.decision {
                Decision::Allow | Decision::AuditAllow => Decision::Failed,
                other => other,
            };
        }
        self.record(connection);
    }

    /// One row for one request.
    pub(super) fn record(&mut self, connection: &mut Connection) {
        let Some(x) = connection.exchange.as_deref_mut() else { return };
        if std::mem::replace(&mut x.recorded, true) {
            return;
        }
        let elapsed = time::monotonic_ns().saturating_sub(x.started) / 1000;
        let dropped = &self.shared.counters[self.thread].records_dropped;
        self.recorder.push(dropped, |row| {
            // Zero when unknown, as the row is.
            if let Ok(ident) = &connection.caller {
                row.caller = *ident;
            }
            row.unix_ns = x.unix_ns.unsigned_abs();
            row.decision_id = x.decision_id;
            row.epoch = x.judged.epoch;
            row.request_bytes = x.body_bytes;
            row.response_bytes = x.answer_bytes;
            row.duration_us = u32::try_from(elapsed).unwrap_or(u32::MAX);
            row.status = x.status;
            row.endpoint = x.judged.endpoint;
            row.decision = x.judged.decision as u8;
            row.reason = x.judged.reason as u16;
            row.privilege = x.judged.privilege;
            row.role = x.judged.role;
            row.identity = x.judged.identity;
            row.signed = u8::from(x.judged.signed);
            row.mode = x.judged.mode;
            let (method, target) = x.method_and_target();
            copy_cut(&mut row.method, method);
            row.target_len = u16::try_from(copy_cut(&mut row.target, target)).unwrap_or(0);
        });
    }
}

/// A reason that came after a verdict does not hide who allowed the request, but says how it ended.
fn settle_decision(x: &mut Exchange, reason: Reason) {
    x.judged.reason = reason;
    x.judged.decision = match (x.judged.decision, reason.status()) {
        (Decision::Failed, _) | (Decision::Allow | Decision::AuditAllow, Some(502..)) => Decision::Failed,
        (_, Some(403)) => Decision::Deny,
        _ => Decision::Refused,
    };
}

fn begin_linger(connection: &mut Connection) -> Step {
    if net::shutdown_write(connection.fd.as_fd()).is_err() {
        return Step::Close;
    }
    connection.readable = true;
    connection.phase = Phase::Linger;
    Step::Again
}

/// Copies as much as fits; gives how much that was.
fn copy_cut(to: &mut [u8], from: &[u8]) -> usize {
    let length = to.len().min(from.len());
    to[..length].copy_from_slice(&from[..length]);
    length
}
