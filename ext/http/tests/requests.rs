//! Requests of the corpus: refused for the reason that it names, or sent on as it says.

use super::corpus::{Case, cases};
use super::{DATE, Outcome, framing, key, read_three_ways};
use crate::caller::Endpoint;
use crate::error::Refusal;
use crate::http::Progress;
use crate::http::body::ChunkedDecoder;
use crate::http::canonical::Canonical;
use crate::http::forward::{Forward, exempt, write_request};
use crate::http::head::RequestHead;

fn endpoint(case: &Case) -> Endpoint {
    let name = case.text("endpoint").unwrap_or("imds");
    Endpoint::ALL.into_iter().find(|endpoint| endpoint.name() == name).expect("a known endpoint")
}

/// All that is said about the form of a request, in the order of the relay.
fn judge(message: &[u8], endpoint: Endpoint) -> Result<RequestHead, Refusal> {
    let mut head = RequestHead::new();
    assert_eq!(head.parse(message)?, Progress::Complete, "{}", message.escape_ascii());
    head.check_endpoint(message, endpoint)?;
    Canonical::new().canonicalise(head.path(message), head.query(message))?;
    Ok(head)
}

#[test]
fn what_is_ambiguous_is_refused() {
    let mut wrong = Vec::new();
    for case in cases("http/refused.json") {
        let message = case.bytes("request").unwrap();
        read_three_ways(&message, b"");
        let found = judge(&message, endpoint(&case)).map_or_else(|refusal| refusal.0.code(), |_| "accepted");
        let expected = case.text("reason").unwrap();
        if found != expected {
            wrong.push(format!("{}: {found}, not {expected}", case.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_clear_goes_on_as_it_came() {
    for file in ["http/accepted.json", "http/clients.json"] {
        for case in cases(file) {
            goes_on(&case);
        }
    }
}

fn goes_on(case: &Case) {
    let message = case.bytes("request").unwrap();
    let rest = case.bytes("rest").unwrap_or_default();
    assert!(matches!(read_three_ways(&message, &rest), Outcome::Complete(_)), "{}", case.name());
    let buf = [&message[..], &rest].concat();
    let head = judge(&buf, endpoint(case)).unwrap_or_else(|refusal| panic!("{}: {refusal:?}", case.name()));
    assert_eq!(head.head_len(), message.len(), "{}", case.name());
    if let Some(expected) = case.get("framing") {
        assert_eq!(head.framing(), framing(expected), "{}", case.name());
    }
    for (field, found) in [
        ("keepAlive", head.keep_alive()),
        ("expectsContinue", head.expects_continue()),
        ("metadata", head.has_metadata()),
    ] {
        assert_eq!(found, case.flag(field).unwrap_or(found), "{field} of {}", case.name());
    }

    let body = case.bytes("body");
    if let Some(body) = &body {
        let mut decoded = Vec::new();
        assert_eq!(ChunkedDecoder::new().decode(&rest, &mut decoded), Ok((rest.len(), true)), "{}", case.name());
        assert_eq!(decoded, *body);
    }
    let unsigned = Forward {
        buf: &buf,
        head: &head,
        endpoint: endpoint(case),
        is_root: false,
        date: DATE,
        body: body.as_deref(),
        streamed_length: None,
        key: None,
    };
    let mut out = Vec::new();
    assert!(!write_request(&mut out, &unsigned));
    assert_eq!(out.escape_ascii().to_string(), case.bytes("forwarded").unwrap().escape_ascii().to_string());

    // The signature is one more line at the end, and says what the bytes say.
    let key = key();
    let mut signed = Vec::new();
    assert!(write_request(&mut signed, &Forward { key: Some(&key), ..unsigned }));
    let line = &signed[out.len() - 2..signed.len() - 4];
    assert_eq!(signed[..out.len() - 2], out[..out.len() - 2]);
    let expected = super::reference::authorization(&out, body.as_deref().unwrap_or_default());
    assert_eq!(
        std::str::from_utf8(line).unwrap(),
        format!("x-ms-azure-host-authorization: {expected}"),
        "{}",
        case.name()
    );
}

#[test]
fn exempt_are_two_targets_in_any_case_at_their_endpoints() {
    use Endpoint::{HostGa, Imds, WireServer};
    for (endpoint, method, target, expected) in [
        (HostGa, "PUT", "/vmAgentLog", true),
        (HostGa, "PUT", "/VMAGENTLOG", true),
        (WireServer, "POST", "/machine/?comp=telemetrydata", true),
        (WireServer, "POST", "/Machine/?Comp=TelemetryData", true),
        (HostGa, "POST", "/vmAgentLog", false),
        (HostGa, "PUT", "/vmAgentLog/", false),
        (HostGa, "PUT", "/vmAgentLog?a=b", false),
        (HostGa, "put", "/vmAgentLog", false),
        (HostGa, "PUT", "/vm%41gentLog", false),
        (WireServer, "PUT", "/vmAgentLog", false),
        (Imds, "PUT", "/vmAgentLog", false),
        (WireServer, "POST", "/machine?comp=telemetrydata", false),
        (WireServer, "POST", "/machine/?comp=telemetrydata&a=b", false),
        (WireServer, "GET", "/machine/?comp=telemetrydata", false),
        (HostGa, "POST", "/machine/?comp=telemetrydata", false),
    ] {
        assert_eq!(exempt(endpoint, method.as_bytes(), target.as_bytes()), expected, "{method} {target}");
    }
}

#[test]
fn exempt_and_streamed_requests_are_never_signed() {
    let buf = b"PUT /vmAgentLog HTTP/1.1\r\nHost: 168.63.129.16:32526\r\nContent-Length: 5\r\n\r\nhello";
    let (head, key) = (judge(buf, Endpoint::HostGa).unwrap(), key());
    let forward = Forward {
        buf,
        head: &head,
        endpoint: Endpoint::HostGa,
        is_root: true,
        date: DATE,
        body: Some(b"hello"),
        streamed_length: None,
        key: Some(&key),
    };
    let mut out = Vec::new();
    assert!(!write_request(&mut out, &forward));
    assert!(out.ends_with(b"x-ms-azure-host-claims: { \"isRoot\": \"true\"}\r\nx-ms-azure-host-date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"));
    let streamed = Forward { endpoint: Endpoint::WireServer, body: None, streamed_length: Some(5), ..forward };
    assert!(!write_request(&mut Vec::new(), &streamed));
    assert!(write_request(&mut Vec::new(), &Forward { endpoint: Endpoint::WireServer, ..forward }));
}

#[test]
fn a_body_that_a_server_may_leave_unread_isolates_the_connection() {
    for (message, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", true),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", true),
        ("DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", false),
    ] {
        let head = judge(message.as_bytes(), Endpoint::Imds).unwrap();
        assert_eq!(head.isolates_upstream(), expected, "{message}");
    }
}
