//! Rules and keys that change a hundred times a second under load: each request belongs to one epoch, and says to
//! which.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::threads::overworked;
use super::{Client, KEY, OK, PATIENCE, Stage, field};
use crate::audit::{AuditRow, Decision};
use crate::error::Reason;
use crate::policy::Snapshot;
use crate::sign::SigningKey;
use crate::sys::plain;

/// So many at a hundred a second, then the others at some thousands a second: what is torn only in a moment shows, too.
const SLOW: u64 = 100;
const SWAPS: u64 = 3_000;
const CLIENTS: usize = 4;
/// Epochs differ in all they can: whether the caller is let in, at which place of the list, and with which key.
const SHAPES: u64 = 7;

fn lets_in(epoch: u64) -> bool {
    epoch.is_multiple_of(2)
}

fn place(epoch: u64) -> usize {
    usize::try_from(epoch % SHAPES).expect("small")
}

fn guid(epoch: u64) -> String {
    format!("9cf81e97-0316-4ad3-94a7-{epoch:012x}")
}

fn privilege(path: &str) -> Value {
    json!({"path": path, "query": [], "methods": null})
}

fn snapshot(epoch: u64) -> Arc<Snapshot> {
    let uid = if lets_in(epoch) { 1000 } else { 1 };
    let mut privileges: Vec<Value> = (0..SHAPES).map(|n| privilege(&format!("/other/{n}"))).collect();
    privileges[place(epoch)] = privilege("/asked");
    let rules = json!({"id": "x", "defaultAllowed": false, "privileges": privileges, "groups": [],
        "identities": [{"uids": [uid], "group": null, "exes": null, "processName": null, "cgroups": null}],
        "roles": [[place(epoch)]], "assignments": [[0, [0]]], "known": {"exes": null, "cgroups": null}});
    let none = json!({"mode": "enforce", "broken": false, "rules": null});
    let imds = json!({"mode": "enforce", "broken": false, "rules": rules});
    let table = json!({"endpoints": {"imds": imds, "wireserver": none, "hostga": none}}).to_string();
    let key = SigningKey::new(&guid(epoch), None, KEY).expect("a good key");
    Arc::new(Snapshot::from_table(epoch, table.as_bytes(), Some(Arc::new(key))).expect("a good table"))
}

#[test]
fn each_request_is_judged_signed_and_recorded_by_one_epoch() {
    let stage = Stage::unready(overworked(2, 0), |host| host.always(OK));
    stage.relay.publish(snapshot(1));

    let over = AtomicBool::new(false);
    let mut rows: Vec<u8> = Vec::new();
    let statuses = thread::scope(|scope| {
        let (address, over) = (stage.address, &over);
        let askers: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || ask(address, number, over))).collect();
        for epoch in 2..=SWAPS {
            let next = snapshot(epoch);
            thread::sleep(if epoch < SLOW { Duration::from_millis(10) } else { Duration::from_micros(20) });
            stage.relay.publish(next);
            stage.relay.take_records(&mut rows, usize::MAX);
        }
        over.store(true, Ordering::SeqCst);
        let told: HashMap<String, u16> = askers.into_iter().flat_map(|asker| asker.join().expect("it ends")).collect();
        told
    });
    let until = Instant::now() + PATIENCE;
    while rows.len() < statuses.len() * size_of::<AuditRow>() {
        assert!(Instant::now() < until, "only {} of {} records", rows.len() / size_of::<AuditRow>(), statuses.len());
        stage.relay.take_records(&mut rows, usize::MAX);
        thread::sleep(Duration::from_millis(1));
    }
    let signed: HashMap<String, String> = stage.requests.try_iter().map(|request| signed_by(&request)).collect();

    let rows: Vec<AuditRow> =
        rows.chunks(size_of::<AuditRow>()).map(|row| plain::from_bytes(row).expect("a whole row")).collect();
    assert_eq!(rows.len(), statuses.len(), "one record a request");
    let mut epochs: Vec<u64> = rows.iter().map(|row| row.epoch).collect();
    for row in &rows {
        let target = String::from_utf8_lossy(&row.target[..usize::from(row.target_len)]).into_owned();
        let (decision, reason, status) = if lets_in(row.epoch) {
            (Decision::Allow, Reason::RuleMatched, 200)
        } else {
            (Decision::Deny, Reason::NoIdentityMatched, 403)
        };
        assert!((1..=SWAPS).contains(&row.epoch), "{target}: epoch {}", row.epoch);
        assert_eq!((row.decision, row.reason, row.status), (decision as u8, reason as u16, status), "{target}");
        assert_eq!(usize::from(row.privilege), place(row.epoch), "{target} in epoch {}", row.epoch);
        assert_eq!(statuses.get(&target), Some(&status), "{target}");
        let key = signed.get(&target);
        assert_eq!(key, lets_in(row.epoch).then(|| guid(row.epoch)).as_ref(), "{target} in epoch {}", row.epoch);
    }
    epochs.sort_unstable();
    epochs.dedup();
    assert!(epochs.len() > 20, "only {} epochs were met", epochs.len());
}

/// Asks without end, each time for something else; what was answered.
fn ask(address: SocketAddr, number: usize, over: &AtomicBool) -> Vec<(String, u16)> {
    let mut told = Vec::new();
    let mut client = connect(address);
    while !over.load(Ordering::SeqCst) {
        let target = format!("/asked/{number}/{}", told.len());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: 169.254.169.254\r\nMetadata: true\r\n\r\n").as_bytes());
        let status = client.answer().status;
        if status != 200 {
            client = connect(address);
        }
        told.push((target, status));
    }
    told
}

fn connect(address: SocketAddr) -> Client {
    let stream = TcpStream::connect(address).expect("the relay listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    Client(stream)
}

/// Target of a request that reached the host, and the key that signed it.
fn signed_by(request: &[u8]) -> (String, String) {
    let head = String::from_utf8_lossy(request);
    let authorization = field(&head, "x-ms-azure-host-authorization").expect("a signature");
    let word = |text: &str| text.split(' ').nth(1).expect("a second word").to_owned();
    (word(head.lines().next().expect("a line")), word(authorization))
}
