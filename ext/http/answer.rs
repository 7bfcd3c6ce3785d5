//! The head of an answer: read from the host, written to the caller.
//!
//! It goes back as it came, without the fields that end at this hop and with one that says it went through here.
//! The host is trusted in what it says, and not in how it frames it: an answer whose end two parsers could see in two
//! places is given up (502), since the connections on both sides serve more than one request.

use super::fields::AUTHORIZATION;
use super::forward::{write_field, write_lines};
use super::grammar::{content_length, has_control, is_token, list};
use super::head::Method;
use super::section::{FieldSpan, Line, SECTION_LIMIT, Section};
use super::{Framing, Progress, Span};
use crate::error::{Reason, Refusal};

pub use super::refusal::{CONTINUE, write_json, write_refusal};

/// Bytes of a status line. Reason phrases are short.
const STATUS_LIMIT: usize = 1 << 10;
/// No head that is accepted is longer.
pub const ANSWER_LIMIT: usize = STATUS_LIMIT + SECTION_LIMIT;

const BROKEN: Refusal = Refusal(Reason::HostBroken);

/// Head of an answer, as offsets into the buffer from which it was parsed. Reusable.
#[expect(clippy::struct_excessive_bools, reason = "one for each thing that a field can say")]
#[derive(Debug, Default)]
pub struct AnswerHead {
    phase: Phase,
    section: Section,
    head_len: usize,
    status_line: Span,
    status: u16,
    http10: bool,
    fields: Vec<FieldSpan>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    no_body: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Status,
    Fields,
    Complete,
}

impl AnswerHead {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the answer; the next one (after an interim one, too) is parsed from its first byte.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Reads on in `buf`, which begins with the first byte of the answer to a request with `method`.
    ///
    /// # Errors
    /// `HostBroken`, 502.
    pub fn parse(&mut self, buf: &[u8], method: Method) -> Result<Progress, Refusal> {
        loop {
            match self.phase {
                Phase::Status => {
                    if !self.read_status(buf)? {
                        return Ok(Progress::Incomplete);
                    }
                }
                Phase::Fields => match self.section.next(buf).map_err(|_| BROKEN)? {
                    Line::Incomplete => return Ok(Progress::Incomplete),
                    Line::Field(field) => self.take_field(buf, field)?,
                    Line::End(end) => {
                        self.head_len = end;
                        self.finish(buf, method)?;
                        self.phase = Phase::Complete;
                    }
                },
                Phase::Complete => return Ok(Progress::Complete),
            }
        }
    }

    /// `status-line = HTTP-version SP status-code SP [ reason-phrase ]`; the second space is often left out.
    fn read_status(&mut self, buf: &[u8]) -> Result<bool, Refusal> {
        let text = &buf[..buf.len().min(STATUS_LIMIT)];
        let Some(lf) = memchr::memchr(b'\n', text) else {
            let start = b"HTTP/1.".iter().zip(text).all(|(expected, byte)| expected == byte);
            return if start && text.len() < STATUS_LIMIT { Ok(false) } else { Err(BROKEN) };
        };
        let [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            minor @ (b'0' | b'1'),
            b' ',
            a @ b'1'..=b'5',
            b,
            c,
            rest @ ..,
            b'\r',
        ] = &text[..lf]
        else {
            return Err(BROKEN);
        };
        let sound = b.is_ascii_digit() && c.is_ascii_digit() && matches!(rest, [] | [b' ', ..]) && !has_control(rest);
        if !sound {
            return Err(BROKEN);
        }
        let [a, b, c] = [a, b, c].map(|digit| u16::from(digit - b'0'));
        self.status = a * 100 + b * 10 + c;
        self.http10 = *minor == b'0';
        self.status_line = Span::new(0, lf + 1);
        self.section = Section::at(lf + 1);
        self.phase = Phase::Fields;
        Ok(true)
    }

    fn take_field(&mut self, buf: &[u8], mut field: FieldSpan) -> Result<(), Refusal> {
        let (name, value) = (field.name(buf), field.value(buf));
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        match name.len() {
            14 if is(b"content-length") => {
                if self.length.is_some() {
                    return Err(BROKEN);
                }
                self.length = Some(content_length(value).ok_or(BROKEN)?);
            }
            17 if is(b"transfer-encoding") => {
                // RFC 9112, section 7.1: chunked is applied once, and last.
                let mut codings = list(value).map(|coding| coding.eq_ignore_ascii_case(b"chunked")).peekable();
                while let Some(chunked) = codings.next() {
                    if self.chunked || chunked != codings.peek().is_none() {
                        return Err(BROKEN);
                    }
                    self.chunked = chunked;
                }
                if !self.chunked {
                    return Err(BROKEN);
                }
            }
            10 if is(b"connection") => {
                field.forwarded = false;
                self.close |= list(value).any(|option| option.eq_ignore_ascii_case(b"close"));
            }
            _ => field.forwarded = !is_hop_by_hop(name) && !is(AUTHORIZATION),
        }
        self.fields.push(field);
        Ok(())
    }

    fn finish(&mut self, buf: &[u8], method: Method) -> Result<(), Refusal> {
        if self.chunked && (self.length.is_some() || self.http10) {
            return Err(BROKEN); // which of the two holds is read differently
        }
        // Nobody asked for another protocol, and what follows would not be HTTP.
        if self.status == 101 {
            return Err(BROKEN);
        }
        // RFC 9112, section 6.3: these have no body, whatever their fields say.
        let bodiless_status = self.status < 200 || self.status == 204;
        self.no_body = bodiless_status || self.status == 304 || method == Method::Head;
        for at in 0..self.fields.len() {
            let name = self.fields[at].name(buf);
            if name.eq_ignore_ascii_case(b"connection") {
                self.drop_named(buf, self.fields[at].value);
            } else if bodiless_status
                && (name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding"))
            {
                // Sections 6.1 and 8.6 of RFC 9110/9112 forbid them there; a caller could wait for that body.
                self.fields[at].forwarded = false;
                self.close = true;
            }
        }
        Ok(())
    }

    /// The fields that a `Connection` names end here, save those that frame the body.
    fn drop_named(&mut self, buf: &[u8], options: Span) {
        for option in list(options.of(buf)).filter(|option| is_token(option)).take(OPTIONS_LIMIT) {
            let framing = [&b"content-length"[..], b"transfer-encoding"];
            if framing.iter().any(|name| name.eq_ignore_ascii_case(option)) {
                continue;
            }
            for field in &mut self.fields {
                if field.name(buf).eq_ignore_ascii_case(option) {
                    field.forwarded = false;
                }
            }
        }
    }

    #[must_use]
    pub fn head_len(&self) -> usize {
        self.head_len
    }

    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Another answer follows this one. 100 is for nobody, since we answer `Expect`; others are for callers of HTTP/1.1.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// How the body ends that follows this head.
    #[must_use]
    pub fn framing(&self) -> Framing {
        match self.length {
            _ if self.no_body => Framing::None,
            _ if self.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        }
    }

    /// Whether the host's connection may serve another request after this body. Not after an answer in HTTP/1.0.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        !self.close && !self.http10 && self.framing() != Framing::UntilClose
    }

    /// All fields as they came.
    #[must_use]
    pub fn fields(&self) -> &[FieldSpan] {
        &self.fields
    }
}

/// Names of a `Connection` that are heeded.
const OPTIONS_LIMIT: usize = 32;

fn is_hop_by_hop(name: &[u8]) -> bool {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        7 => is(b"upgrade"),
        10 => is(b"keep-alive"),
        _ => name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"proxy-")),
    }
}

/// Appends the head as the caller gets it, from the head that was parsed from `buf`. `caller_http10` and `keep_alive` are about the
/// caller: which version it speaks, and whether its connection stays. A body until close can only end with the connection.
///
/// An answer in chunks to a caller of HTTP/1.0, which cannot read them, loses its `Transfer-Encoding`: its body must be
/// decoded, and ends with the connection.
pub fn write_answer_head(out: &mut Vec<u8>, buf: &[u8], head: &AnswerHead, caller_http10: bool, keep_alive: bool) {
    let decoded = caller_http10 && head.framing() == Framing::Chunked;
    out.reserve(head.head_len + 96);
    let lines = head
        .fields
        .iter()
        .filter(|field| field.forwarded && !(decoded && field.name(buf).eq_ignore_ascii_case(b"transfer-encoding")));
    write_lines(out, buf, std::iter::once(head.status_line).chain(lines.map(FieldSpan::line)));
    if head.is_interim() {
        out.extend_from_slice(b"\r\n");
        return;
    }
    // The literal value is what clients look for (docs/protocol.md, "Forwarded request").
    write_field(out, AUTHORIZATION, &[b"value"]);
    if !keep_alive || decoded || head.framing() == Framing::UntilClose {
        write_field(out, b"Connection", &[b"close"]);
    } else if caller_http10 {
        write_field(out, b"Connection", &[b"keep-alive"]);
    }
    out.extend_from_slice(b"\r\n");
}
