//! What one decision costs, in a process of its own: the engine alone, by 10,000 privileges and 1,000 identities and by
//! fewer.
//!
//! `cargo run --release --example decision` prints, for each size, the time that half and 99 of 100 decisions stay below,
//! the time to build the snapshot and what it holds. Reading the clock is part of each figure, and is printed.

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use _native::caller::{Endpoint, INITIAL_USERNS, Ident};
use _native::http::canonical::Canonical;
use _native::http::head::Method;
use _native::policy::{Snapshot, Verdict};
use serde_json::{Value, json};

const DECISIONS: usize = 200_000;
const IN_A_ROLE: usize = 100;

/// Every privilege has a path and a query of its own; each role is for a third of the users.
fn table(privileges: usize, identities: usize) -> Vec<u8> {
    let paths: Vec<Value> = (0..privileges)
        .map(|n| {
            json!({"path": format!("/metadata/service{}/{n}", n % 100),
                "query": [["api-version", (n % 7).to_string()]], "methods": null})
        })
        .collect();
    let users: Vec<Value> = (0..identities)
        .map(|n| json!({"uids": [1000 + n], "group": null, "exes": null, "processName": null, "cgroups": null}))
        .collect();
    let roles: Vec<Value> =
        (0..privileges).step_by(IN_A_ROLE).map(|from| (from..privileges.min(from + IN_A_ROLE)).collect()).collect();
    let assignments: Vec<Value> =
        (0..roles.len()).map(|role| json!([role, (role % 3..identities).step_by(3).collect::<Vec<_>>()])).collect();
    let document = json!({"id": "x", "defaultAllowed": false, "privileges": paths, "groups": [], "identities": users,
        "roles": roles, "assignments": assignments, "known": {"exes": null, "cgroups": null}});
    let none = json!({"mode": "enforce", "broken": false, "rules": null});
    let imds = json!({"mode": "enforce", "broken": false, "rules": document});
    json!({"endpoints": {"imds": imds, "wireserver": none, "hostga": none}}).to_string().into_bytes()
}

/// Resident memory of this process.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4096
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if cfg!(debug_assertions) {
        return Err("a debug build says nothing: add --release".into());
    }
    println!("privileges identities  p50 ns  p99 ns  build ms  MiB");
    for (privileges, identities) in [(10, 10), (1_000, 100), (10_000, 1_000)] {
        let data = table(privileges, identities);
        let (before, start) = (resident(), Instant::now());
        let snapshot = Snapshot::from_table(1, &data, None)?;
        let (built, held) = (start.elapsed(), resident().saturating_sub(before));

        let mut times = Vec::with_capacity(DECISIONS);
        let mut canonical = Canonical::new();
        for n in 0..DECISIONS {
            // Far apart, so that what one leaves in the caches is of little use to the next.
            let (asked, user) = (n * 7919 % privileges, n * 104_729 % identities);
            let (path, query) =
                (format!("/metadata/service{}/{asked}/x", asked % 100), format!("api-version={}", asked % 7));
            canonical.canonicalise(path.as_bytes(), Some(query.as_bytes())).map_err(|_| "a bad path")?;
            let uid = 1000 + u32::try_from(user)?;
            let caller = Ident { uid, euid: uid, userns_inum: INITIAL_USERNS, ..Ident::zeroed() };
            let begin = Instant::now();
            let verdict = snapshot.decide(Endpoint::Imds, black_box(&caller), Method::Get, black_box(&canonical));
            times.push(begin.elapsed());
            let allowed = matches!(verdict, Ok(Verdict::Allow(_)));
            assert_eq!(allowed, user % 3 == asked / IN_A_ROLE % 3, "user {user} asks for {asked}");
        }
        times.sort_unstable();
        let (p50, p99) = (times[DECISIONS / 2].as_nanos(), times[DECISIONS / 100 * 99].as_nanos());
        let mib = held >> 20;
        println!("{privileges:10} {identities:10} {p50:7} {p99:7} {:9.1} {mib:4}", ms(built));
    }
    let mut clock: Vec<Duration> = (0..DECISIONS).map(|_| Instant::now().elapsed()).collect();
    clock.sort_unstable();
    println!(
        "{:21} {:7} {:7}",
        "the clock alone",
        clock[DECISIONS / 2].as_nanos(),
        clock[DECISIONS / 100 * 99].as_nanos()
    );
    Ok(())
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
