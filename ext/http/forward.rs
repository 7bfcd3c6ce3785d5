//! The head that goes to the host: written once, from one place, and signed from the same bytes.
//!
//! What the caller sent goes on byte for byte, line after line, without the fields that end at this hop and without
//! those that only the agent sets; those three are set behind it (docs/protocol.md, "Forwarded request").

use super::Framing;
use super::fields::{AUTHORIZATION, CLAIMS, DATE};
use super::grammar::{DECIMAL, compare_names, decimal};
use super::head::{FieldSpan, RequestHead};
use crate::caller::Endpoint;
use crate::sign::{SCHEME, SigningKey};

const ROOT: &[u8] = b"{ \"isRoot\": \"true\"}";
const NOT_ROOT: &[u8] = b"{ \"isRoot\": \"false\"}";

const CONTENT_LENGTH: &[u8] = b"content-length";

/// One request that was authorised, with all that its head needs.
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// What `head` was parsed from.
    pub buf: &'a [u8],
    pub head: &'a RequestHead,
    pub endpoint: Endpoint,
    /// The claim that the host reads.
    pub is_root: bool,
    /// The host's time now.
    pub date: &'a [u8; 29],
    /// The whole body, where it is held; nothing for a request without one.
    pub body: Option<&'a [u8]>,
    /// Bytes of a body that follows as it comes. Such a request is never signed.
    pub streamed_length: Option<u64>,
    /// Nothing: unsigned, because the endpoint is disabled or audited without a key.
    pub key: Option<&'a SigningKey>,
}

/// The two requests that go unsigned, and for root unjudged: telemetry that is too large to be held. The target is
/// the whole of it, in any case of letters.
#[must_use]
pub fn exempt(endpoint: Endpoint, method: &[u8], target: &[u8]) -> bool {
    match endpoint {
        Endpoint::HostGa => method == b"PUT" && target.eq_ignore_ascii_case(b"/vmAgentLog"),
        Endpoint::WireServer => method == b"POST" && target.eq_ignore_ascii_case(b"/machine/?comp=telemetrydata"),
        Endpoint::Imds => false,
    }
}

/// Appends the head with its empty line to `out`; the body follows it on the wire. True when it is signed.
pub fn write_request(out: &mut Vec<u8>, forward: &Forward<'_>) -> bool {
    let Forward { buf, head, .. } = *forward;
    let (method, target) = (head.method(buf), head.target(buf));
    let claims = if forward.is_root { ROOT } else { NOT_ROOT };
    let body = forward.body.unwrap_or_default();

    out.reserve(head.head_len() + 256);
    for part in [method, b" ", target, if head.is_http10() { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" }] {
        out.extend_from_slice(part);
    }
    write_lines(out, buf, head.fields().iter().filter(|field| field.forwarded).map(FieldSpan::line));

    let mut digits = [0; DECIMAL];
    let mut ours: &[(&[u8], &[u8])] = &[(CLAIMS, claims), (DATE, forward.date)];
    let with_length;
    if head.framing() == Framing::Chunked {
        let length = decimal(forward.streamed_length.unwrap_or(body.len() as u64), &mut digits);
        with_length = [(CONTENT_LENGTH, length), ours[0], ours[1]];
        ours = &with_length;
    }
    for (name, value) in ours {
        write_field(out, name, &[value]);
    }

    let key = forward.key.filter(|_| forward.streamed_length.is_none() && !exempt(forward.endpoint, method, target));
    if let Some(key) = key {
        let theirs = head.signed_fields().map(|field| (field.name(buf), field.value(buf)));
        let signature = key.sign_sorted(method, body, merge(theirs, ours), head.path(buf), head.query(buf));
        write_field(out, AUTHORIZATION, &[SCHEME.as_bytes(), b" ", key.guid().as_bytes(), b" ", &signature]);
    }
    out.extend_from_slice(b"\r\n");
    key.is_some()
}

/// Copies lines, those that follow each other in one piece.
pub(super) fn write_lines(out: &mut Vec<u8>, buf: &[u8], lines: impl Iterator<Item = super::Span>) {
    let mut run = super::Span::default();
    for line in lines {
        if line.start != run.end {
            out.extend_from_slice(run.of(buf));
            run.start = line.start;
        }
        run.end = line.end;
    }
    out.extend_from_slice(run.of(buf));
}

pub(super) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[&[u8]]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    for part in value {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

/// Two ordered lists in one order. No name is in both.
fn merge<'a>(
    theirs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ours: &[(&'a [u8], &'a [u8])],
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let (mut theirs, mut ours) = (theirs.peekable(), ours.iter().copied().peekable());
    std::iter::from_fn(move || match (theirs.peek(), ours.peek()) {
        (Some(their), Some(our)) if compare_names(their.0, our.0).is_lt() => theirs.next(),
        (_, Some(_)) => ours.next(),
        (_, None) => theirs.next(),
    })
}
