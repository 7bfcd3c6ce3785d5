//! Requests on their way: kept connections, versions, pipelining, half-close, and callers who leave.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use super::*;
use crate::audit::Decision;
use crate::error::Reason;

#[test]
fn a_request_is_signed_and_its_answer_marked() {
    let stage = Stage::new(|host| host.always(OK));
    let answer = stage.ask(GET);
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(answer.field("x-ms-azure-host-authorization"), Some("value"));
    let seen = stage.seen();
    assert!(seen.starts_with("GET /metadata/instance HTTP/1.1\r\n"), "{seen}");
    assert_eq!(field(&seen, "x-ms-azure-host-claims"), Some(r#"{ "isRoot": "false"}"#));
    let signature = field(&seen, "x-ms-azure-host-authorization").expect("signed");
    assert!(signature.starts_with(&format!("Azure-HMAC-SHA256 {GUID} ")), "{signature}");
    let date = field(&seen, "x-ms-azure-host-date").expect("dated");
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
}

#[test]
fn the_date_is_the_hosts() {
    let stage = Stage::new(|host| host.always(OK));
    stage.relay.set_clock(784_111_777_500_000_000, crate::sys::time::boottime_ns());
    assert_eq!(stage.ask(GET).status, 200);
    let seen = stage.seen();
    let date = field(&seen, "x-ms-azure-host-date").expect("dated");
    assert!(date.starts_with("Sun, 06 Nov 1994 08:49:3"), "{date}");
}

#[test]
fn a_kept_connection_uses_one_connection_to_the_host() {
    let stage = Stage::new(|host| host.always(OK));
    let mut client = stage.connect();
    for _ in 0..20 {
        client.send(GET);
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(stage.host_connections(), 1);
    assert_eq!(stage.counter("upstreams_reused"), 19);
    let ids: Vec<u64> = stage.records(20).iter().map(|row| row.decision_id).collect();
    assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn connections_to_the_host_are_shared_by_one_identity_only() {
    let stage = Stage::new(|host| host.always(OK));
    for uid in [1000, 1001, 1000, 1001] {
        stage.caller(Some(user(uid, Endpoint::Imds)));
        assert_eq!(stage.ask(GET).status, 200);
    }
    assert_eq!(stage.host_connections(), 2);
    // Another effective uid is another identity.
    stage.caller(Some(Ident { euid: 0, ..user(1000, Endpoint::Imds) }));
    assert_eq!(stage.ask(GET).status, 200);
    assert_eq!(stage.host_connections(), 3);
}

#[test]
fn a_1_0_caller_is_answered_and_closed() {
    let stage = Stage::new(|host| host.always(OK));
    let mut client = stage.connect();
    client.send(b"GET /metadata/instance HTTP/1.0\r\nHost: 169.254.169.254\r\nMetadata: true\r\n\r\n");
    assert_eq!(client.answer().text(), "hello");
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_1_0_caller_may_keep_its_connection() {
    let stage = Stage::new(|host| host.always(OK));
    let mut client = stage.connect();
    for _ in 0..2 {
        client.send(b"GET /metadata/instance HTTP/1.0\r\nHost: 169.254.169.254\r\nConnection: Keep-Alive\r\n\r\n");
        let answer = client.answer();
        assert_eq!(answer.text(), "hello");
        assert!(answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("keep-alive")));
    }
}

#[test]
fn connection_close_ends_the_connection() {
    let stage = Stage::new(|host| host.always(OK));
    let mut client = stage.connect();
    client.send(b"GET /metadata/instance HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(client.rest(), b"");
    assert_eq!(stage.counter("upstreams_opened"), 1);
    assert_eq!(stage.ask(GET).status, 200);
    assert_eq!(stage.host_connections(), 1, "the host's connection was kept all the same");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let stage = Stage::new(|mut host| {
        while let Some(request) = host.request() {
            let target = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap_or_default().to_owned();
            host.answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()).as_bytes());
        }
    });
    let mut client = stage.connect();
    let mut all = Vec::new();
    for n in 0..10 {
        all.extend(format!("GET /metadata/{n} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n").into_bytes());
    }
    client.send(&all);
    for n in 0..10 {
        assert_eq!(client.answer().text(), format!("/metadata/{n}"));
    }
    assert_eq!(stage.host_connections(), 1);
}

#[test]
fn a_head_that_comes_byte_by_byte_is_read() {
    let stage = Stage::new(|host| host.always(OK));
    let mut client = stage.connect();
    client.0.set_nodelay(true).expect("a socket");
    for byte in GET {
        client.send(&[*byte]);
    }
    assert_eq!(client.answer().text(), "hello");
}

#[test]
fn a_caller_that_closes_its_sending_side_is_answered() {
    let stage = Stage::new(|host| host.always(OK));
    let mut client = stage.connect();
    client.send(GET);
    client.0.shutdown(Shutdown::Write).expect("connected");
    assert_eq!(client.answer().text(), "hello");
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_connection_without_a_byte_costs_nothing() {
    let stage = Stage::new(|host| host.always(OK));
    drop(stage.connect());
    stage.await_counter("accepted", 1);
    stage.await_counter("open", 0);
    assert_eq!((stage.host_connections(), stage.counter("requests"), stage.counter("left")), (0, 0, 0));
    assert_eq!(stage.relay.take_records(&mut Vec::new(), 10), 0);
}

#[test]
fn half_a_head_and_gone_reaches_nobody() {
    let stage = Stage::new(|host| host.always(OK));
    for length in 1..GET.len() {
        stage.connect().send(&GET[..length]);
    }
    stage.await_counter("accepted", GET.len() as u64 - 1);
    stage.await_counter("open", 0);
    assert_eq!((stage.host_connections(), stage.counter("requests")), (0, 0));
}

#[test]
fn when_the_caller_leaves_the_request_is_dropped_at_the_host() {
    let timeouts = Timeouts { leaving: Duration::from_millis(50), ..Timeouts::default() };
    let (ended, end) = channel();
    let stage = Stage::with_timeouts(timeouts, move |mut host| {
        host.request();
        // No answer: the next thing the host sees is the end of the stream.
        let _ = ended.send(host.stream.read(&mut [0]).expect("a stream"));
    });
    let mut client = stage.connect();
    client.send(GET);
    stage.seen();
    drop(client);
    assert_eq!(end.recv_timeout(PATIENCE), Ok(0));
    let row = stage.records(1)[0];
    assert_eq!((row.status, row.decision), (0, Decision::Failed as u8));
    assert_eq!(stage.counter("left"), 1);
}

#[test]
fn refused_for_its_form_before_anything_is_sent() {
    let stage = Stage::new(|host| host.always(OK));
    for (request, status) in [
        (&b"GET /metadata/../machine HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n"[..], 403),
        (b"GET /metadata%2finstance HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", 400),
        (b"GET /metadata HTTP/1.1\nHost: 169.254.169.254\n\n", 400),
        (b"TRACE / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ] {
        let mut client = stage.connect();
        client.send(request);
        let answer = client.answer();
        assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(request));
        assert_eq!(answer.field("connection"), Some("close"));
        assert_eq!(answer.field("content-type"), Some("application/json"));
        assert_eq!(client.rest(), b"");
    }
    assert_eq!(stage.host_connections(), 0);
    assert_eq!(stage.records(5)[0].reason, Reason::PathTraversal as u16);
}

#[test]
fn what_follows_a_refused_request_is_never_read_as_one() {
    let stage = Stage::new(|host| host.always(OK));
    let mut client = stage.connect();
    let mut both = b"GET /a;b HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n".to_vec();
    both.extend_from_slice(GET);
    client.send(&both);
    assert_eq!(client.answer().status, 400);
    assert_eq!(client.rest(), b"");
    assert_eq!(stage.host_connections(), 0);
}

#[test]
fn a_user_who_asks_wireserver_is_refused_with_a_reason() {
    let stage = Stage::new(|host| host.always(OK));
    stage.caller(Some(user(1000, Endpoint::WireServer)));
    let answer = stage.ask(b"GET /machine?comp=goalstate HTTP/1.1\r\nHost: 168.63.129.16\r\n\r\n");
    assert_eq!(answer.status, 403);
    let row = stage.records(1)[0];
    assert_eq!((row.decision, row.reason), (Decision::Deny as u8, Reason::NotRoot as u16));
    assert_eq!((row.endpoint, row.epoch, row.status, row.caller.uid), (1, 7, 403, 1000));
    assert!(answer.text().contains(&format!("\"decisionId\": \"d-{}\"", row.decision_id)), "{}", answer.text());
    assert_eq!(&row.target[..usize::from(row.target_len)], b"/machine?comp=goalstate");
    assert!(row.method.starts_with(b"GET\0"));
}

#[test]
fn an_answer_to_many_connections_at_once() {
    let stage = Stage::new(|host| host.always(OK));
    let mut clients: Vec<Client> = (0..200).map(|_| stage.connect()).collect();
    for client in &mut clients {
        client.0.write_all(GET).expect("the relay reads");
    }
    for client in &mut clients {
        assert_eq!(client.answer().text(), "hello");
    }
    drop(clients);
    stage.await_counter("open", 0);
}
