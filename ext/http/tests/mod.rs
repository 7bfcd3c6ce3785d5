//! Whole messages, in and out: the corpus of `tests/vectors/http`, and properties.
//!
//! Each message is read three ways: whole, byte by byte, and with trailing bytes. All must end the same.

mod answers;
mod corpus;
mod limits;
mod properties;
mod reference;
mod refusals;
mod requests;
mod signatures;

use super::head::RequestHead;
use super::{Framing, Progress};
use crate::error::Refusal;
use crate::sign::SigningKey;

const DATE: &[u8; 29] = b"Thu, 01 Jan 2026 00:00:00 GMT";

fn key() -> SigningKey {
    const DIGITS: &[u8] = b"4A404E635266556A586E3272357538782F413F4428472B4B6250645367566B59";
    SigningKey::new("9cf81e97-0316-4ad3-94a7-8ccbdee8ddbf", Some(1), DIGITS).unwrap()
}

/// How a parse ended, and what it found.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Incomplete,
    Complete(String),
    Refused(Refusal),
}

fn outcome(head: &mut RequestHead, buf: &[u8]) -> Outcome {
    match head.parse(buf) {
        Ok(Progress::Incomplete) => Outcome::Incomplete,
        // Everything that was found, whatever it is, must be the same.
        Ok(Progress::Complete) => Outcome::Complete(format!("{head:?}")),
        Err(refusal) => Outcome::Refused(refusal),
    }
}

/// Reads `message` three ways and tells the common outcome. `rest` may be what follows a complete head.
fn read_three_ways(message: &[u8], rest: &[u8]) -> Outcome {
    let whole = outcome(&mut RequestHead::new(), message);

    let mut head = RequestHead::new();
    head.clear();
    let mut slow = Outcome::Incomplete;
    for end in 1..=message.len() {
        slow = outcome(&mut head, &message[..end]);
        if slow != Outcome::Incomplete {
            break;
        }
    }
    assert_eq!(whole, slow, "whole and byte by byte: {}", message.escape_ascii());

    if whole != Outcome::Incomplete {
        for rest in [rest, b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0", &[b'a'; 100]] {
            let trailing = outcome(&mut RequestHead::new(), &[message, rest].concat());
            assert_eq!(whole, trailing, "with trailing bytes: {}", message.escape_ascii());
        }
    }
    whole
}

fn framing(text: &serde_json::Value) -> Framing {
    match (text.as_str(), text.as_u64()) {
        (Some("none"), _) => Framing::None,
        (Some("chunked"), _) => Framing::Chunked,
        (Some("close"), _) => Framing::UntilClose,
        (_, Some(length)) => Framing::Length(length),
        _ => panic!("no framing: {text}"),
    }
}
