//! The one request whose answer holds a key: sent and read here, so that the key never passes through Python.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::{Fault, KeyRecord, MAX_RECORD, SCHEME, store};
use crate::http::body::ChunkedDecoder;

/// Host and path of the request (docs/protocol.md, "Secure channel").
const HOST: &str = "168.63.129.16";
const TARGET: &str = "/secure-channel/key";
/// Head and body of the answer together; the head of a real host has some 500 bytes.
const MAX_ANSWER: usize = 2 * MAX_RECORD;
const MAX_FIELDS: usize = 64;

/// A connected stream whose calls can be given a time limit.
pub trait Timed: Read + Write {
    /// Limits the next calls.
    ///
    /// # Errors
    /// Those of setsockopt(2).
    fn limit(&self, rest: Duration) -> io::Result<()>;
}

impl Timed for TcpStream {
    fn limit(&self, rest: Duration) -> io::Result<()> {
        self.set_nonblocking(false)?;
        self.set_read_timeout(Some(rest))?;
        self.set_write_timeout(Some(rest))
    }
}

impl Timed for UnixStream {
    fn limit(&self, rest: Duration) -> io::Result<()> {
        self.set_nonblocking(false)?;
        self.set_read_timeout(Some(rest))?;
        self.set_write_timeout(Some(rest))
    }
}

/// Asks for a key, stores it durably in `folder` and gives back what was read from the disk. `date` is the value of
/// the date field, RFC 1123.
///
/// # Errors
/// Each variant of `Fault` but `Missing`; nothing of a key that could not be stored is left.
pub fn acquire(stream: &mut impl Timed, folder: &Path, timeout: Duration, date: &str) -> Result<KeyRecord, Fault> {
    let deadline = Instant::now() + timeout;
    send(stream, deadline, request(date).as_bytes()).map_err(Fault::Unreachable)?;
    let record = receive(stream, deadline)?;
    store::store(folder, &record)
}

fn request(date: &str) -> String {
    let body = format!(r#"{{"authorizationScheme": "{SCHEME}"}}"#);
    // A date is all that comes from outside; whatever it is, it stays on its line.
    let date: String = date.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    format!(
        "POST {TARGET} HTTP/1.1\r\nHost: {HOST}\r\nMetadata: True\r\nx-ms-azure-host-claims: {{ \"isRoot\": \"true\"}}\r\n\
         x-ms-azure-host-date: {date}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn rest(deadline: Instant) -> io::Result<Duration> {
    // A limit of zero would mean none.
    let rest = deadline.saturating_duration_since(Instant::now());
    if rest.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(rest) }
}

fn send(stream: &mut impl Timed, deadline: Instant, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.limit(rest(deadline)?)?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(e) => again(e)?,
        }
    }
    Ok(())
}

/// A signal is no failure; a time limit that has run out is one.
fn again(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
        _ => Err(error),
    }
}

fn receive(stream: &mut impl Timed, deadline: Instant) -> Result<KeyRecord, Fault> {
    let mut answer = Zeroizing::new(vec![0; MAX_ANSWER]);
    let mut used = 0;
    loop {
        if used == answer.len() {
            return Err(Fault::Garbled("it is too large"));
        }
        let read = rest(deadline)
            .and_then(|rest| stream.limit(rest))
            .and_then(|()| stream.read(&mut answer[used..]))
            .or_else(|e| again(e).map(|()| usize::MAX));
        let ended = match read {
            Ok(usize::MAX) => continue,
            Ok(count) => {
                used += count;
                count == 0
            }
            Err(e) => return Err(Fault::Unreachable(e)),
        };
        if let Some(body) = body_of(&answer[..used], ended)? {
            return KeyRecord::parse(&body);
        }
        if ended {
            return Err(Fault::Unreachable(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// The body once it is whole; None as long as more must come.
fn body_of(answer: &[u8], ended: bool) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(answer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Fault::Garbled("it is not HTTP/1.1")),
    };
    match head.code {
        Some(200) => {}
        // Interim answers end with their head; the final one follows.
        Some(100..=199) => return body_of(&answer[length..], ended),
        code => return Err(Fault::Status(code.unwrap_or_default())),
    }
    let body = &answer[length..];
    let values = |name: &str| {
        let name = name.to_owned();
        head.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(&name)).map(|field| field.value)
    };
    let codings: Vec<&[u8]> = values("transfer-encoding").collect();
    let lengths: Vec<&[u8]> = values("content-length").collect();
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(ended.then(|| Zeroizing::new(body.to_vec()))),
        ([], [length]) => {
            let length: usize = std::str::from_utf8(length)
                .ok()
                .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .ok_or(Fault::Garbled("its Content-Length is not a number"))?;
            if length > MAX_RECORD {
                return Err(Fault::Garbled("it is too large"));
            }
            Ok(body.get(..length).map(|body| Zeroizing::new(body.to_vec())))
        }
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => dechunk(body),
        _ => Err(Fault::Garbled("its length is ambiguous")),
    }
}

/// A body that fits in one buffer, read from its beginning each time: it is some 300 bytes.
fn dechunk(input: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
    // As large as can be needed: growing would leave a copy of the key behind.
    let mut body = Zeroizing::new(Vec::with_capacity(input.len()));
    match ChunkedDecoder::new().decode(input, &mut body) {
        Ok((_, true)) => Ok(Some(body)),
        Ok((_, false)) => Ok(None),
        Err(_) => Err(Fault::Garbled("its chunks cannot be read")),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::tests::{DIGITS, json};
    use super::*;

    const SHORT: Duration = Duration::from_secs(5);

    /// What the host sends, in these pieces, then closes; gives what the agent made of it.
    fn answered(pieces: &[&[u8]]) -> Result<KeyRecord, Fault> {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let host = thread::spawn(move || {
            for piece in pieces {
                if theirs.write_all(&piece).is_err() {
                    break;
                }
            }
        });
        let result = receive(&mut ours, Instant::now() + SHORT);
        drop(ours);
        host.join().unwrap();
        result
    }

    fn with_length() -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", json().len(), json()).into_bytes()
    }

    fn chunked() -> Vec<u8> {
        let (first, second) = (&json()[..10], &json()[10..]);
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{first}\r\n{:x};x=y\r\n{second}\r\n0\r\n\r\n",
            second.len()
        )
        .into_bytes()
    }

    #[test]
    fn every_framing_is_read_whole_byte_by_byte_and_with_trailing_bytes() {
        let closed = format!("HTTP/1.1 200 OK\r\n\r\n{}", json()).into_bytes();
        let interim = [b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), with_length()].concat();
        for whole in [with_length(), chunked(), closed, interim] {
            assert_eq!(answered(&[&whole]).unwrap().digits(), DIGITS.as_bytes());
            let bytes: Vec<&[u8]> = whole.chunks(1).collect();
            assert!(answered(&bytes).is_ok());
        }
        for whole in [with_length(), chunked()] {
            assert!(answered(&[&whole, b"more"]).is_ok());
        }
    }

    #[test]
    fn every_cut_is_an_error() {
        for whole in [with_length(), chunked()] {
            for end in 0..whole.len() {
                assert!(answered(&[&whole[..end]]).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn what_is_not_the_protocol_is_an_error() {
        let huge = vec![b'x'; MAX_ANSWER];
        let endless = [b"HTTP/1.1 200 OK\r\nA: ".to_vec(), huge.clone()].concat();
        let large = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), huge].concat();
        for bytes in [
            &b"SSH-2.0\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffff\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            &endless,
            &large,
        ] {
            assert!(matches!(answered(&[bytes]), Err(Fault::Garbled(_) | Fault::Invalid(_) | Fault::Unreachable(_))));
        }
        assert!(matches!(answered(&[b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"]), Err(Fault::Status(403))));
        assert!(matches!(answered(&[b"HTTP/1.1 302 No\r\nLocation: /\r\n\r\n"]), Err(Fault::Status(302))));
        assert!(matches!(answered(&[b""]), Err(Fault::Unreachable(_))));
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        let begin = Instant::now();
        let result = acquire(&mut ours, Path::new("/nowhere"), Duration::from_millis(50), "x");
        assert!(matches!(result, Err(Fault::Unreachable(e)) if e.kind() == io::ErrorKind::TimedOut));
        assert!(begin.elapsed() < SHORT);
    }

    #[test]
    fn the_request_is_the_protocols_and_the_date_stays_on_its_line() {
        let text = request("Thu, 01 Jan 2026 00:00:00 GMT\r\nEvil: 1");
        assert!(text.starts_with("POST /secure-channel/key HTTP/1.1\r\nHost: 168.63.129.16\r\nMetadata: True\r\n"));
        assert!(text.contains("\r\nx-ms-azure-host-date: Thu, 01 Jan 2026 00:00:00 GMTEvil: 1\r\n"));
        assert!(text.ends_with(
            "Content-Length: 44\r\nConnection: close\r\n\r\n{\"authorizationScheme\": \"Azure-HMAC-SHA256\"}"
        ));
    }
}
