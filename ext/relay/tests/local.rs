//! Who connects to the listener itself, and who has no identity.

use std::time::Duration;

use super::*;
use crate::audit::{ENDPOINT_LOCAL, ENDPOINT_NONE};
use crate::relay::LocalPath;

const PROVISION: &[u8] = b"GET /provision HTTP/1.1\r\nHost: 127.0.0.1:3080\r\nMetadata: true\r\nx-ms-azure-time-tick: 42\r\nx-ms-azure-notify: true\r\n\r\n";

#[test]
fn a_question_is_put_and_its_answer_passed_on() {
    let stage = Stage::new(|host| host.always(OK));
    stage.caller(Some(direct(1000)));
    let mut client = stage.connect();
    for _ in 0..2 {
        client.send(PROVISION);
        let question = question(&stage);
        assert_eq!((question.path, question.notify, question.tick), (LocalPath::Provision, true, Some(42)));
        assert_eq!(question.caller.uid, 1000);
        stage.relay.answer(question.token, 200, br#"{"finished": true, "errorMessage": ""}"#);
        let answer = client.answer();
        assert_eq!((answer.status, answer.text()), (200, r#"{"finished": true, "errorMessage": ""}"#));
        assert_eq!(answer.field("content-type"), Some("application/json"));
    }
    assert_eq!(stage.records(2)[0].endpoint, ENDPOINT_LOCAL);
}

fn question(stage: &Stage) -> crate::relay::Question {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(question) = stage.relay.questions().pop() {
            return question;
        }
        assert!(Instant::now() < until, "no question");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_question_that_nobody_answers_is_503() {
    let timeouts = Timeouts { question: Duration::from_millis(30), ..Timeouts::default() };
    let stage = Stage::with_timeouts(timeouts, |host| host.always(OK));
    stage.caller(Some(direct(1000)));
    assert_eq!(stage.ask(PROVISION).status, 503);
    // An answer that comes too late finds nobody.
    stage.relay.answer(question(&stage).token, 200, b"{}");
    stage.await_counter("open", 0);
}

#[test]
fn only_root_sees_the_status_and_only_with_metadata() {
    let stage = Stage::new(|host| host.always(OK));
    stage.caller(Some(direct(1000)));
    let status = b"GET /gpa-aggregated-status HTTP/1.1\r\nHost: 127.0.0.1:3080\r\nMetadata: true\r\n\r\n";
    assert_eq!(stage.ask(status).status, 403);
    assert_eq!(stage.ask(b"GET /provision HTTP/1.1\r\nHost: 127.0.0.1:3080\r\n\r\n").status, 400);
    stage.caller(Some(direct(0)));
    let mut client = stage.connect();
    client.send(status);
    assert_eq!(question(&stage).path, LocalPath::AggregatedStatus);
}

#[test]
fn everything_else_on_a_direct_connection_is_misdirected() {
    let stage = Stage::new(|host| host.always(OK));
    stage.caller(Some(direct(0)));
    for request in [
        GET,
        b"POST /provision HTTP/1.1\r\nHost: a\r\nMetadata: true\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /a//b HTTP/1.1\r\n\r\n",
    ] {
        let answer = stage.ask(request);
        assert_eq!(answer.status, 421, "{}", String::from_utf8_lossy(request));
        assert_eq!(answer.field("connection"), Some("close"));
    }
    assert_eq!(stage.records(4)[0].endpoint, ENDPOINT_NONE);
    assert_eq!(stage.host_connections(), 0);
}

#[test]
fn without_an_identity_nothing_is_served() {
    let stage = Stage::new(|host| host.always(OK));
    stage.caller(None);
    assert_eq!(stage.ask(GET).status, 421);
    assert_eq!(stage.ask(b"G").status, 421);
    // What nobody wrote says nothing that we can believe.
    stage.caller(Some(Ident { abi: 0, ..user(0, Endpoint::Imds) }));
    let answer = stage.ask(GET);
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    // An address that no endpoint has.
    stage.caller(Some(Ident { dst_port: 81, ..user(0, Endpoint::Imds) }));
    assert_eq!(stage.ask(GET).status, 421);
    assert_eq!(stage.host_connections(), 0);
}

#[test]
fn the_bell_rings_once_for_who_armed_it() {
    let stage = Stage::new(|host| host.always(OK));
    let rung = || {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&stage.relay.wake_fd());
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("open");
        !text.lines().any(|line| line.starts_with("eventfd-count:") && line.ends_with(" 0"))
    };
    assert_eq!(stage.ask(GET).status, 200);
    assert!(!rung(), "nobody has armed it");
    stage.records(1);
    stage.relay.arm();
    assert!(!rung());
    assert_eq!(stage.ask(GET).status, 200);
    let until = Instant::now() + PATIENCE;
    while !rung() {
        assert!(Instant::now() < until, "it does not ring");
        thread::sleep(Duration::from_millis(1));
    }
    // What is there already rings at once.
    stage.relay.arm();
    assert!(rung());
}
