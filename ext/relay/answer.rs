//! The state of one answer of the host. Pure: bytes of the host in; a head, and a part of those bytes, out.
//!
//! What the host sends is distrusted too: an answer that cannot be read is given up, and what comes behind one is
//! surplus, which no caller may ever see.

use super::config::{INTERIM_ANSWERS, SPARE_BUFFER};
use crate::error::Reason;
use crate::http::answer::{AnswerHead, write_answer_head};
use crate::http::body::ChunkedDecoder;
use crate::http::head::Method;
use crate::http::{Framing, Progress};

/// What is still to come of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// All of it: the host has not sent a byte.
    All,
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
    /// Interim answers that came before this one.
    interims: u8,
    /// Of the final answer; 0 before it.
    pub(super) status: u16,
    /// The host will serve another request on this connection.
    pub(super) reusable: bool,
    /// The caller learns the answer's end by the end of the connection.
    pub(super) closing: bool,
}

/// What came of some bytes of the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fed {
    /// Which of them are body, to be passed on as they are.
    pub(super) body: std::ops::Range<usize>,
    /// Bytes of body in all, those that were taken out of their chunks too.
    pub(super) length: usize,
    /// The host sent more than the answer.
    pub(super) surplus: bool,
}

impl Answer {
    pub(super) fn new() -> Self {
        Self {
            partial: Vec::new(),
            head: AnswerHead::default(),
            decoder: ChunkedDecoder::default(),
            rest: Rest::All,
            method: Method::Get,
            http10: false,
            interims: 0,
            status: 0,
            reusable: false,
            closing: false,
        }
    }

    /// What the answer will be for: it decides whether there is a body, and in which form the caller can take it.
    pub(super) fn expect(&mut self, method: Method, http10: bool) {
        if self.has_begun() {
            self.partial.clear();
            self.partial.shrink_to(SPARE_BUFFER);
            self.head.clear();
        }
        self.rest = Rest::All;
        self.interims = 0;
        self.status = 0;
        self.reusable = false;
        self.closing = false;
        self.method = method;
        self.http10 = http10;
    }

    /// The host has sent a byte of it.
    pub(super) const fn has_begun(&self) -> bool {
        !matches!(self.rest, Rest::All)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.rest == Rest::Nothing
    }

    /// Takes bytes of the host. Appends to `out` what goes to the caller before the body; `closing` says that the
    /// caller's connection is to end with this answer.
    pub(super) fn feed(&mut self, bytes: &[u8], closing: bool, out: &mut Vec<u8>) -> Result<Fed, Reason> {
        if self.rest == Rest::All {
            self.rest = Rest::Head;
        }
        let mut at = 0;
        while self.rest == Rest::Head {
            match self.feed_head(&bytes[at..], closing, out)? {
                Some(used) => at += used,
                None => return Ok(Fed { body: bytes.len()..bytes.len(), length: 0, surplus: false }),
            }
        }
        let before = out.len();
        let body = self.feed_body(&bytes[at..], out)?;
        let (start, end) = (at + body.start, at + body.end);
        let used = at + body.used;
        Ok(Fed { body: start..end, length: end - start + out.len() - before, surplus: used < bytes.len() })
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
            if self.interims == INTERIM_ANSWERS {
                return Err(Reason::HostBroken);
            }
            self.interims += 1;
            // We answer `Expect` ourselves, and HTTP/1.0 knows no interim answers (RFC 9110 §15.2).
            if self.head.status() != 100 && !self.http10 {
                write_answer_head(out, buf, &self.head, self.http10, true);
            }
            self.head.clear();
            self.partial.clear();
        } else {
            self.begin_body(before, bytes, closing, out);
        }
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
            Rest::All | Rest::Head | Rest::Nothing => Ok(Part { start: 0, end: 0, used: 0 }),
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
    pub(super) fn end(&mut self) -> bool {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a caller gets when an answer comes in pieces that end at `cuts`; whether all was used.
    fn passed_on(bytes: &[u8], cuts: &[usize], http10: bool) -> Result<(Vec<u8>, bool, bool), Reason> {
        let mut answer = Answer::new();
        answer.expect(Method::Get, http10);
        let (mut got, mut surplus, mut from) = (Vec::new(), false, 0);
        for to in cuts.iter().copied().chain([bytes.len()]) {
            let piece = &bytes[from.min(to)..to];
            from = from.max(to);
            if answer.is_whole() {
                surplus |= !piece.is_empty();
                continue;
            }
            let mut out = Vec::new();
            let fed = answer.feed(piece, false, &mut out)?;
            got.extend(out);
            got.extend_from_slice(&piece[fed.body]);
            surplus |= fed.surplus;
        }
        Ok((got, answer.is_whole(), surplus))
    }

    const ANSWERS: [&[u8]; 6] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ];

    proptest! {
        /// The outcome depends on the bytes alone, not on how they were cut into reads.
        #[test]
        fn pieces_do_not_matter(which in 0..ANSWERS.len(), http10: bool, mut cuts in prop::collection::vec(0usize..90, 0..8)) {
            let bytes = ANSWERS[which];
            cuts.retain(|cut| *cut <= bytes.len());
            cuts.sort_unstable();
            prop_assert_eq!(passed_on(bytes, &cuts, http10), passed_on(bytes, &[], http10));
        }
    }

    #[test]
    fn surplus_is_told_and_never_passed_on() {
        let (got, whole, surplus) = passed_on(ANSWERS[5], &[], false).expect("a good answer");
        assert!(whole && surplus);
        assert!(got.ends_with(b"hello"));
    }

    #[test]
    fn a_final_answer_has_to_come() {
        let with = |interims| [b"HTTP/1.1 102 Processing\r\n\r\n".repeat(interims), ANSWERS[0].to_vec()].concat();
        assert!(passed_on(&with(16), &[], false).is_ok_and(|(_, whole, _)| whole));
        assert_eq!(passed_on(&with(17), &[], false), Err(Reason::HostBroken));
    }

    #[test]
    fn chunks_are_opened_for_a_1_0_caller() {
        let (got, whole, _) = passed_on(ANSWERS[2], &[], true).expect("a good answer");
        assert!(whole && got.ends_with(b"\r\n\r\nhello"));
    }
}
