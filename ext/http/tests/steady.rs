//! The steady state: after the first requests, no step of a request allocates.

use super::{DATE, key};
use crate::caller::Endpoint;
use crate::error::{Reason, Refusal};
use crate::http::Progress;
use crate::http::answer::{AnswerHead, write_answer_head, write_refusal};
use crate::http::body::ChunkedDecoder;
use crate::http::canonical::Canonical;
use crate::http::forward::{Forward, write_request};
use crate::http::head::{Method, RequestHead};
use crate::sys::counting::allocations;

const TYPICAL: &[u8] = b"GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F HTTP/1.1\r\nHost: 169.254.169.254\r\nUser-Agent: azsdk-python-identity/1.27.0 Python/3.11.2 (Linux-6.1.0-x86_64)\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nMetadata: true\r\n\r\n";
const CHUNKED: &[u8] =
    b"POST /metadata/x HTTP/1.1\r\nHost: 169.254.169.254\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: IMDS/150.870.65.1854\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: 2\r\n\r\n{}";

#[derive(Default)]
struct Reused {
    head: RequestHead,
    canonical: Canonical,
    answer: AnswerHead,
    body: Vec<u8>,
    out: Vec<u8>,
}

impl Reused {
    fn request(&mut self, buf: &[u8], key: &crate::sign::SigningKey) {
        self.head.clear();
        assert_eq!(self.head.parse(buf), Ok(Progress::Complete));
        self.head.check_endpoint(buf, Endpoint::Imds).unwrap();
        self.canonical.canonicalise(self.head.path(buf), self.head.query(buf)).unwrap();
        self.body.clear();
        if self.head.framing() == crate::http::Framing::Chunked {
            ChunkedDecoder::new().decode(&buf[self.head.head_len()..], &mut self.body).unwrap();
        }
        self.out.clear();
        let forward = Forward {
            buf,
            head: &self.head,
            endpoint: Endpoint::Imds,
            is_root: false,
            date: DATE,
            body: Some(&self.body),
            streamed_length: None,
            key: Some(key),
        };
        assert!(write_request(&mut self.out, &forward));
        self.out.clear();
        self.answer.clear();
        assert_eq!(self.answer.parse(ANSWER, Method::Get), Ok(Progress::Complete));
        write_answer_head(&mut self.out, ANSWER, &self.answer, false, true);
        write_refusal(&mut self.out, Refusal(Reason::NotRoot), Some(1), true, false);
    }
}

#[test]
fn nothing_is_allocated_once_the_buffers_have_grown() {
    let (mut reused, key) = (Reused::default(), key());
    let messages = [TYPICAL, CHUNKED];
    for message in messages {
        reused.request(message, &key);
    }
    let before = allocations();
    for _ in 0..100 {
        for message in messages {
            reused.request(message, &key);
        }
    }
    assert_eq!(allocations(), before);
}
