//! What the pure steps of one typical request cost, in a process of its own: parse, canonical form, head and signature.
//!
//! `cargo run --release --example request` prints the best of several rounds, in nanoseconds a step. The rest of a
//! request is system calls.

use std::hint::black_box;
use std::time::{Duration, Instant};

use _native::caller::Endpoint;
use _native::http::Progress;
use _native::http::canonical::Canonical;
use _native::http::forward::{Forward, write_request};
use _native::http::head::RequestHead;
use _native::sign::SigningKey;

const INSTANCE: &[u8] =
    b"GET /metadata/instance?api-version=2021-02-01 HTTP/1.1\r\nHost: 169.254.169.254\r\nUser-Agent: curl/8.5.0\r\n\
    Accept: */*\r\nMetadata: true\r\n\r\n";
const TOKEN: &[u8] = b"GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com%2F \
    HTTP/1.1\r\nHost: 169.254.169.254\r\nUser-Agent: azsdk-python-identity/1.27.0 Python/3.11.2\r\nAccept-Encoding: gzip, \
    deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nMetadata: true\r\n\r\n";

fn best(mut step: impl FnMut()) -> Duration {
    const ROUNDS: u32 = 5_000;
    let round = |_| {
        let start = Instant::now();
        (0..ROUNDS).for_each(|_| step());
        start.elapsed() / ROUNDS
    };
    (0..200).map(round).min().unwrap_or_default()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if cfg!(debug_assertions) {
        return Err("a debug build says nothing: add --release".into());
    }
    let digits = b"4A404E635266556A586E3272357538782F413F4428472B4B6250645367566B59";
    let key = SigningKey::new("9cf81e97-0316-4ad3-94a7-8ccbdee8ddbf", None, digits)?;
    for (name, buf) in [("instance", INSTANCE), ("token", TOKEN)] {
        let (mut head, mut canonical, mut out) = (RequestHead::new(), Canonical::new(), Vec::new());
        let parse = best(|| {
            head.clear();
            assert_eq!(head.parse(black_box(buf)), Ok(Progress::Complete));
        });
        let canonicalise =
            best(|| assert_eq!(canonical.canonicalise(head.path(black_box(buf)), head.query(buf)), Ok(())));
        let forward = Forward {
            buf,
            head: &head,
            endpoint: Endpoint::Imds,
            is_root: false,
            date: b"Thu, 01 Jan 2026 00:00:00 GMT",
            body: None,
            streamed_length: None,
            key: None,
        };
        let [write, sign] = [None, Some(&key)].map(|key| {
            best(|| {
                out.clear();
                assert_eq!(write_request(&mut out, black_box(&Forward { key, ..forward })), key.is_some());
            })
        });
        println!("{name}: parse {parse:?}, canonical form {canonicalise:?}, write {write:?}, write and sign {sign:?}");
    }
    Ok(())
}
