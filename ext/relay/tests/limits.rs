//! Deadlines, descriptors, draining: what the relay does when it must not go on as it would.

use std::time::Duration;

use super::*;

#[test]
fn half_a_request_line_and_silence_is_408() {
    let timeouts = Timeouts { head: Duration::from_millis(30), ..Timeouts::default() };
    let stage = Stage::with_timeouts(timeouts, |host| host.always(OK));
    let mut client = stage.connect();
    client.send(b"GET /meta");
    assert_eq!(client.answer().status, 408);
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_slow_head_has_one_deadline_for_all_of_it() {
    let timeouts = Timeouts { head: Duration::from_millis(60), ..Timeouts::default() };
    let stage = Stage::with_timeouts(timeouts, |host| host.always(OK));
    let mut client = stage.connect();
    let mut writer = client.0.try_clone().expect("a socket");
    let slow = thread::spawn(move || {
        use std::io::Write;
        for byte in GET {
            if writer.write_all(&[*byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    });
    assert_eq!(client.answer().status, 408);
    drop(client);
    slow.join().expect("no panic");
}

#[test]
fn an_idle_caller_is_closed_in_silence() {
    let timeouts = Timeouts { idle: Duration::from_millis(30), ..Timeouts::default() };
    let stage = Stage::with_timeouts(timeouts, |host| host.always(OK));
    assert_eq!(stage.connect().rest(), b"");
    let mut client = stage.connect();
    client.send(GET);
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.rest(), b"");
    assert_eq!(stage.counter("left"), 0);
}

#[test]
fn a_body_without_progress_is_408() {
    let timeouts = Timeouts { body: Duration::from_millis(30), ..Timeouts::default() };
    let stage = Stage::with_timeouts(timeouts, |host| host.always(OK));
    assert_eq!(stage.ask(b"POST /a HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 9\r\n\r\nhalf").status, 408);
    let mut client = stage.connect();
    client.send(b"POST /a HTTP/1.1\r\nHost: 169.254.169.254\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nha");
    assert_eq!(client.answer().status, 408);
    assert_eq!(stage.host_connections(), 0);
}

#[test]
fn a_caller_that_does_not_read_is_closed() {
    let timeouts = Timeouts { reader: Duration::from_millis(50), ..Timeouts::default() };
    let stage = Stage::with_timeouts(timeouts, |mut host| {
        host.request();
        host.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        let part = vec![b'x'; 1_000_000];
        for _ in 0..100 {
            host.answer(&part);
        }
    });
    let mut client = stage.connect();
    client.send(GET);
    stage.await_counter("left", 1);
    stage.await_counter("open", 0);
    assert!(client.rest().len() < 100_000_000);
}

#[test]
fn draining_lets_requests_end_and_closes_the_rest() {
    let (go, gone) = channel::<()>();
    let gone = Mutex::new(gone);
    let stage = Stage::new(move |mut host| {
        host.request();
        let _ = gone.lock().expect("one connection").recv_timeout(PATIENCE);
        host.answer(OK);
    });
    let mut idle = stage.connect();
    let mut busy = stage.connect();
    busy.send(GET);
    stage.seen();
    stage.await_counter("open", 2);
    assert!(!stage.relay.drain(Duration::from_millis(20), false), "one request is under way");
    assert_eq!(idle.rest(), b"");
    go.send(()).expect("the host waits");
    let answer = busy.answer();
    assert_eq!((answer.text(), answer.field("connection")), ("hello", Some("close")));
    assert!(stage.relay.drain(PATIENCE, false));
}

#[test]
fn draining_serves_who_has_just_connected_and_closes_who_was_served() {
    let stage = Stage::new(|host| host.always(OK));
    let mut kept = stage.connect();
    kept.send(GET);
    assert_eq!(kept.answer().text(), "hello");
    let mut newcomer = stage.connect();
    stage.await_counter("accepted", 2);
    assert!(!stage.relay.drain(Duration::ZERO, false));
    assert_eq!(kept.rest(), b"");
    newcomer.send(GET);
    let answer = newcomer.answer();
    assert_eq!((answer.text(), answer.field("connection")), ("hello", Some("close")));
    assert!(stage.relay.drain(PATIENCE, false));
}

#[test]
fn draining_leaves_the_queue_to_the_next() {
    let stage = Stage::new(|host| host.always(OK));
    assert!(stage.relay.drain(PATIENCE, false));
    let mut waiting = stage.connect();
    waiting.send(GET);
    assert!(stage.relay.drain(Duration::ZERO, false));
    assert_eq!(stage.counter("accepted"), 0);
    let other = Stage::new(|host| host.always(OK));
    other.relay.listen(stage.listener()).expect("a listening socket");
    assert_eq!(waiting.answer().text(), "hello");
}

#[test]
fn stopping_closes_everything() {
    let stage = Stage::new(|host| host.always(OK));
    let mut client = stage.connect();
    stage.await_counter("open", 1);
    stage.relay.stop();
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_handler_that_panics_costs_its_connection_alone() {
    let stage = Stage::new(|host| host.always(OK));
    let mut other = stage.connect();
    stage.await_counter("accepted", 1);
    stage.plant_a_bug();
    let mut client = stage.connect();
    client.send(GET);
    assert_eq!(client.rest(), b"");
    other.send(GET);
    assert_eq!(other.answer().text(), "hello");
    assert_eq!(stage.counter("panics"), 1);
    drop(other);
    stage.await_counter("open", 0);
}
