//! The host's answer on its way back: as much at a time as its caller takes.
//!
//! One window is read and written; what the caller does not take of it is kept, and the host is not read until it is
//! gone. A connection to the host is kept only after an answer that left nothing behind.

use std::io;
use std::os::fd::AsFd;

use super::config::{JOIN, TURNS};
use super::connection::{Connection, Phase, Step};
use super::core::Core;
use super::timers::Wait;
use crate::error::Reason;
use crate::sys::net;

impl Core {
    /// Passes on what the host has sent, as far as the caller takes it.
    pub(super) fn pull_answer(&mut self, connection: &mut Connection) -> Step {
        for _ in 0..TURNS {
            match self.flush(connection) {
                Step::Again => {}
                other => return other,
            }
            let Some(upstream) = connection.upstream.and_then(|key| self.upstreams.get_mut(key)) else {
                return end_if_whole(connection);
            };
            if !upstream.readable {
                self.time_next_byte(connection);
                return Step::Wait;
            }
            match net::recv(upstream.fd.as_fd(), &mut self.window) {
                Ok(0) => return self.host_closed(connection),
                Ok(n) => {
                    upstream.readable = n == self.window.len() || upstream.closed;
                    let step = self.pass_on(connection, n);
                    // It may have ended here, with an answer of our own, too.
                    if step != Step::Again || connection.phase != Phase::Exchange {
                        return step;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    upstream.readable = false;
                    return self.upload_ended(connection);
                }
                Err(_) => return self.host_failed(connection),
            }
        }
        self.again.push(connection.key);
        Step::Wait
    }

    /// A deadline for the host where the caller's own has been met.
    fn time_next_byte(&mut self, connection: &Connection) {
        if self.timers.waits_for(connection.key.index).is_none() {
            self.wait(connection, Wait::NextByte, self.timeouts().next_byte);
        }
    }

    /// Passes on the first `n` bytes of the window. `Again` when more may be read.
    fn pass_on(&mut self, connection: &mut Connection, n: usize) -> Step {
        let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
        let bytes = &self.window[..n];
        self.out.clear();
        // An answer that comes before the whole request ends the connection: the rest would be read as a request.
        let closing = self.draining || !x.head.keep_alive() || !x.request_sent;
        let fed = match x.answer.feed(bytes, closing, &mut self.out) {
            Ok(fed) => fed,
            Err(reason) => return self.answer_broken(connection, reason),
        };
        let mut body = &bytes[fed.body.clone()];
        x.answer_bytes += fed.length as u64;
        if !self.out.is_empty() && body.len() <= JOIN {
            self.out.extend_from_slice(body);
            body = &[];
        }
        let whole = x.answer.is_whole();
        x.status = x.answer.status;
        if !self.out.is_empty() || !body.is_empty() {
            let sent = match net::send_both(connection.fd.as_fd(), &self.out, body) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return Step::Close,
            };
            // Behind a whole interim answer the caller still waits for the final one, which may be ours.
            x.answered |= sent > 0 && (x.status != 0 || sent < self.out.len());
            let head_left = self.out.get(sent..).unwrap_or_default();
            let body_left = &body[sent.saturating_sub(self.out.len())..];
            x.to_caller.extend_from_slice(head_left);
            x.to_caller.extend_from_slice(body_left);
        }
        if whole {
            self.release_upstream(connection, fed.surplus);
            return end_if_whole(connection);
        }
        self.wait(connection, Wait::NextByte, self.timeouts().next_byte);
        Step::Again
    }

    /// The answer is all there. Its connection waits for the next request of the same identity, if nothing speaks
    /// against it.
    fn release_upstream(&mut self, connection: &mut Connection, surplus: bool) {
        let Some(x) = connection.exchange.as_deref_mut() else { return };
        let Some(key) = connection.upstream.take() else { return };
        let Some(upstream) = self.upstreams.get_mut(key) else { return };
        let left_clean = x.answer.reusable && x.request_sent && !x.upload_dead && !surplus && !upstream.closed;
        let reusable = left_clean && !x.head.isolates_upstream() && !self.draining;
        if !reusable {
            self.upstreams.remove(key);
            return;
        }
        upstream.owner = None;
        upstream.kept = true;
        if let Some(evicted) = self.pool.keep(key, upstream.purpose, self.now) {
            self.upstreams.remove(evicted);
        }
    }

    fn host_closed(&mut self, connection: &mut Connection) -> Step {
        let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
        if x.answer.has_begun() && x.answer.end() {
            self.drop_upstream(connection);
            return end_if_whole(connection);
        }
        self.host_failed(connection)
    }

    /// The host takes no more of the request and has said nothing: it will not.
    fn upload_ended(&mut self, connection: &mut Connection) -> Step {
        match &connection.exchange {
            Some(x) if x.upload_dead => self.host_failed(connection),
            _ => Step::Wait,
        }
    }

    fn answer_broken(&mut self, connection: &mut Connection, reason: Reason) -> Step {
        self.drop_upstream(connection);
        match &connection.exchange {
            Some(x) if !x.answered => self.refuse_failed(connection, reason),
            _ => Step::Close,
        }
    }
}

/// Ends the request when its answer is whole, once it is written.
fn end_if_whole(connection: &mut Connection) -> Step {
    let Some(x) = connection.exchange.as_deref_mut() else { return Step::Close };
    if !x.answer.is_whole() {
        return Step::Wait;
    }
    x.closing = x.answer.closing;
    connection.phase = Phase::Flush;
    Step::Again
}
