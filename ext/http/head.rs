//! The head of a request: one strict parse, of which all later steps read the same offsets.
//!
//! RFC 9112 decides; where it lets a recipient be lenient, we are not: an empty line before the request line, two
//! spaces in it, other versions, a `Host` that is missing or repeated, `Content-Length` that is repeated or not plain
//! digits, `Transfer-Encoding` other than `chunked` alone, both together: each is answered 400.

use memchr::memchr;
use serde::Deserialize;

use super::grammar;
use super::section::{Fault, Line, SECTION_LIMIT, Section};
use super::target::{self, Target};
use super::{Framing, Progress, Span};
use crate::caller::Endpoint;
use crate::error::{Reason, Refusal};

pub use super::section::FieldSpan;

/// Bytes of a request target, 414 beyond: design limit; the longest of real clients (attested documents with nonces,
/// tokens for long resource ids) stay below 2 KiB.
pub const TARGET_LIMIT: usize = 8 << 10;
/// Bytes of a method. The longest one that is registered has 17.
const METHOD_LIMIT: usize = 32;
/// No head that is accepted is longer: a buffer of this size always gets to an answer.
pub const HEAD_LIMIT: usize = METHOD_LIMIT + 1 + TARGET_LIMIT + " HTTP/1.1\r\n".len() + SECTION_LIMIT;

/// The methods that are let through; all others are answered 405.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
}

impl Method {
    /// Methods are compared with their case (RFC 9110, section 9.1).
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            _ => return None,
        })
    }

    /// RFC 9110 gives a body no meaning here, so that a server may leave it unread on the connection.
    #[must_use]
    pub const fn is_bodiless(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Delete | Self::Options)
    }
}

/// What is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Method,
    Target,
    Version,
    Fields,
    Complete,
}

/// A request head, as offsets into the buffer from which it was parsed. Reusable: `clear` keeps what was allocated.
#[derive(Debug, Default)]
pub struct RequestHead {
    phase: Phase,
    at: usize,
    section: Section,
    method: Span,
    pub(super) method_kind: Option<Method>,
    target: Target,
    pub(super) fields: Vec<FieldSpan>,
    /// Fields that go on, ordered by name in lower case, then as sent: the order in which they are signed.
    pub(super) order: Vec<u8>,
    /// Names that `Connection` lists, without those known to this file.
    pub(super) options: Vec<Span>,
    pub(super) host: Option<Span>,
    pub(super) length: Option<u64>,
    pub(super) flags: Flags,
}

#[expect(clippy::struct_excessive_bools, reason = "one for each thing that a field can say")]
#[derive(Debug, Default)]
pub(super) struct Flags {
    pub(super) http10: bool,
    pub(super) chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) expect: bool,
    pub(super) metadata: bool,
}

impl RequestHead {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the request; the next one is parsed from its first byte.
    pub fn clear(&mut self) {
        let (mut fields, mut order, mut options) =
            (std::mem::take(&mut self.fields), std::mem::take(&mut self.order), std::mem::take(&mut self.options));
        fields.clear();
        order.clear();
        options.clear();
        *self = Self { fields, order, options, ..Self::default() };
    }

    /// Reads on. `buf` begins with the first byte of the request and grows from call to call; bytes behind the head
    /// (a body, the next request) are not looked at. The outcome does not depend on how the bytes came.
    ///
    /// # Errors
    /// 414, 431 and 400 in the order of the bytes, as soon as they are certain; then 405.
    pub fn parse(&mut self, buf: &[u8]) -> Result<Progress, Refusal> {
        loop {
            let more = match self.phase {
                Phase::Method => self.read_method(buf)?,
                Phase::Target => self.read_target(buf)?,
                Phase::Version => self.read_version(buf)?,
                Phase::Fields => self.read_field(buf)?,
                Phase::Complete => return Ok(Progress::Complete),
            };
            if !more {
                return Ok(Progress::Incomplete);
            }
        }
    }

    fn read_method(&mut self, buf: &[u8]) -> Result<bool, Refusal> {
        let text = &buf[self.at..];
        let length = text.iter().take_while(|byte| grammar::is_token_byte(**byte)).count();
        self.at += length;
        if self.at > METHOD_LIMIT {
            return Err(Refusal(Reason::BadRequestLine));
        }
        match buf.get(self.at) {
            None => Ok(false),
            Some(b' ') if self.at > 0 => {
                self.method = Span::new(0, self.at);
                self.method_kind = Method::parse(&buf[..self.at]);
                self.at += 1;
                self.phase = Phase::Target;
                Ok(true)
            }
            Some(_) => Err(Refusal(Reason::BadRequestLine)),
        }
    }

    fn read_target(&mut self, buf: &[u8]) -> Result<bool, Refusal> {
        let start = self.method.end as usize + 1;
        let room = &buf[self.at..buf.len().min(start + TARGET_LIMIT)];
        self.at += room.iter().take_while(|byte| grammar::is_target_byte(**byte)).count();
        let Some(next) = buf.get(self.at) else { return Ok(false) };
        if *next != b' ' {
            let full = self.at == start + TARGET_LIMIT;
            return Err(Refusal(if full { Reason::TargetTooLong } else { Reason::BadTarget }));
        }
        let span = Span::new(start, self.at);
        match Target::parse(buf, span) {
            Some(target) => self.target = target,
            // CONNECT has the authority-form, and a method nobody knows may have any.
            None if self.method_kind.is_none() && start < self.at => {
                self.target = Target { origin: span, path: span, query: None, authority: None };
            }
            None => return Err(Refusal(Reason::BadTarget)),
        }
        self.at += 1;
        self.phase = Phase::Version;
        Ok(true)
    }

    fn read_version(&mut self, buf: &[u8]) -> Result<bool, Refusal> {
        const LONGEST: usize = "HTTP/1.1\r\n".len();
        let text = &buf[self.at..buf.len().min(self.at + LONGEST)];
        let Some(lf) = memchr(b'\n', text) else {
            return if text.len() < LONGEST { Ok(false) } else { Err(Refusal(Reason::BadRequestLine)) };
        };
        self.flags.http10 = match &text[..lf] {
            b"HTTP/1.1\r" => false,
            b"HTTP/1.0\r" => true,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9', b'\r'] => {
                return Err(Refusal(Reason::BadVersion));
            }
            _ => return Err(Refusal(Reason::BadRequestLine)),
        };
        self.at += lf + 1;
        self.section = Section::at(self.at);
        self.phase = Phase::Fields;
        Ok(true)
    }

    fn read_field(&mut self, buf: &[u8]) -> Result<bool, Refusal> {
        match self.section.next(buf) {
            Ok(Line::Incomplete) => Ok(false),
            Ok(Line::Field(field)) => {
                self.take_field(buf, field)?;
                Ok(true)
            }
            Ok(Line::End(end)) => {
                self.at = end;
                self.finish(buf)?;
                self.phase = Phase::Complete;
                Ok(true)
            }
            Err(Fault::Malformed) => Err(Refusal(Reason::BadField)),
            Err(Fault::TooLarge) => Err(Refusal(Reason::HeadTooLarge)),
        }
    }

    /// Whether the request says that it goes where the kernel saw it go (see `target.rs`).
    ///
    /// # Errors
    /// `BadHost`, 400.
    pub fn check_endpoint(&self, buf: &[u8], endpoint: Endpoint) -> Result<(), Refusal> {
        target::check_endpoint(self.host(buf), self.target.authority.map(|span| span.of(buf)), endpoint)
    }

    /// Bytes of the head, of which the last is the LF of the empty line.
    #[must_use]
    pub fn head_len(&self) -> usize {
        self.at
    }

    #[must_use]
    pub fn method<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        self.method.of(buf)
    }

    /// # Panics
    /// When the head is not complete.
    #[must_use]
    pub fn method_kind(&self) -> Method {
        self.method_kind.expect("only heads with a known method complete")
    }

    /// The origin-form, which is what is sent on: path and query.
    #[must_use]
    pub fn target<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        self.target.origin.of(buf)
    }

    #[must_use]
    pub fn path<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        self.target.path.of(buf)
    }

    /// What follows the question mark; `Some` of nothing when the target ends with it.
    #[must_use]
    pub fn query<'a>(&self, buf: &'a [u8]) -> Option<&'a [u8]> {
        self.target.query.map(|span| span.of(buf))
    }

    /// `Length(0)` is a body that was said to be empty: some clients do so in a GET.
    #[must_use]
    pub fn framing(&self) -> Framing {
        match self.length {
            Some(length) => Framing::Length(length),
            None if self.flags.chunked => Framing::Chunked,
            None => Framing::None,
        }
    }

    /// Whether the caller means to go on using the connection (RFC 9112, section 9.3).
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        !self.flags.close && (!self.flags.http10 || self.flags.keep_alive)
    }

    /// Whether the caller waits for a 100 before it sends its body. Never in HTTP/1.0 (RFC 9110, section 10.1.1), nor
    /// without a body.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.flags.expect && !self.flags.http10 && !matches!(self.framing(), Framing::None | Framing::Length(0))
    }

    /// Whether a field `Metadata` is there, with whatever value.
    #[must_use]
    pub fn has_metadata(&self) -> bool {
        self.flags.metadata
    }

    #[must_use]
    pub fn is_http10(&self) -> bool {
        self.flags.http10
    }

    /// A body with a method that gives it no meaning: a server may leave it unread, and would then take it for the
    /// next request. The upstream connection serves nobody after that.
    #[must_use]
    pub fn isolates_upstream(&self) -> bool {
        self.method_kind.is_some_and(Method::is_bodiless)
            && !matches!(self.framing(), Framing::None | Framing::Length(0))
    }

    #[must_use]
    pub fn host<'a>(&self, buf: &'a [u8]) -> Option<&'a [u8]> {
        self.host.map(|span| span.of(buf))
    }

    /// All fields as they were sent.
    #[must_use]
    pub fn fields(&self) -> &[FieldSpan] {
        &self.fields
    }

    /// The fields that go on, ordered by name, then as sent.
    pub(super) fn signed_fields(&self) -> impl Iterator<Item = &FieldSpan> {
        self.order.iter().map(|index| &self.fields[usize::from(*index)])
    }
}
