//! The answers that the agent gives itself: flat JSON that the SDKs of the cloud show to their users
//! (docs/protocol.md, "Statuses").

use super::grammar::{DECIMAL, decimal};
use crate::error::Refusal;

/// What a caller waits for that sent `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The longest body is below this; more would be a mistake in `words`.
const BODY: usize = 512;

/// Appends the whole answer to a refused request. `head_only`: the request was a HEAD.
///
/// The decision's id ends the description, so that an operator can ask for it by what a user saw.
pub fn write_refusal(out: &mut Vec<u8>, refusal: Refusal, decision_id: Option<u64>, close: bool, head_only: bool) {
    let status = refusal.status();
    let mut body = Body { text: [0; BODY], length: 0 };
    body.push(b"{\"error\": \"");
    body.push(error(status).as_bytes());
    body.push(b"\", \"error_description\": \"");
    body.push(refusal.0.words().as_bytes());
    let mut digits = [0; DECIMAL];
    let id = decision_id.map(|id| decimal(id, &mut digits));
    if let Some(id) = id {
        body.push(b": decision d-");
        body.push(id);
    }
    body.push(b"\", \"decisionId\": ");
    if let Some(id) = id {
        body.push(b"\"d-");
        body.push(id);
        body.push(b"\"}");
    } else {
        body.push(b"null}");
    }
    write_json(out, status, &body.text[..body.length], close, head_only);
}

/// Appends a whole answer with a JSON body. The fields that a status asks for are set here: Allow for 405, Retry-After
/// (in seconds) for 503.
pub fn write_json(out: &mut Vec<u8>, status: u16, body: &[u8], close: bool, head_only: bool) {
    let mut digits = [0; DECIMAL];
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(decimal(status.into(), &mut digits));
    out.extend_from_slice(b" ");
    out.extend_from_slice(phrase(status).as_bytes());
    out.extend_from_slice(b"\r\nContent-Type: application/json\r\nContent-Length: ");
    out.extend_from_slice(decimal(body.len() as u64, &mut digits));
    out.extend_from_slice(match status {
        405 => b"\r\nAllow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH",
        503 => b"\r\nRetry-After: 1",
        _ => b"",
    });
    out.extend_from_slice(if close { b"\r\nConnection: close\r\n\r\n" } else { b"\r\n\r\n" });
    if !head_only {
        out.extend_from_slice(body);
    }
}

/// `error` of the body. SDKs show it; none decides by it.
const fn error(status: u16) -> &'static str {
    match status {
        400 => "BadRequest",
        403 => "AccessDenied",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        408 => "RequestTimeout",
        413 => "ContentTooLarge",
        414 => "UriTooLong",
        421 => "MisdirectedRequest",
        431 => "HeaderFieldsTooLarge",
        502 => "BadGateway",
        503 => "ServiceUnavailable",
        504 => "GatewayTimeout",
        _ => "InternalError",
    }
}

/// Reason phrases of RFC 9110, section 15.
const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Internal Server Error",
    }
}

/// A short text on the stack.
struct Body {
    text: [u8; BODY],
    length: usize,
}

impl Body {
    fn push(&mut self, part: &[u8]) {
        self.text[self.length..self.length + part.len()].copy_from_slice(part);
        self.length += part.len();
    }
}
