//! A header section, line by line: `*( field-name ":" OWS field-value OWS CRLF ) CRLF`, of requests and of answers.
//!
//! Strict where parsers differ (RFC 9112, section 5): a bare CR or LF, a line that begins with white space (obs-fold)
//! and white space before the colon are faults. A line may come in pieces; each byte is searched once.

use memchr::memchr;

use super::{Span, grammar, offset};

/// Bytes of a header section with its closing CRLF: what the `WALinuxAgent`'s certificate header (1.2 KB) and large
/// tokens need, many times over.
pub(super) const SECTION_LIMIT: usize = 64 << 10;
/// Fields of a header section. Real clients send fewer than 30.
pub(super) const FIELD_LIMIT: usize = 128;

/// One header field.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpan {
    pub(super) name: Span,
    pub(super) value: Span,
    /// The first byte after the line's CRLF; the line begins with the name.
    pub(super) line_end: u32,
    /// False when it ends at this hop.
    pub(super) forwarded: bool,
    /// The first eight bytes of the name in lower case, so that most names are ordered by one comparison.
    pub(super) prefix: u64,
}

impl FieldSpan {
    /// As it was sent.
    #[must_use]
    pub fn name<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        self.name.of(buf)
    }

    /// Without the white space around it.
    #[must_use]
    pub fn value<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        self.value.of(buf)
    }

    /// The whole line with its CRLF.
    pub(super) fn line(&self) -> Span {
        Span { start: self.name.start, end: self.line_end }
    }
}

/// What is wrong with a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A line that cannot be read, or could be in two ways.
    Malformed,
    /// Over one of the limits above.
    TooLarge,
}

pub(super) enum Line {
    Incomplete,
    Field(FieldSpan),
    /// The empty line; the offset of the first byte behind it.
    End(usize),
}

/// Reads lines; remembers where it is between calls with a growing buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Section {
    /// Where the section begins.
    start: usize,
    /// Where the line begins that is read next.
    line: usize,
    /// Up to here the line has neither an LF nor a control character. A CR at the end stays beyond it, since the
    /// byte after it decides.
    scanned: usize,
    fields: usize,
}

impl Section {
    pub(super) fn at(start: usize) -> Self {
        Self { start, line: start, scanned: start, fields: 0 }
    }

    #[inline]
    pub(super) fn next(&mut self, buf: &[u8]) -> Result<Line, Fault> {
        let Some(first) = buf.get(self.line) else {
            return if self.line - self.start >= SECTION_LIMIT { Err(Fault::TooLarge) } else { Ok(Line::Incomplete) };
        };
        let limit = self.start + SECTION_LIMIT;
        if self.fields == FIELD_LIMIT && *first != b'\r' && self.line < limit {
            return Err(Fault::TooLarge);
        }
        let end = memchr(b'\n', &buf[self.scanned..]).map(|at| self.scanned + at);
        if end.unwrap_or(buf.len() - 1) >= limit {
            // What stands before the limit is judged first, so that it does not matter how much was read at once.
            self.scan(&buf[..limit])?;
            return Err(Fault::TooLarge);
        }
        let Some(lf) = end else {
            self.scan(buf)?;
            return Ok(Line::Incomplete);
        };
        if lf == self.line || buf[lf - 1] != b'\r' {
            return Err(Fault::Malformed); // a bare LF
        }
        let (start, cr) = (self.line, lf - 1);
        self.line = lf + 1;
        self.scanned = self.line;
        if start == cr {
            return Ok(Line::End(self.line));
        }
        self.fields += 1;
        field(buf, start, cr).map(Line::Field)
    }

    /// Looks at what has come of a line that is not whole.
    fn scan(&mut self, buf: &[u8]) -> Result<(), Fault> {
        let text = buf[self.scanned..].strip_suffix(b"\r").unwrap_or(&buf[self.scanned..]);
        if grammar::has_control(text) {
            return Err(Fault::Malformed);
        }
        self.scanned += text.len();
        Ok(())
    }
}

/// `field-line = field-name ":" OWS field-value OWS`, the bytes from `start` to `cr`.
#[inline]
fn field(buf: &[u8], start: usize, cr: usize) -> Result<FieldSpan, Fault> {
    let line = &buf[start..cr];
    let length = line.iter().take_while(|byte| grammar::is_token_byte(**byte)).count();
    // RFC 9112, section 5.1: no whitespace is allowed between the field name and colon. An empty name, a line that
    // begins with white space and a name with other characters end here, too.
    if length == 0 || line.get(length) != Some(&b':') || grammar::has_control(&line[length..]) {
        return Err(Fault::Malformed);
    }
    let value = grammar::trim_start(&line[length + 1..]);
    let value_start = cr - value.len();
    let value = grammar::trim(value);
    Ok(FieldSpan {
        name: Span::new(start, start + length),
        value: Span::new(value_start, value_start + value.len()),
        line_end: offset(cr + 2),
        forwarded: true,
        prefix: prefix(&line[..length]),
    })
}

fn prefix(name: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = name.len().min(8);
    first[..length].copy_from_slice(&name[..length]);
    u64::from_be_bytes(first.map(|byte| byte.to_ascii_lowercase()))
}
