//! Answers and chunked bodies of the corpus.

use super::corpus::cases;
use super::framing;
use crate::error::{Reason, Refusal};
use crate::http::Progress;
use crate::http::answer::{AnswerHead, write_answer_head};
use crate::http::body::ChunkedDecoder;
use crate::http::head::Method;

#[test]
fn answers_go_back_as_they_came_or_not_at_all() {
    for case in cases("http/answers.json") {
        let wire = case.bytes("answer").unwrap();
        let method = if case.text("method") == Some("HEAD") { Method::Head } else { Method::Get };
        let expected = case.bytes("forwarded");

        let mut head = AnswerHead::new();
        let whole = head.parse(&wire, method);
        let mut slow_head = AnswerHead::new();
        let mut slow = Ok(Progress::Incomplete);
        for end in 1..=wire.len() {
            slow = slow_head.parse(&wire[..end], method);
            if slow != Ok(Progress::Incomplete) {
                break;
            }
        }
        assert_eq!(whole, slow, "{}", case.name());
        let trailing = [&wire[..], b"\r\n\0body"].concat();
        assert_eq!(AnswerHead::new().parse(&trailing, method), whole, "{}", case.name());

        let Some(expected) = expected else {
            assert_eq!(whole, Err(Refusal(Reason::HostBroken)), "{}", case.name());
            continue;
        };
        assert_eq!(whole, Ok(Progress::Complete), "{}", case.name());
        assert_eq!(format!("{head:?}"), format!("{slow_head:?}"));
        assert_eq!(head.head_len(), wire.len());
        if let Some(text) = case.get("framing") {
            assert_eq!(head.framing(), framing(text), "{}", case.name());
        }
        let keep_alive = head.keep_alive();
        assert_eq!(keep_alive, case.flag("keepAlive").unwrap_or(keep_alive), "{}", case.name());
        let mut out = Vec::new();
        let (http10, stays) = (case.flag("callerHttp10").unwrap_or(false), case.flag("callerStays").unwrap_or(true));
        write_answer_head(&mut out, &trailing, &head, http10, stays);
        assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{}", case.name());
    }
}

/// Feeds pieces of `size` bytes. The data and how many bytes the body had; nothing for a body that is not whole.
fn decode(wire: &[u8], size: usize) -> Result<Option<(Vec<u8>, usize)>, Refusal> {
    let (mut decoder, mut data, mut used) = (ChunkedDecoder::new(), Vec::new(), 0);
    for piece in wire.chunks(size) {
        let (consumed, done) = decoder.decode(piece, &mut data)?;
        used += consumed;
        if done {
            return Ok(Some((data, used)));
        }
        assert_eq!(consumed, piece.len());
    }
    Ok(None)
}

#[test]
fn chunked_bodies_are_read_the_same_in_all_pieces() {
    for case in cases("http/chunks.json") {
        let wire = case.bytes("wire").unwrap();
        let rest = case.bytes("rest").unwrap_or_default();
        let all = [&wire[..], &rest].concat();
        for size in [1, 2, 3, 7, 4096] {
            let found = decode(&all, size);
            match case.bytes("data") {
                Some(data) => assert_eq!(found, Ok(Some((data, wire.len()))), "{} by {size}", case.name()),
                None => assert_eq!(found, Err(Refusal(Reason::BadChunk)), "{} by {size}", case.name()),
            }
        }
        let skimmed = ChunkedDecoder::new().skim(&all);
        match case.text("data") {
            Some(_) => assert_eq!(skimmed, Ok((wire.len(), true)), "{}", case.name()),
            None => assert_eq!(skimmed, Err(Refusal(Reason::HostBroken)), "{}", case.name()),
        }
    }
}

#[test]
fn no_part_of_a_chunked_body_is_a_whole_one() {
    let wire = b"5;x=\"y\"\r\nhello\r\n00a\r\n0123456789\r\n0\r\nA: b\r\n\r\n";
    for end in 0..wire.len() {
        assert_eq!(decode(&wire[..end], 4096), Ok(None), "{end}");
    }
}
