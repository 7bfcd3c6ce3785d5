//! Hosts that fail: refuse, vanish at each point, come back; who is tried again and who is not.

use std::time::Duration;

use super::*;
use crate::audit::Decision;
use crate::error::Reason;

fn quick() -> Timeouts {
    Timeouts { retry: Duration::from_millis(60), retry_pause: Duration::from_millis(10), ..Timeouts::default() }
}

#[test]
fn a_host_that_is_not_there_is_502_and_then_503() {
    let stage = Stage::without_host(quick());
    let answer = stage.ask(GET);
    assert_eq!((answer.status, answer.field("retry-after")), (502, None));
    // Now it is known: no request waits for it again.
    let answer = stage.ask(GET);
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    let rows = stage.records(2);
    assert_eq!(rows[0].reason, Reason::HostUnreachable as u16);
    assert_eq!((rows[1].reason, rows[1].decision), (Reason::HostDown as u16, Decision::Failed as u8));
    assert!(stage.counter("retried") >= 2);
}

#[test]
fn a_post_to_a_host_that_is_not_there_is_not_tried_again() {
    let stage = Stage::without_host(quick());
    assert_eq!(stage.ask(b"POST /a HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 1\r\n\r\na").status, 502);
    assert_eq!(stage.counter("retried"), 0);
}

#[test]
fn a_kept_connection_that_died_is_replaced_at_once() {
    let stage = Stage::new(|mut host| {
        host.request();
        host.answer(OK);
        // It stays open until the next request is there, and then dies without an answer.
        if host.number == 0 {
            host.request();
        } else {
            host.always(OK);
        }
    });
    let mut client = stage.connect();
    for _ in 0..3 {
        client.send(GET);
        assert_eq!(client.answer().text(), "hello");
    }
    assert_eq!((stage.host_connections(), stage.counter("retried")), (2, 1));
    let signatures: Vec<String> = (0..4).map(|_| stage.seen()).collect();
    assert!(signatures.iter().all(|seen| field(seen, "x-ms-azure-host-authorization").is_some()));
}

#[test]
fn a_post_never_meets_a_kept_connection() {
    let stage = Stage::new(|host| host.always(OK));
    let mut client = stage.connect();
    for _ in 0..2 {
        client.send(GET);
        assert_eq!(client.answer().status, 200);
        client.send(b"POST /a HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 1\r\n\r\na");
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(stage.counter("upstreams_opened"), 3);
}

#[test]
fn a_host_that_resets_is_tried_again_until_it_answers() {
    let stage = Stage::new(|mut host| {
        host.request();
        if host.number >= 2 {
            host.answer(OK);
        }
    });
    assert_eq!(stage.ask(GET).text(), "hello");
    assert_eq!(stage.host_connections(), 3);
}

#[test]
fn a_put_with_a_held_body_is_tried_again_whole() {
    let stage = Stage::new(|mut host| {
        host.request();
        if host.number >= 1 {
            host.answer(OK);
        }
    });
    let answer = stage.ask(b"PUT /status HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 5\r\n\r\nwhole");
    assert_eq!(answer.text(), "hello");
    for _ in 0..2 {
        assert!(stage.seen().ends_with("\r\n\r\nwhole"));
    }
}

#[test]
fn nothing_is_sent_twice_after_a_byte_of_the_answer() {
    let stage = Stage::new(|mut host| {
        host.request();
        host.answer(b"H");
    });
    assert_eq!(stage.ask(GET).status, 502);
    assert_eq!(stage.host_connections(), 1);
}

#[test]
fn a_host_that_comes_back_is_served_from_at_once() {
    let stage = Stage::without_host(quick());
    assert_eq!(stage.ask(GET).status, 502);
    assert_eq!(stage.ask(GET).status, 503);
    let host = TcpListener::bind(stage.fake.host).expect("the port is still free");
    let serving = thread::spawn(move || {
        let (mut stream, _) = host.accept().expect("the relay comes");
        read_message(&mut stream).expect("a request");
        io::Write::write_all(&mut stream, OK).expect("the relay reads");
    });
    assert_eq!(stage.ask(GET).text(), "hello");
    serving.join().expect("no panic");
    // A new outage is tried out again before it is believed.
    assert_eq!(stage.ask(GET).status, 502);
}

#[test]
fn a_host_that_does_not_answer_is_504() {
    let timeouts = Timeouts { first_byte: Duration::from_millis(50), ..quick() };
    let stage = Stage::with_timeouts(timeouts, |mut host| {
        host.request();
        // Until the relay closes it.
        let _ = host.stream.read(&mut [0]);
    });
    assert_eq!(stage.ask(GET).status, 504);
    assert_eq!(stage.host_connections(), 1, "a slow host is not asked twice");
}

#[test]
fn a_host_that_stops_within_an_answer_ends_the_connection() {
    let timeouts = Timeouts { next_byte: Duration::from_millis(50), ..quick() };
    let stage = Stage::with_timeouts(timeouts, |mut host| {
        host.request();
        host.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
        let _ = host.stream.read(&mut [0]);
    });
    let mut client = stage.connect();
    client.send(GET);
    assert!(client.rest().ends_with(b"\r\n\r\nhel"));
    let row = stage.records(1)[0];
    assert_eq!((row.status, row.decision, row.response_bytes), (200, Decision::Failed as u8, 3));
}

#[test]
fn an_idle_connection_to_the_host_is_closed_in_time() {
    let (ended, end) = channel();
    let timeouts = Timeouts { idle_upstream: Duration::from_millis(30), ..quick() };
    let stage = Stage::with_timeouts(timeouts, move |mut host| {
        while host.request().is_some() {
            host.answer(OK);
        }
        let _ = ended.send(());
    });
    assert_eq!(stage.ask(GET).status, 200);
    end.recv_timeout(PATIENCE).expect("closed by the relay");
}
