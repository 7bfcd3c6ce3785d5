//! A caller's connection, and the exchange (one request and its answer) that it is at.
//!
//! An idle connection is this struct alone, below 400 bytes; an exchange with its buffers is taken from the thread's
//! stock when the first byte of a request is there and goes back with the last byte of the answer.

use std::os::fd::OwnedFd;

use super::answer::Answer;
use super::budget::Lease;
use super::config::{READ, SPARE_BUFFER};
use super::slab::Key;
use crate::audit::{Decision, ENDPOINT_NONE, NO_INDEX};
use crate::caller::Ident;
use crate::error::Reason;
use crate::http::body::ChunkedDecoder;
use crate::http::head::RequestHead;

/// What happens next on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for a head, or reading it.
    Head,
    /// The head is there, and the body as far as it has to be: decide.
    Judge,
    /// Reading a body that is held.
    Body,
    /// The agent is not ready.
    Held,
    /// No room for the body at the moment.
    Room,
    /// The host failed; another try follows.
    Retry,
    /// The request goes out, the answer comes back.
    Exchange,
    /// The control plane was asked.
    Question,
    /// The last bytes of an answer go out.
    Flush,
    /// The caller was refused; what it still sends is thrown away.
    Linger,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Step {
    /// The phase has changed: go on.
    Again,
    /// Nothing to do until an event or a deadline.
    Wait,
    Close,
}

/// Whether a connection lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Fate {
    Keep,
    Close,
}

#[expect(clippy::struct_excessive_bools, reason = "what is known of each direction, independent of the phase")]
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) fd: OwnedFd,
    pub(super) key: Key,
    /// Who is at the other end, or why nobody can say.
    pub(super) caller: Result<Ident, Reason>,
    pub(super) phase: Phase,
    pub(super) registered: bool,
    /// Bytes may wait in the kernel: an edge was seen that has not been read to its end.
    pub(super) readable: bool,
    /// The caller will send nothing more.
    pub(super) read_closed: bool,
    /// No request has been read yet: its time began with connect().
    pub(super) first: bool,
    pub(super) upstream: Option<Key>,
    pub(super) exchange: Option<Box<Exchange>>,
}

const _: () = assert!(size_of::<Connection>() <= 320);

impl Connection {
    pub(super) fn new(fd: OwnedFd, caller: Result<Ident, Reason>) -> Self {
        Self {
            fd,
            key: Key { index: u32::MAX, generation: 0 },
            caller,
            phase: Phase::Head,
            registered: false,
            readable: true,
            read_closed: false,
            first: true,
            upstream: None,
            exchange: None,
        }
    }
}

/// Where the bytes of a request's body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    /// In `input`, after the head: that many bytes.
    Inline(usize),
    /// Decoded, in `body`.
    Decoded,
    /// Not held: this many bytes are still to be passed on.
    Streamed(u64),
}

/// What was decided about a request, for its record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub(super) decision: Decision,
    pub(super) reason: Reason,
    pub(super) privilege: u16,
    pub(super) role: u16,
    pub(super) identity: u16,
    pub(super) endpoint: u8,
    pub(super) mode: u8,
    pub(super) signed: bool,
    pub(super) epoch: u64,
}

impl Judged {
    pub(super) const fn nothing() -> Self {
        Self {
            decision: Decision::Refused,
            reason: Reason::Misdirected,
            privilege: NO_INDEX,
            role: NO_INDEX,
            identity: NO_INDEX,
            endpoint: ENDPOINT_NONE,
            mode: 0,
            signed: false,
            epoch: 0,
        }
    }
}

/// One request and its answer.
#[expect(clippy::struct_excessive_bools, reason = "each half of the exchange ends by itself")]
#[derive(Debug)]
pub(super) struct Exchange {
    /// The head, then what belongs to it or to the next request.
    pub(super) input: Vec<u8>,
    pub(super) head: RequestHead,
    /// The head was read to its end; `head` says where it is in `input`.
    pub(super) has_head: bool,
    /// When the head was complete: ns since 1970, and monotonic.
    pub(super) unix_ns: i64,
    pub(super) started: u64,
    pub(super) decision_id: u64,
    pub(super) judged: Judged,

    pub(super) body: Vec<u8>,
    pub(super) decoder: ChunkedDecoder,
    pub(super) body_at: Body,
    /// Reading the body has begun, or has ended.
    pub(super) body_begun: bool,
    pub(super) body_whole: bool,
    pub(super) body_bytes: u64,
    /// `body_bytes` when the deadline was set.
    pub(super) body_timed: u64,
    pub(super) lease: Option<Lease>,
    /// Its place among the held requests, and until when.
    pub(super) hold: Option<Lease>,
    pub(super) hold_until: u64,
    /// Until when the control plane may look at the caller; 0 before it was asked to.
    pub(super) look_until: u64,
    pub(super) room_until: u64,

    /// What the host has to read before a held body: the head, or a window of a streamed body.
    pub(super) to_host: Vec<u8>,
    pub(super) sent: usize,
    pub(super) request_sent: bool,
    /// The host no longer takes the request; it may have answered all the same.
    pub(super) upload_dead: bool,
    pub(super) repeatable: bool,
    /// Only a new connection to the host will do.
    pub(super) fresh: bool,
    pub(super) failing_since: Option<u64>,

    pub(super) answer: Answer,
    pub(super) to_caller: Vec<u8>,
    pub(super) flushed: usize,
    /// The caller has been sent a byte of the answer.
    pub(super) answered: bool,
    /// The connection ends with this answer.
    pub(super) closing: bool,
    pub(super) recorded: bool,
    pub(super) status: u16,
    pub(super) answer_bytes: u64,
}

impl Exchange {
    pub(super) fn new() -> Self {
        Self {
            input: Vec::with_capacity(READ),
            head: RequestHead::default(),
            has_head: false,
            unix_ns: 0,
            started: 0,
            decision_id: 0,
            judged: Judged::nothing(),
            body: Vec::new(),
            decoder: ChunkedDecoder::default(),
            body_at: Body::None,
            body_begun: false,
            body_whole: false,
            body_bytes: 0,
            body_timed: 0,
            lease: None,
            hold: None,
            hold_until: 0,
            look_until: 0,
            room_until: 0,
            to_host: Vec::with_capacity(READ),
            sent: 0,
            request_sent: false,
            upload_dead: false,
            repeatable: false,
            fresh: false,
            failing_since: None,
            answer: Answer::new(),
            to_caller: Vec::new(),
            flushed: 0,
            answered: false,
            closing: false,
            recorded: false,
            status: 0,
            answer_bytes: 0,
        }
    }

    /// Ready for the next request, whose first bytes may be in `input` already.
    pub(super) fn reset(&mut self) {
        self.head.clear();
        self.has_head = false;
        self.judged = Judged::nothing();
        trim(&mut self.body);
        self.body_at = Body::None;
        self.body_begun = false;
        self.body_whole = false;
        self.body_bytes = 0;
        self.body_timed = 0;
        self.lease = None;
        self.hold = None;
        self.hold_until = 0;
        self.look_until = 0;
        self.room_until = 0;
        trim(&mut self.to_host);
        self.sent = 0;
        self.request_sent = false;
        self.upload_dead = false;
        self.repeatable = false;
        self.fresh = false;
        self.failing_since = None;
        trim(&mut self.to_caller);
        self.flushed = 0;
        self.answered = false;
        self.closing = false;
        self.recorded = false;
        self.status = 0;
        self.answer_bytes = 0;
    }

    /// Ready for a request of another connection.
    pub(super) fn reset_for_another(&mut self) {
        trim(&mut self.input);
        self.reset();
    }

    /// The held body, in whichever place it is.
    pub(super) fn held_body(&self) -> &[u8] {
        match self.body_at {
            Body::Inline(length) => &self.input[self.head.head_len()..][..length],
            Body::Decoded => &self.body,
            Body::None | Body::Streamed(_) => &[],
        }
    }

    /// Removes this request's bytes from `input`.
    pub(super) fn consume(&mut self) {
        if self.has_head {
            let inline = if let Body::Inline(length) = self.body_at { length } else { 0 };
            self.input.drain(..self.head.head_len() + inline);
        }
        // A body may have grown it.
        self.input.shrink_to(SPARE_BUFFER);
    }

    /// Method and target as far as they can be told, for the record.
    pub(super) fn method_and_target(&self) -> (&[u8], &[u8]) {
        if self.has_head {
            return (self.head.method(&self.input), self.head.target(&self.input));
        }
        let line = self.input.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
        let mut words = line.splitn(3, |b| *b == b' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }
}

/// Empties a buffer and gives its memory back when it is larger than most requests need.
fn trim(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(SPARE_BUFFER);
}
