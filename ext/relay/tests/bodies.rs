//! Request bodies: held to be signed, or streamed where nobody signs; limits and budgets.

use std::io::Write;
use std::time::Duration;

use super::answers::pattern;
use super::*;
use crate::error::Reason;

fn body_of(message: &str) -> &str {
    message.split_once("\r\n\r\n").expect("a whole head").1
}

/// A host that answers with the length of the body it was sent.
fn measure(mut host: Served) {
    while let Some(request) = host.request() {
        let head = request.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head") + 4;
        let size = (request.len() - head).to_string();
        host.answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{size}", size.len()).as_bytes());
    }
}

#[test]
fn a_body_goes_on_as_it_came() {
    let stage = Stage::new(|host| host.always(OK));
    let mut client = stage.connect();
    for _ in 0..2 {
        client.send(b"POST /a HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 7\r\n\r\n{\"a\":1}");
        assert_eq!(client.answer().status, 200);
        let seen = stage.seen();
        assert_eq!((field(&seen, "content-length"), body_of(&seen)), (Some("7"), "{\"a\":1}"));
        assert!(field(&seen, "x-ms-azure-host-authorization").is_some());
    }
    assert_eq!(stage.records(2)[1].request_bytes, 7);
}

#[test]
fn a_body_that_the_host_may_not_read_costs_its_connection() {
    let stage = Stage::new(|host| host.always(OK));
    let mut client = stage.connect();
    for method in ["GET", "DELETE", "OPTIONS"] {
        let head = "/a HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 5\r\n\r\nGET /";
        client.send(format!("{method} {head}").as_bytes());
        assert_eq!(client.answer().status, 200);
        assert_eq!(body_of(&stage.seen()), "GET /");
    }
    assert_eq!((stage.host_connections(), stage.counter("upstreams_reused")), (3, 0));
}

#[test]
fn a_chunked_body_goes_on_with_a_length() {
    let stage = Stage::new(|host| host.always(OK));
    let request = b"POST /a HTTP/1.1\r\nHost: 169.254.169.254\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n";
    let mut client = stage.connect();
    client.0.set_nodelay(true).expect("a socket");
    client.send(request);
    assert_eq!(client.answer().status, 200);
    // Byte by byte, and with the next request behind it.
    for byte in request {
        client.send(&[*byte]);
    }
    assert_eq!(client.answer().status, 200);
    client.send(&[request, GET].concat());
    assert_eq!((client.answer().status, client.answer().status), (200, 200));
    for _ in 0..3 {
        let seen = stage.seen();
        assert_eq!((field(&seen, "transfer-encoding"), body_of(&seen)), (None, "hello world"));
        assert_eq!(field(&seen, "content-length"), Some("11"));
    }
}

#[test]
fn a_body_that_comes_after_its_head() {
    let stage = Stage::new(measure);
    let mut client = stage.connect();
    let body = pattern(3_000_000);
    for _ in 0..2 {
        client.send(b"PUT /status HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 3000000\r\n\r\n");
        client.send(&body);
        client.send(GET);
        assert_eq!(client.answer().text(), "3000000");
        assert_eq!(client.answer().text(), "0");
        assert!(stage.seen().len() > body.len());
        stage.seen();
    }
}

#[test]
fn expect_is_answered_by_the_agent() {
    let stage = Stage::new(measure);
    for framing in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let mut client = stage.connect();
        client.send(
            format!("POST /a HTTP/1.1\r\nHost: h\r\n{framing}\r\nExpect: 100-Continue\r\n\r\n")
                .replace("Host: h", "Host: 169.254.169.254")
                .as_bytes(),
        );
        assert_eq!(client.answer().status, 100);
        client.send(if framing.starts_with('C') { b"hello" } else { b"5\r\nhello\r\n0\r\n\r\n" });
        assert_eq!(client.answer().text(), "5");
        assert_eq!(field(&stage.seen(), "expect"), None);
    }
}

#[test]
fn a_refused_expect_gets_no_100() {
    let stage = Stage::new(measure);
    stage.caller(Some(user(1000, Endpoint::WireServer)));
    let answer =
        stage.ask(b"POST /a HTTP/1.1\r\nHost: 168.63.129.16\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(answer.status, 403);
    assert_eq!(stage.host_connections(), 0);
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let config = RelayConfig { threads: 1, body_limit: 1000, ..RelayConfig::default() };
    let stage = Stage::unready(config, measure);
    stage.relay.publish(snapshot("enforce", true));
    assert_eq!(stage.ask(b"POST /a HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 1001\r\n\r\n").status, 413);
    let mut client = stage.connect();
    client.send(b"POST /a HTTP/1.1\r\nHost: 169.254.169.254\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = [&b"3e8\r\n"[..], &pattern(1000), b"\r\n"].concat();
    client.send(&chunk);
    // The second chunk goes over it; what the caller still sends does not cost it the answer.
    client.send(&chunk);
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("connection")), (413, Some("close")));
    let _ = client.0.write_all(&pattern(100_000));
    drop(client);
    assert_eq!(stage.host_connections(), 0);
    // Exactly the limit passes, in both framings.
    let mut client = stage.connect();
    client.send(b"POST /a HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 1000\r\n\r\n");
    client.send(&pattern(1000));
    assert_eq!(client.answer().text(), "1000");
    client.send(b"POST /a HTTP/1.1\r\nHost: 169.254.169.254\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(&[&chunk[..], b"0\r\n\r\n"].concat());
    assert_eq!(client.answer().text(), "1000");
}

#[test]
fn the_exempt_upload_is_streamed_unsigned() {
    const SIZE: usize = 20_000_000;
    let stage = Stage::new(measure);
    stage.caller(Some(user(0, Endpoint::HostGa)));
    let mut client = stage.connect();
    client.send(
        format!("PUT /vmAgentLog HTTP/1.1\r\nHost: 168.63.129.16:32526\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes(),
    );
    client.send(&pattern(SIZE));
    assert_eq!(client.answer().text(), SIZE.to_string());
    let seen = stage.seen();
    assert_eq!(field(&seen, "x-ms-azure-host-authorization"), None);
    let row = stage.records(1)[0];
    assert_eq!((row.request_bytes, row.signed, row.reason), (SIZE as u64, 0, Reason::Exempt as u16));
    // The connection goes on.
    client.send(b"GET /versions HTTP/1.1\r\nHost: 168.63.129.16:32526\r\n\r\n");
    assert_eq!(client.answer().text(), "0");
}

#[test]
fn what_follows_a_streamed_body_is_the_next_request() {
    let stage = Stage::new(measure);
    stage.caller(Some(user(0, Endpoint::HostGa)));
    let upload = b"PUT /vmAgentLog HTTP/1.1\r\nHost: 168.63.129.16:32526\r\nContent-Length: 4\r\n\r\nbody";
    let next = b"GET /versions HTTP/1.1\r\nHost: 168.63.129.16:32526\r\n\r\n";
    let mut client = stage.connect();
    client.0.set_nodelay(true).expect("a socket");
    client.send(&[&upload[..], next, upload].concat());
    for length in ["4", "0", "4"] {
        assert_eq!(client.answer().text(), length);
    }
    for byte in [&upload[..], next].concat() {
        client.send(&[byte]);
    }
    assert_eq!((client.answer().text(), client.answer().text()), ("4", "0"));
}

#[test]
fn an_upload_over_100_mib_is_refused() {
    let stage = Stage::new(measure);
    stage.caller(Some(user(0, Endpoint::HostGa)));
    let head =
        |size: u64| format!("PUT /vmAgentLog HTTP/1.1\r\nHost: 168.63.129.16:32526\r\nContent-Length: {size}\r\n\r\n");
    assert_eq!(stage.ask(head((100 << 20) + 1).as_bytes()).status, 413);
}

#[test]
fn one_users_bodies_leave_room_for_anothers() {
    let timeouts =
        Timeouts { room: Duration::from_millis(100), room_poll: Duration::from_millis(5), ..Timeouts::default() };
    let config = RelayConfig { threads: 1, body_limit: 1000, body_budget: 4000, timeouts, ..RelayConfig::default() };
    let stage = Stage::unready(config, measure);
    stage.relay.publish(snapshot("enforce", true));
    let head = b"POST /a HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 1000\r\n\r\n";
    let mut first = stage.connect();
    first.send(head);
    stage.await_counter("requests", 1);
    // The same user has used its share: it waits, and is told to come again.
    let answer = stage.ask(head);
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    // Another user has not.
    stage.caller(Some(user(1001, Endpoint::Imds)));
    let mut other = stage.connect();
    other.send(&[&head[..], &pattern(1000)].concat());
    assert_eq!(other.answer().text(), "1000");
    // Room that is given back is found.
    stage.caller(Some(user(1000, Endpoint::Imds)));
    let mut second = stage.connect();
    second.send(&[&head[..], &pattern(1000)].concat());
    stage.await_counter("held", 2);
    first.send(&pattern(1000));
    assert_eq!(first.answer().text(), "1000");
    assert_eq!(second.answer().text(), "1000");
}

#[test]
fn a_caller_that_leaves_in_its_body_reaches_nobody() {
    let stage = Stage::new(measure);
    for (framing, part) in [("Content-Length: 10", "hello"), ("Transfer-Encoding: chunked", "5\r\nhel")] {
        stage
            .connect()
            .send(format!("POST /a HTTP/1.1\r\nHost: 169.254.169.254\r\n{framing}\r\n\r\n{part}").as_bytes());
    }
    stage.await_counter("left", 2);
    stage.await_counter("open", 0);
    assert_eq!(stage.host_connections(), 0);
}

#[test]
fn a_caller_that_leaves_in_a_streamed_upload_cuts_it_at_the_host() {
    let stage = Stage::new(measure);
    stage.caller(Some(user(0, Endpoint::HostGa)));
    stage.connect().send(b"PUT /vmAgentLog HTTP/1.1\r\nHost: 168.63.129.16:32526\r\nContent-Length: 1000\r\n\r\nhalf");
    stage.await_counter("left", 1);
    stage.await_counter("open", 0);
    assert_eq!(stage.counter("relayed"), 0);
}
