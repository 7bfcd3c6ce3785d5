//! Not ready: requests are held, released by what is published, and given up as late as their kind allows.

use std::time::Duration;

use super::*;
use crate::audit::Decision;
use crate::error::Reason;

fn config() -> RelayConfig {
    let ms = Duration::from_millis;
    let timeouts = Timeouts { hold_probe: ms(20), hold: ms(300), leaving: ms(50), ..Timeouts::default() };
    RelayConfig { threads: 1, timeouts, ..RelayConfig::default() }
}

const PROBE: &[u8] = b"GET /metadata/identity/oauth2/token HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n";

#[test]
fn held_until_the_first_snapshot() {
    let stage = Stage::unready(RelayConfig { threads: 1, ..RelayConfig::default() }, |host| host.always(OK));
    let mut client = stage.connect();
    client.send(GET);
    stage.await_counter("held", 1);
    assert_eq!(stage.host_connections(), 0);
    stage.relay.publish(snapshot("enforce", true));
    assert_eq!(client.answer().text(), "hello");
    assert!(field(&stage.seen(), "x-ms-azure-host-authorization").is_some());
}

#[test]
fn enforce_without_a_key_and_an_unknown_mode_hold() {
    let stage = Stage::unready(RelayConfig { threads: 1, ..RelayConfig::default() }, |host| host.always(OK));
    stage.relay.publish(snapshot("unknown", true));
    let mut client = stage.connect();
    client.send(GET);
    stage.await_counter("held", 1);
    stage.relay.publish(snapshot("enforce", false));
    let mut other = stage.connect();
    other.send(GET);
    stage.await_counter("held", 2);
    assert_eq!(stage.host_connections(), 0);
    stage.relay.publish(snapshot("enforce", true));
    assert_eq!((client.answer().status, other.answer().status), (200, 200));
}

#[test]
fn given_up_with_503_and_retry_after() {
    let stage = Stage::unready(config(), |host| host.always(OK));
    let begin = Instant::now();
    let answer = stage.ask(PROBE);
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert!(begin.elapsed() < Duration::from_millis(250), "a probe is answered soon");
    stage.caller(Some(user(1000, Endpoint::Imds)));
    let begin = Instant::now();
    let answer = stage.ask(GET);
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert!(begin.elapsed() >= Duration::from_millis(295), "the others wait");
    assert_eq!(stage.records(2)[0].reason, Reason::NotReady as u16);
}

#[test]
fn the_hold_counts_from_connect() {
    let stage = Stage::unready(config(), |host| host.always(OK));
    let connect_ns = crate::sys::time::monotonic_ns() - 1_000_000_000;
    stage.caller(Some(Ident { connect_ns, ..user(1000, Endpoint::Imds) }));
    let begin = Instant::now();
    assert_eq!(stage.ask(GET).status, 503);
    assert!(begin.elapsed() < Duration::from_millis(250));
}

#[test]
fn forms_are_refused_at_once_even_when_not_ready() {
    let stage = Stage::unready(config(), |host| host.always(OK));
    for (target, status) in [("/a/../b", 403), ("/a%2fb", 400)] {
        let answer = stage.ask(format!("GET {target} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n").as_bytes());
        assert_eq!(answer.status, status);
    }
    assert_eq!(stage.counter("held"), 0);
}

#[test]
fn audit_without_a_key_goes_on_unsigned_and_is_recorded() {
    let stage = Stage::unready(config(), |host| host.always(OK));
    stage.relay.publish(snapshot("audit", false));
    assert_eq!(stage.ask(GET).status, 200);
    let seen = stage.seen();
    assert_eq!(field(&seen, "x-ms-azure-host-authorization"), None);
    assert_eq!(field(&seen, "x-ms-azure-host-claims"), Some(r#"{ "isRoot": "false"}"#));
    let row = stage.records(1)[0];
    assert_eq!((row.signed, row.decision, row.mode), (0, Decision::Allow as u8, 2));
}

#[test]
fn disabled_goes_on_unsigned_and_unjudged() {
    let stage = Stage::unready(config(), |host| host.always(OK));
    stage.relay.publish(snapshot("disabled", true));
    stage.caller(Some(user(1000, Endpoint::WireServer)));
    let answer = stage.ask(b"GET /a//b HTTP/1.1\r\nHost: 168.63.129.16\r\n\r\n");
    assert_eq!(answer.status, 200);
    assert_eq!(field(&stage.seen(), "x-ms-azure-host-authorization"), None);
    assert_eq!(stage.records(1)[0].reason, Reason::Disabled as u16);
}

#[test]
fn what_is_published_meanwhile_decides() {
    let stage = Stage::unready(RelayConfig { threads: 1, ..RelayConfig::default() }, |host| host.always(OK));
    stage.caller(Some(user(1000, Endpoint::WireServer)));
    let mut client = stage.connect();
    client.send(b"GET /machine HTTP/1.1\r\nHost: 168.63.129.16\r\n\r\n");
    stage.await_counter("held", 1);
    stage.relay.publish(snapshot("enforce", true));
    assert_eq!(client.answer().status, 403);
    assert_eq!(stage.host_connections(), 0);
}

#[test]
fn a_held_caller_that_leaves_is_forgotten() {
    let stage = Stage::unready(config(), |host| host.always(OK));
    stage.connect().send(GET);
    stage.await_counter("left", 1);
    stage.await_counter("open", 0);
    stage.relay.publish(snapshot("enforce", true));
    assert_eq!(stage.ask(GET).status, 200);
    assert_eq!(stage.host_connections(), 1);
}
