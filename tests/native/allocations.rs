//! The steady state: after the first requests, no pure step of a request allocates.
//!
//! A program of its own, since it brings its own allocator: the system's, which counts what each thread asks of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use _native::caller::Endpoint;
use _native::error::{Reason, Refusal};
use _native::http::Progress;
use _native::http::answer::{AnswerHead, write_answer_head, write_refusal};
use _native::http::body::ChunkedDecoder;
use _native::http::canonical::Canonical;
use _native::http::forward::{Forward, write_request};
use _native::http::head::{Method, RequestHead};
use _native::sign::SigningKey;

const DATE: &[u8; 29] = b"Thu, 01 Jan 2026 00:00:00 GMT";
const DIGITS: &[u8] = b"4A404E635266556A586E3272357538782F413F4428472B4B6250645367566B59";

const TYPICAL: &[u8] = b"GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F \
    HTTP/1.1\r\nHost: 169.254.169.254\r\nUser-Agent: azsdk-python-identity/1.27.0 Python/3.11.2\r\nAccept-Encoding: gzip, \
    deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nMetadata: true\r\n\r\n";
const MANY_PARAMETERS: &[u8] =
    b"GET /?p=1&o=2&n=3&m=4&l=5&k=6&j=7&i=8&h=9&g=10&f=11&e=12&d=13&c=14&b=15&a=16 HTTP/1.1\r\n\
    Host: 169.254.169.254\r\nConnection: close, x-a, x-b\r\nx-b: 1\r\n\r\n";
const CHUNKED: &[u8] = b"POST /metadata/x HTTP/1.1\r\nHost: 169.254.169.254\r\nTransfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\n0\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: IMDS/150.870.65.1854\r\n\
    Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: 2\r\n\r\n{}";

#[derive(Default)]
struct Reused {
    head: RequestHead,
    canonical: Canonical,
    answer: AnswerHead,
    body: Vec<u8>,
    out: Vec<u8>,
}

impl Reused {
    fn request(&mut self, buf: &[u8], key: &SigningKey) {
        self.head.clear();
        assert_eq!(self.head.parse(buf), Ok(Progress::Complete));
        self.head.check_endpoint(buf, Endpoint::Imds).unwrap();
        self.canonical.canonicalise(self.head.path(buf), self.head.query(buf)).unwrap();
        self.body.clear();
        if self.head.framing() == _native::http::Framing::Chunked {
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
    let (mut reused, key) =
        (Reused::default(), SigningKey::new("9cf81e97-0316-4ad3-94a7-8ccbdee8ddbf", None, DIGITS).unwrap());
    let messages = [TYPICAL, MANY_PARAMETERS, CHUNKED];
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

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });

/// Allocations and growths of this thread so far.
fn allocations() -> u64 {
    COUNT.get()
}

fn count() {
    // A thread that ends has no counter any more.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: each call is handed to the system's allocator as it is, whose contract is the same; counting allocates
// nothing, since the counter is a plain number that needs no initialisation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as for this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as for this function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as for this function.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as for this function.
        unsafe { System.dealloc(place, layout) }
    }
}
