//! Several threads: as many as are needed take connections.

use std::time::{Duration, Instant};

use super::*;

/// Threads for which any load is too much.
pub(super) fn overworked(threads: usize, calm: u64) -> RelayConfig {
    let (look, leave) = (Duration::ZERO, Duration::ZERO);
    RelayConfig { threads, relief: Relief { look, full: 0, calm, leave }, ..RelayConfig::default() }
}

fn ready(config: RelayConfig) -> Stage {
    let stage = Stage::unready(config, |host| host.always(OK));
    stage.relay.publish(snapshot("enforce", true));
    stage
}

/// The threads that served so many callers who came at once, by the low bits of their decisions' ids.
fn threads_of(stage: &Stage, callers: usize) -> Vec<u64> {
    let mut clients: Vec<_> = (0..callers).map(|_| stage.connect()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    for client in &mut clients {
        assert_eq!(client.answer().text(), "hello");
    }
    let mut ids: Vec<u64> = stage.records(callers).iter().map(|row| row.decision_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), callers, "ids are unique");
    ids.iter().map(|id| id & 0xF).collect()
}

#[test]
fn one_thread_is_enough_for_few_callers() {
    let stage = ready(RelayConfig { threads: 4, ..RelayConfig::default() });
    assert_eq!(threads_of(&stage, 50), [0; 50]);
}

#[test]
fn threads_that_cannot_do_more_share_the_callers() {
    let stage = ready(overworked(4, 0));
    let until = Instant::now() + PATIENCE;
    let mut seen = [false; 4];
    while !seen.iter().all(|seen| *seen) {
        assert!(Instant::now() < until, "only these took connections: {seen:?}");
        for thread in threads_of(&stage, 20) {
            seen[usize::try_from(thread).expect("four bits")] = true;
        }
    }
}

#[test]
fn who_relieved_leaves_when_it_is_calm_and_comes_again() {
    // It is always calm, so it leaves with the first event that it sees; and it is asked again with each of the other's.
    let stage = ready(overworked(2, u64::MAX));
    for _ in 0..20 {
        threads_of(&stage, 20);
    }
}

#[test]
fn those_off_duty_drain_as_well() {
    let stage = ready(RelayConfig { threads: 4, ..RelayConfig::default() });
    threads_of(&stage, 10);
    assert!(stage.relay.drain(PATIENCE, true), "callers are left");
}
