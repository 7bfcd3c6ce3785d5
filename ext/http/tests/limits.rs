//! The limits of a head, to the byte.

use super::{Outcome, outcome};
use crate::error::{Reason, Refusal};
use crate::http::head::{HEAD_LIMIT, RequestHead, TARGET_LIMIT};
use crate::http::section::{FIELD_LIMIT, SECTION_LIMIT};

/// A head whose section has so many bytes.
fn with_section(length: usize) -> Vec<u8> {
    let mut message = b"GET / HTTP/1.1\r\nHost: 169.254.169.254\r\nA: ".to_vec();
    let rest = length - (message.len() - b"GET / HTTP/1.1\r\n".len()) - b"\r\n\r\n".len();
    message.resize(message.len() + rest, b'b');
    message.extend_from_slice(b"\r\n\r\n");
    message
}

/// In pieces of many sizes, since one byte at a time takes long.
fn read(message: &[u8]) -> Outcome {
    let whole = outcome(&mut RequestHead::new(), message);
    for size in [1000, 4096, 16_384, 65_535, 65_536, 65_537, 65_551, 65_552, 65_553] {
        let mut head = RequestHead::new();
        let mut end = 0;
        let mut slow = Outcome::Incomplete;
        while slow == Outcome::Incomplete && end < message.len() {
            end = message.len().min(end + size);
            slow = outcome(&mut head, &message[..end]);
        }
        assert_eq!(whole, slow, "by {size}");
    }
    whole
}

const TOO_LARGE: Outcome = Outcome::Refused(Refusal(Reason::HeadTooLarge));

#[test]
fn a_section_has_its_limit_to_the_byte() {
    assert!(matches!(read(&with_section(SECTION_LIMIT)), Outcome::Complete(_)));
    assert_eq!(read(&with_section(SECTION_LIMIT + 1)), TOO_LARGE);
    assert_eq!(read(&with_section(SECTION_LIMIT + 2)), TOO_LARGE);
    assert_eq!(read(&with_section(SECTION_LIMIT * 3)), TOO_LARGE);
}

#[test]
fn a_head_that_never_ends_is_refused_at_the_limit() {
    let mut message = b"GET / HTTP/1.1\r\n".to_vec();
    message.resize(message.len() + SECTION_LIMIT, b'a');
    assert_eq!(outcome(&mut RequestHead::new(), &message), Outcome::Incomplete);
    message.push(b'a');
    assert_eq!(read(&message), TOO_LARGE);
    assert!(message.len() <= HEAD_LIMIT);
}

#[test]
fn what_stands_before_the_limit_is_judged_first() {
    for at in [40, 1000, SECTION_LIMIT - 1] {
        let mut message = with_section(SECTION_LIMIT * 2);
        message[b"GET / HTTP/1.1\r\n".len() + at] = 0;
        assert_eq!(read(&message), Outcome::Refused(Refusal(Reason::BadField)), "{at}");
    }
    let mut message = with_section(SECTION_LIMIT * 2);
    message[SECTION_LIMIT + 100] = 0;
    assert_eq!(read(&message), TOO_LARGE);
}

#[test]
fn fields_are_counted() {
    for (count, fits) in [(FIELD_LIMIT, true), (FIELD_LIMIT + 1, false)] {
        let mut message = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        for _ in 1..count {
            message.extend_from_slice(b"A: b\r\n");
        }
        message.extend_from_slice(b"\r\n");
        let found = super::read_three_ways(&message, b"");
        assert_eq!(matches!(found, Outcome::Complete(_)), fits, "{count}");
        assert!(fits || found == TOO_LARGE);
    }
}

#[test]
fn a_target_has_its_limit_before_it_is_whole() {
    let target = |length| [b"GET /", &vec![b'a'; length - 1][..]].concat();
    assert_eq!(outcome(&mut RequestHead::new(), &target(TARGET_LIMIT)), Outcome::Incomplete);
    assert_eq!(
        outcome(&mut RequestHead::new(), &target(TARGET_LIMIT + 1)),
        Outcome::Refused(Refusal(Reason::TargetTooLong))
    );
}
