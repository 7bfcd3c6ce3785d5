//! One canonical form of paths and query parameters, for rules and for requests.
//!
//! A path is percent-decoded once and put into lower case; what a lenient server could resolve to another path (it
//! decodes twice, takes a backslash for a slash, cuts at a semicolon, drops a trailing dot) is refused. So the segments
//! that a rule is compared with are the only ones that the bytes can mean.

use super::grammar::{hex_digit, is_target_byte};
use super::{Span, offset};
use crate::error::{Reason, Refusal};

/// The canonical form of one request. Reusable: buffers are kept from request to request.
#[derive(Debug, Default)]
pub struct Canonical {
    path: Vec<u8>,
    query: Vec<u8>,
    pairs: Vec<Pair>,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    name: Span,
    value: Span,
}

/// A path that is written in a rule may have bytes that a target must encode.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    Caller,
    Rule,
}

impl Canonical {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the form of a target's path, as on the wire, and query, without its question mark.
    ///
    /// # Errors
    /// 400 for what could be read in two ways; then 403, `PathTraversal`, for dot segments and empty ones.
    pub fn canonicalise(&mut self, target_path: &[u8], query: Option<&[u8]>) -> Result<(), Refusal> {
        let traversal = decode_path(&mut self.path, target_path, Writer::Caller)?;
        self.read_query(query.unwrap_or_default())?;
        if traversal { Err(Refusal(Reason::PathTraversal)) } else { Ok(()) }
    }

    /// The path in canonical form. Never a request's own bytes: those are what is signed and sent.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Its segments; a slash at the end makes none.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> + Clone {
        segments(&self.path)
    }

    /// Name and value of each query parameter that has a name, in the order of the request.
    pub fn parameters(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.pairs.iter().map(|pair| (pair.name.of(&self.query), pair.value.of(&self.query)))
    }

    /// Segments of a path in a rule, which may be percent-encoded or plain.
    ///
    /// # Errors
    /// A path that no request can have.
    pub fn rule_path(path: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
        let mut decoded = Vec::new();
        if decode_path(&mut decoded, path, Writer::Rule)? {
            return Err(Refusal(Reason::PathTraversal));
        }
        Ok(segments(&decoded).map(<[u8]>::to_vec).collect())
    }

    /// A query parameter's name or value in a rule, which may be percent-encoded or plain.
    #[must_use]
    pub fn rule_text(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        // A percent sign that encodes nothing is itself.
        let _ = decode_text(&mut out, text, Writer::Rule);
        out
    }

    fn read_query(&mut self, query: &[u8]) -> Result<(), Refusal> {
        self.query.clear();
        self.pairs.clear();
        if query.is_empty() {
            return Ok(());
        }
        for piece in query.split(|byte| *byte == b'&') {
            let (name, value) = match memchr::memchr(b'=', piece) {
                Some(at) => (&piece[..at], &piece[at + 1..]),
                None => (piece, &piece[piece.len()..]),
            };
            let start = offset(self.query.len());
            decode_text(&mut self.query, name, Writer::Caller)?;
            let middle = offset(self.query.len());
            decode_text(&mut self.query, value, Writer::Caller)?;
            let end = offset(self.query.len());
            if !name.is_empty() {
                self.pairs.push(Pair { name: Span { start, end: middle }, value: Span { start: middle, end } });
            }
        }
        Ok(())
    }
}

/// The 400s of [`Canonical::canonicalise`] alone: they come before a refused method, the 403 after it.
pub(super) fn check_form(path: &[u8], query: Option<&[u8]>) -> Result<(), Refusal> {
    match Canonical::new().canonicalise(path, query) {
        Err(Refusal(Reason::PathTraversal)) | Ok(()) => Ok(()),
        Err(refusal) => Err(refusal),
    }
}

fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let inner = path.strip_prefix(b"/").unwrap_or(path);
    let inner = inner.strip_suffix(b"/").unwrap_or(inner);
    inner.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty())
}

/// Two hexadecimal digits, which must follow a percent sign.
fn escape(rest: &[u8]) -> Option<u8> {
    match rest {
        [high, low, ..] => Some(hex_digit(*high)? << 4 | hex_digit(*low)?),
        _ => None,
    }
}

/// Decodes `raw` into `out`. True when it has dot segments or empty ones: 403, unless something is 400.
fn decode_path(out: &mut Vec<u8>, raw: &[u8], writer: Writer) -> Result<bool, Refusal> {
    const AMBIGUOUS: Refusal = Refusal(Reason::AmbiguousPath);
    out.clear();
    if raw.first() != Some(&b'/') {
        return Err(Refusal(Reason::BadTarget));
    }
    let (mut at, mut ascii, mut percent) = (0, true, false);
    while let Some(byte) = raw.get(at) {
        let mut byte = *byte;
        at += 1;
        if byte == b'%' {
            match (escape(&raw[at..]), writer) {
                // A server that decodes before it splits sees another path; one that decodes nothing here, too.
                (Some(b'/'), _) | (None, Writer::Caller) => return Err(AMBIGUOUS),
                (Some(decoded), _) => {
                    byte = decoded;
                    at += 2;
                }
                (None, Writer::Rule) => {}
            }
            percent |= byte == b'%';
        } else if writer == Writer::Caller && !is_target_byte(byte) {
            return Err(AMBIGUOUS);
        }
        if matches!(byte, 0..=0x1f | 0x7f | b'\\' | b';' | b'?' | b'#') {
            return Err(AMBIGUOUS);
        }
        ascii &= byte.is_ascii();
        out.push(byte.to_ascii_lowercase());
    }
    if percent && is_encoded_twice(out) {
        return Err(AMBIGUOUS);
    }
    if !ascii {
        fold(out, 0, Deceptive::Refused).ok_or(AMBIGUOUS)?;
    }
    check_segments(out)
}

/// What is left after decoding once would be decoded by a server that does it twice. `%u` is the form of old Windows servers.
fn is_encoded_twice(decoded: &[u8]) -> bool {
    memchr::memchr_iter(b'%', decoded).any(|at| {
        let rest = &decoded[at + 1..];
        escape(rest).is_some() || rest.first() == Some(&b'u')
    })
}

fn check_segments(decoded: &[u8]) -> Result<bool, Refusal> {
    let inner = &decoded[1..];
    if inner.is_empty() {
        return Ok(false);
    }
    let inner = inner.strip_suffix(b"/").unwrap_or(inner);
    let mut traversal = false;
    for segment in inner.split(|byte| *byte == b'/') {
        match segment {
            [] | b"." | b".." => traversal = true,
            // Windows drops dots and spaces at the end of a name.
            [.., b'.' | b' '] => return Err(Refusal(Reason::AmbiguousPath)),
            _ => {}
        }
    }
    Ok(traversal)
}

/// Decodes a parameter's name or value behind what `out` has. `+` is a plus.
fn decode_text(out: &mut Vec<u8>, raw: &[u8], writer: Writer) -> Result<(), Refusal> {
    let start = out.len();
    let (mut at, mut ascii) = (0, true);
    while let Some(byte) = raw.get(at) {
        let mut byte = *byte;
        at += 1;
        if byte == b'%' {
            match escape(&raw[at..]) {
                // Some servers end a text at NUL, so that a value would differ from the rule's and yet be it.
                Some(0) | None if writer == Writer::Caller => return Err(Refusal(Reason::BadTarget)),
                Some(decoded) => {
                    byte = decoded;
                    at += 2;
                }
                None => {}
            }
        }
        ascii &= byte.is_ascii();
        out.push(byte.to_ascii_lowercase());
    }
    if !ascii {
        // A value that is no text is compared by its bytes.
        let _ = fold(out, start, Deceptive::Kept);
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deceptive {
    Refused,
    Kept,
}

/// Puts the letters behind `start` into lower case, beyond ASCII. `None`, and `out` as it was, for what is not UTF-8 or,
/// when they are refused, has deceptive characters. Allocates: no real client sends such.
fn fold(out: &mut Vec<u8>, start: usize, deceptive: Deceptive) -> Option<()> {
    let text = std::str::from_utf8(&out[start..]).ok()?;
    if deceptive == Deceptive::Refused && text.chars().any(is_deceptive) {
        return None;
    }
    let folded: String = text.chars().flat_map(char::to_lowercase).collect();
    out.truncate(start);
    out.extend_from_slice(folded.as_bytes());
    Some(())
}

/// Characters that some servers turn into ASCII, or leave out, when they compare or convert text.
fn is_deceptive(character: char) -> bool {
    matches!(character,
        '\u{80}'..='\u{9f}' // controls
        | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}' // unseen
        | '\u{130}' | '\u{131}' | '\u{17f}' | '\u{212a}' // i, i, s and k in another case
        | '\u{2024}'..='\u{2026}' | '\u{fe52}' // dots
        | '\u{2044}' | '\u{2215}' | '\u{2216}' | '\u{29f5}' | '\u{29f8}' | '\u{fe68}' // slashes
        | '\u{ff01}'..='\u{ff5e}') // all of ASCII in full width
}
