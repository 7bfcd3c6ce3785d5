//! The host's answer on its way back: its framing is followed byte by byte, its body passed on as it came.
//!
//! What the host sends is distrusted too: an answer that cannot be read becomes 502, and a connection on which more
//! came than was asked for is not used again, so that no answer can reach another caller.

use std::io;
use std::os::fd::AsFd;

use super::config::{JOIN, TURNS};
use super::connection::{Connection, Phase, Step};
use super::core::Core;
use super::timers::Wait;
use crate::error::Reason;
use crate::http::answer::{AnswerHead, write_answer_head};
use crate::http::body::ChunkedDecoder;
use crate::http::head::Method;
use crate::http::{Framing, Progress};
use crate::sys::net;

/// What is still to come of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Head,
    Length(u64),
    Chunked,
    UntilClose,
    Nothing,
}

/// The state of one answer. Pure: bytes of the host in, a head and a part of those bytes out.
#[derive(Debug)]
pub(super) struct Answer {
    /// A head that has not arrived whole.
    partial: Vec<u8>,
    head: AnswerHead,
    decoder: ChunkedDecoder,
    rest: Rest,
    method: Method,
    http10: bool,
    pub(super) status: u16,
    /// The host will serve another request on this connection.
    reusable: bool,
    /// The caller learns the answer's end by the end of the connection.
    closing: bool,
}

/// What came of some bytes of the host.
#[derive(Debug, PartialEq, Eq)]
struct Fed {
    /// Which of them are body, to be passed on as they are.
    body: std::ops::Range<usize>,
    /// The host sent more than the answer.
    surplus: bool,
}

impl Answer {
    pub(super) fn new() -> Self {
        Self {
            partial: Vec::new(),
            head: AnswerHead::default(),
            decoder: ChunkedDecoder::default(),
            rest: Rest::Head,
            method: Method::Get,
            http10: false,
            status: 0,
            reusable: false,
            closing: false,
        }
    }

    pub(super) fn reset(&mut self) {
        self.partial.clear();
        self.head.clear();
        self.rest = Rest::Head;
        self.status = 0;
        self.reusable = false;
        self.closing = false;
    }

    /// What the answer will be for: it decides whether there is a body, and in which form the caller can take it.
    pub(super) fn expect(&mut self, method: Method, http10: bool) {
        self.reset();
        self.method = method;
        self.http10 = http10;
    }

    /// The host has sent a byte of it.
    pub(super) fn has_begun(&self) -> bool {
        self.rest != Rest::Head || !self.partial.is_empty()
    }

    fn is_whole(&self) -> bool {
        self.rest == Rest::Nothing
    }

    /// Takes bytes of the host. Appends to `out` what goes to the caller before the body; `closing` says that the
    /// caller's connection is to end with this answer.
    fn feed(&mut self, bytes: &[u8], closing: bool, out: &mut Vec<u8>) -> Result<Fed, Reason> {
        let mut at = 0;
        while self.rest == Rest::Head {
            match self.feed_head(&bytes[at..], closing, out)? {
                Some(used) => at += used,
                None => return Ok(Fed { body: bytes.len()..bytes.len(), surplus: false }),
            }
        }
        let body = self.feed_body(&bytes[at..], out)?;
        let (start, end) = (at + body.start, at + body.end);
        let used = at + body.used;
        Ok(Fed { body: start..end, surplus: used < bytes.len() })
    }

    /// How many of the bytes belong to a head that is now whole; none when it is not.
    fn feed_head(&mut self, bytes: &[u8], closing: bool, out: &mut Vec<u8>) -> Result<Option<usize>, Reason> {
        let before = self.partial.len();
        if before > 0 {
            self.partial.extend_from_slice(bytes);
        }
        let buf = if before > 0 { &self.partial[..] } else { bytes };
        if self.head.parse(buf, self.method).map_err(|_| Reason::HostBroken)? == Progress::Incomplete {
            if before == 0 {
                self.partial.extend_from_slice(bytes);
            }
            return Ok(None);
        }
        let used = self.head.head_len() - before;
        if self.head.is_interim() {
            // We answer `Expect` ourselves, and HTTP/1.0 knows no interim answers (RFC 9110 §15.2).
            if self.head.status() != 100 && !self.http10 {
                write_answer_head(out, buf, &self.head, self.http10, true);
            }
        } else {
            self.begin_body(before, bytes, closing, out);
        }
        self.head.clear();
        self.partial.clear();
        Ok(Some(used))
    }

    fn begin_body(&mut self, before: usize, bytes: &[u8], closing: bool, out: &mut Vec<u8>) {
        let framing = self.head.framing();
        self.status = self.head.status();
        self.reusable = self.head.keep_alive();
        self.rest = match framing {
            Framing::None | Framing::Length(0) => Rest::Nothing,
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked,
            Framing::UntilClose => Rest::UntilClose,
        };
        if self.rest == Rest::Chunked {
            self.decoder = ChunkedDecoder::default();
        }
        // A 1.0 caller cannot read chunks (RFC 9112 §7): it gets the body alone, ended by the close.
        let unframed = self.rest == Rest::UntilClose || (self.rest == Rest::Chunked && self.http10);
        self.closing = closing || unframed;
        let buf = if before > 0 { &self.partial[..] } else { bytes };
        write_answer_head(out, buf, &self.head, self.http10, !self.closing);
    }

    fn feed_body(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Part, Reason> {
        let all = Part { start: 0, end: bytes.len(), used: bytes.len() };
        match self.rest {
            Rest::Head | Rest::Nothing => Ok(Part { start: 0, end: 0, used: 0 }),
            Rest::UntilClose => Ok(all),
            Rest::Length(left) => {
                let used = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - used as u64;
                self.rest = if left == 0 { Rest::Nothing } else { Rest::Length(left) };
                Ok(Part { start: 0, end: used, used })
            }
            Rest::Chunked => {
                let fed = if self.http10 { self.decoder.decode(bytes, out) } else { self.decoder.skim(bytes) };
                let (used, done) = fed.map_err(|_| Reason::HostBroken)?;
                if done {
                    self.rest = Rest::Nothing;
                }
                Ok(Part { start: 0, end: if self.http10 { 0 } else { used }, used })
            }
        }
    }

    /// The host has closed. True when that ends the answer as it should.
    fn end(&mut self) -> bool {
        let whole = matches!(self.rest, Rest::UntilClose | Rest::Nothing);
        if whole {
            self.rest = Rest::Nothing;
        }
        whole
    }
}

/// Which bytes are body, and how many were used.
struct Part {
    start: usize,
    end: usize,
    used: usize,
}

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
                    if step != Step::Again {
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
        x.answer_bytes += body.len() as u64;
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
            x.answered |= sent > 0;
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
        let reusable =
            x.answer.reusable && x.request_sent && !x.upload_dead && !surplus && !upstream.closed && !self.draining;
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
