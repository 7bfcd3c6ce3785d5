//! What holds for every message, tried on thousands that are made from the pieces on which parsers differ.

use proptest::prelude::*;

use super::{DATE, Outcome, key, outcome, read_three_ways, reference};
use crate::caller::Endpoint;
use crate::error::Reason;
use crate::http::body::ChunkedDecoder;
use crate::http::canonical::Canonical;
use crate::http::forward::{Forward, write_request};
use crate::http::head::RequestHead;
use crate::http::{Framing, Progress};

/// Pieces that are harmless alone.
const PIECES: &[&str] = &[
    "GET",
    "POST",
    "TRACE",
    " ",
    "  ",
    "/",
    "//",
    "..",
    "%2e",
    "%2f",
    "%25",
    "?",
    "&",
    "=",
    "a",
    "B",
    "HTTP/1.1",
    "HTTP/1.0",
    "\r\n",
    "\n",
    "\r",
    "\t",
    "\0",
    ":",
    ": ",
    " :",
    ",",
    ";",
    "\\",
    "\u{7f}",
    "\u{80}",
    "\u{ff}",
    "Host",
    "host",
    "169.254.169.254",
    "168.63.129.16",
    "Content-Length",
    "content_length",
    "Transfer-Encoding",
    "chunked",
    "identity",
    "Connection",
    "close",
    "keep-alive",
    "Expect",
    "100-continue",
    "5",
    "0",
    "+5",
    "0x",
    "hello",
    "\r\n\r\n",
    "x-ms-azure-host-claims",
    "x_ms_azure_host_claims",
    "Metadata",
    "http://",
    "*",
    "#",
];

fn pieces(most: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(proptest::sample::select(PIECES), 0..most)
        .prop_map(|pieces| super::corpus::bytes(&pieces.concat()))
}

/// A head that is mostly in order, with one piece put somewhere.
fn nearly_sound() -> impl Strategy<Value = Vec<u8>> {
    let fields = proptest::collection::vec(
        proptest::sample::select(
            &[
                "Accept: */*\r\n",
                "Content-Length: 5\r\n",
                "Transfer-Encoding: chunked\r\n",
                "Connection: close, a\r\n",
                "A: 1\r\n",
                "a: 2\r\n",
                "Expect: 100-continue\r\n",
                "Metadata: true\r\n",
                "X-Ms-Azure-Host-Date: x\r\n",
                "TE: trailers\r\n",
                "x: \u{e9}\r\n",
                "Zz:\r\n",
            ][..],
        ),
        0..6,
    );
    let line = proptest::sample::select(
        &[
            "GET /metadata/instance?api-version=2021-02-01&b=&a=1&A=2 HTTP/1.1\r\n",
            "POST /a%20b/?x&y=1&&x HTTP/1.1\r\n",
            "PUT http://169.254.169.254/vmAgentLog HTTP/1.1\r\n",
            "HEAD / HTTP/1.0\r\n",
        ][..],
    );
    let piece = prop_oneof![3 => Just(Vec::new()), 2 => pieces(2), 1 => any::<u8>().prop_map(|byte| vec![byte])];
    (line, fields, piece, any::<proptest::sample::Index>()).prop_map(|(line, fields, piece, at)| {
        let text = format!("{line}Host: 169.254.169.254\r\n{}\r\n", fields.concat());
        let mut message = super::corpus::bytes(&text);
        let at = at.index(message.len() + 1);
        message.splice(at..at, piece);
        message
    })
}

/// How a lenient server reads a head: lines end at LF, names are folded, the first and the last count.
fn lenient_lengths(head: &[u8]) -> (Vec<String>, bool) {
    let text: String = head.iter().copied().map(char::from).collect();
    let (mut lengths, mut chunked) = (Vec::new(), false);
    for line in text.split(['\n', '\r', '\0']) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let name = name.trim().to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        match &name[..] {
            "content-length" => lengths.push(value.trim().to_owned()),
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    (lengths, chunked)
}

/// A lenient parser finds the same in all that we accept.
fn agrees_with_httparse(message: &[u8]) -> Result<(), TestCaseError> {
    let mut head = RequestHead::new();
    if head.parse(message) != Ok(Progress::Complete) {
        return Ok(());
    }
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut other = httparse::Request::new(&mut fields);
    prop_assert_eq!(other.parse(message), Ok(httparse::Status::Complete(head.head_len())));
    prop_assert_eq!(other.method.map(str::as_bytes), Some(head.method(message)));
    prop_assert_eq!(other.version, Some(u8::from(!head.is_http10())));
    prop_assert!(other.path.is_some_and(|target| target.as_bytes().ends_with(head.target(message))));
    let theirs: Vec<_> = other.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
    let ours: Vec<_> = head.fields().iter().map(|field| (field.name(message), field.value(message))).collect();
    prop_assert_eq!(theirs, ours);
    Ok(())
}

/// The laws of a head that was let through and sent on.
fn sent_on_soundly(message: &[u8]) -> Result<(), TestCaseError> {
    let mut head = RequestHead::new();
    if head.parse(message) != Ok(Progress::Complete) || head.check_endpoint(message, Endpoint::Imds).is_err() {
        return Ok(());
    }
    if Canonical::new().canonicalise(head.path(message), head.query(message)).is_err() {
        return Ok(());
    }
    let (body, key) = (&b"hello"[..], key());
    let with_body = match head.framing() {
        Framing::Chunked | Framing::Length(5) => body,
        Framing::None | Framing::Length(0) => &[][..],
        _ => return Ok(()),
    };
    let forward = Forward {
        buf: message,
        head: &head,
        endpoint: Endpoint::Imds,
        is_root: true,
        date: DATE,
        body: Some(with_body),
        streamed_length: None,
        key: Some(&key),
    };
    let mut out = Vec::new();
    prop_assert!(write_request(&mut out, &forward));

    // A lenient server sees one length at most, the right one, and no chunks; ours once, with our values.
    let (lengths, chunked) = lenient_lengths(&out);
    prop_assert!(!chunked);
    prop_assert!(lengths.len() <= 1);
    prop_assert!(lengths.first().map_or(0, |length| length.parse().unwrap_or(usize::MAX)) == with_body.len());
    let text = out.escape_ascii().to_string().to_lowercase();
    for name in ["x-ms-azure-host-claims", "x-ms-azure-host-date", "x-ms-azure-host-authorization"] {
        prop_assert_eq!(text.matches(&format!("\\n{name}:")).count(), 1, "{}", text);
    }
    let claims = b"\r\nx-ms-azure-host-claims: { \"isRoot\": \"true\"}\r\n";
    prop_assert!(out.windows(claims.len()).any(|part| part == claims));

    // What goes out is a head that we would let through, and is signed as an independent reader signs it.
    let mut again = RequestHead::new();
    prop_assert_eq!(again.parse(&out), Ok(Progress::Complete));
    prop_assert_eq!(again.head_len(), out.len());
    prop_assert_eq!(again.target(&out), head.target(message));
    let signed = again.fields().last().unwrap().value(&out);
    prop_assert_eq!(std::str::from_utf8(signed).unwrap(), reference::authorization(&out, with_body));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_the_same_three_ways(message in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_three_ways(&message, b"");
    }

    #[test]
    fn any_pieces_are_read_the_same_three_ways(message in pieces(30)) {
        read_three_ways(&message, b"");
    }

    #[test]
    fn what_goes_on_means_one_thing(message in nearly_sound()) {
        read_three_ways(&message, b"");
        agrees_with_httparse(&message)?;
        sent_on_soundly(&message)?;
    }

    #[test]
    fn no_control_character_but_tabs_and_whole_line_ends_is_let_through(
        message in nearly_sound(), at in any::<proptest::sample::Index>(), byte in proptest::sample::select(&b"\r\n\0\x0b\x7f"[..]),
    ) {
        let mut message = message;
        message.insert(at.index(message.len()), byte);
        let mut head = RequestHead::new();
        if head.parse(&message) == Ok(Progress::Complete) {
            let lines: Vec<&[u8]> = message[..head.head_len()].split_inclusive(|byte| *byte == b'\n').collect();
            for line in lines {
                let text = line.strip_suffix(b"\r\n");
                prop_assert!(text.is_some_and(|text| text.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control())));
            }
        }
    }

    #[test]
    fn chunks_of_any_size_come_back(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..8), size in 1_usize..40,
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        let (mut decoder, mut data, mut done) = (ChunkedDecoder::new(), Vec::new(), false);
        for piece in wire.chunks(size) {
            prop_assert!(!done);
            let (used, end) = decoder.decode(piece, &mut data).unwrap();
            prop_assert_eq!(used, piece.len());
            done = end;
        }
        prop_assert!(done);
        prop_assert_eq!(data, chunks.concat());
    }

    #[test]
    fn any_chunked_bytes_end_the_same_in_all_pieces(
        wire in proptest::collection::vec(proptest::sample::select(&b"05aF;\r\n\r\n\r\n: x\0"[..]), 0..60), size in 1_usize..9,
    ) {
        let whole = {
            let mut data = Vec::new();
            ChunkedDecoder::new().decode(&wire, &mut data).map(|(used, done)| (used, done, data))
        };
        let (mut decoder, mut data, mut used) = (ChunkedDecoder::new(), Vec::new(), 0);
        let mut slow = Ok((0, false));
        for piece in wire.chunks(size) {
            slow = decoder.decode(piece, &mut data);
            let Ok((n, done)) = slow else { break };
            used += n;
            if done { break }
        }
        match (whole, slow) {
            (Ok((n, done, bytes)), Ok((_, slow_done))) => prop_assert_eq!((n, done, bytes), (used, slow_done, data)),
            (Err(one), Err(other)) => prop_assert_eq!(one, other),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn segments_are_what_is_written_once_decoded(segments in proptest::collection::vec("[A-Za-z0-9_~!$()*+,:@=é -]{0,5}[A-Za-z0-9é]", 0..6), upper in any::<bool>()) {
        let encode = |segment: &String| segment.bytes().map(|byte| match byte {
            b'a'..=b'm' | b'A'..=b'M' | b' ' | 0x80.. if upper => format!("%{byte:02X}"),
            b' ' | 0x80.. => format!("%{byte:02x}"),
            _ => char::from(byte).to_string(),
        }).collect::<String>();
        let path = format!("/{}", segments.iter().map(encode).collect::<Vec<_>>().join("/"));
        let mut canonical = Canonical::new();
        prop_assert_eq!(canonical.canonicalise(path.as_bytes(), None), Ok(()));
        let expected: Vec<Vec<u8>> = segments.iter().map(|segment| segment.to_lowercase().into_bytes()).collect();
        let found: Vec<Vec<u8>> = canonical.segments().map(<[u8]>::to_vec).collect();
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(Canonical::rule_path(path.as_bytes()), Ok(expected.clone()));
        let plain = format!("/{}", segments.join("/"));
        prop_assert_eq!(Canonical::rule_path(plain.as_bytes()), Ok(expected));
    }

    #[test]
    fn no_path_that_goes_on_can_be_resolved_further(path in "(/|\\.|\\.\\.|%2e|%2E|%2f|%5c|\\\\|%25|;|%00|a|b|%61|%c0%af){1,8}") {
        let path = format!("/{path}");
        let mut canonical = Canonical::new();
        if canonical.canonicalise(path.as_bytes(), None).is_ok() {
            let decoded = String::from_utf8(canonical.path().to_vec()).unwrap();
            let bad = decoded.contains(['\\', ';', '\0']) || decoded.contains("//")
                || decoded.split('/').any(|segment| segment.ends_with('.'));
            prop_assert!(!bad, "{} as {}", path, decoded);
            // A second round of decoding finds nothing.
            let once = canonical.path().to_vec();
            prop_assert!(canonical.canonicalise(&once, None) != Ok(()) || canonical.path() == once);
        }
    }

    #[test]
    fn parameters_are_decoded_once(name in "[a-zA-Z%+]{1,4}", value in "[a-zA-Z0-9%+=/é]{0,6}") {
        let encode = |text: &str| text.bytes().flat_map(|byte| format!("%{byte:02x}").into_bytes()).map(char::from).collect::<String>();
        let query = format!("x=1&{}={}&&=2", encode(&name), encode(&value));
        let mut canonical = Canonical::new();
        prop_assert_eq!(canonical.canonicalise(b"/", Some(query.as_bytes())), Ok(()));
        let found: Vec<_> = canonical.parameters().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        let expected = (name.to_lowercase().into_bytes(), value.to_lowercase().into_bytes());
        prop_assert_eq!(found, vec![(b"x".to_vec(), b"1".to_vec()), expected.clone()]);
        prop_assert_eq!(Canonical::rule_text(encode(&name).as_bytes()), expected.0);
    }
}

#[test]
fn a_reason_for_form_has_a_status_for_form() {
    for message in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0", b"GET /a HTTP/3.0\r\n"] {
        let Outcome::Refused(refusal) = outcome(&mut RequestHead::new(), message) else { panic!("accepted") };
        assert_eq!(refusal.status(), 400);
        assert_ne!(refusal.0, Reason::MethodNotAllowed);
    }
}
