//! Callers that the control plane has not met: held for a look at them, bounded in time and number.

use std::time::Duration;

use super::*;
use crate::error::Reason;

/// Who is in cgroup 7 may ask for everything; the control plane has met the cgroups in `known`.
fn rules(mode: &str, known: &[u64]) -> Arc<Snapshot> {
    let none = r#"{"mode": "disabled", "broken": false, "rules": null}"#;
    let meant: Vec<u64> = known.iter().copied().filter(|id| *id == 7).collect();
    let rules = format!(
        r#"{{"id": "x", "defaultAllowed": false, "privileges": [{{"path": "/", "query": [], "methods": null}}],
        "groups": [], "roles": [[0]], "assignments": [[0, [0]]], "known": {{"exes": null, "cgroups": {known:?}}},
        "identities": [{{"uids": null, "group": null, "exes": null, "processName": null, "cgroups": {meant:?}}}]}}"#
    );
    let imds = format!(r#"{{"mode": "{mode}", "broken": false, "rules": {rules}}}"#);
    let table = format!(r#"{{"endpoints": {{"imds": {imds}, "wireserver": {none}, "hostga": {none}}}}}"#);
    let key = Some(Arc::new(SigningKey::new(GUID, None, KEY).expect("a good key")));
    Arc::new(Snapshot::from_table(7, table.as_bytes(), key).expect("a good table"))
}

fn of(cgroup_id: u64) -> Ident {
    Ident { cgroup_id, ..user(1000, Endpoint::Imds) }
}

fn stage(look: u64) -> Stage {
    let timeouts = Timeouts { look: Duration::from_millis(look), ..Timeouts::default() };
    let stage = Stage::unready(RelayConfig { threads: 1, timeouts, ..RelayConfig::default() }, |host| host.always(OK));
    stage.relay.publish(rules("enforce", &[]));
    stage
}

#[test]
fn a_stranger_waits_for_the_snapshot_that_knows_it() {
    for (cgroup, status) in [(7, 200), (8, 403)] {
        // Snapshots that know others do not decide.
        let stage = stage(60_000);
        stage.caller(Some(of(cgroup)));
        let mut client = stage.connect();
        client.send(GET);
        stage.await_counter("held", 1);
        assert_eq!(stage.relay.strangers().iter().map(|s| s.cgroup_id).collect::<Vec<_>>(), [cgroup]);
        stage.relay.publish(rules("enforce", &[5]));
        stage.relay.publish(rules("enforce", &[5, cgroup]));
        assert_eq!(client.answer().status, status);
        assert_eq!(stage.counter("held"), 1);
        assert!(stage.relay.strangers().is_empty(), "asked once");
    }
}

#[test]
fn without_a_look_it_is_judged_by_what_is_known_and_not_before() {
    let stage = stage(200);
    stage.caller(Some(of(8)));
    let begin = Instant::now();
    assert_eq!(stage.ask(GET).status, 403);
    assert!(begin.elapsed() >= Duration::from_millis(195));
    assert_eq!(stage.records(1)[0].reason, Reason::NoIdentityMatched as u16);
}

#[test]
fn audit_mode_waits_as_well_and_lets_through() {
    let stage = stage(50);
    stage.relay.publish(rules("audit", &[]));
    stage.caller(Some(of(8)));
    assert_eq!(stage.ask(GET).status, 200);
    assert_eq!((stage.counter("held"), stage.relay.strangers().len()), (1, 1));
    assert_eq!(stage.records(1)[0].reason, Reason::NoIdentityMatched as u16);
}

#[test]
fn who_is_known_is_refused_at_once() {
    let stage = stage(60_000);
    stage.relay.publish(rules("enforce", &[8]));
    stage.caller(Some(of(8)));
    assert_eq!(stage.ask(GET).status, 403);
    assert_eq!(stage.counter("held"), 0);
}

#[test]
fn a_crowd_of_one_user_is_refused_at_once_beyond_its_share() {
    let stage = stage(60_000);
    let mut held = Vec::new();
    for cgroup in 100..116 {
        stage.caller(Some(of(cgroup)));
        held.push(stage.connect());
        held.last_mut().expect("just made").send(GET);
        stage.await_counter("held", cgroup - 99);
    }
    stage.caller(Some(of(200)));
    assert_eq!(stage.ask(GET).status, 403);
}

#[test]
fn a_caller_that_sends_no_more_is_still_answered() {
    let stage = stage(100);
    stage.caller(Some(of(8)));
    let mut client = stage.connect();
    client.send(GET);
    client.0.shutdown(std::net::Shutdown::Write).expect("its own side can be closed");
    assert_eq!(client.answer().status, 403);
}
