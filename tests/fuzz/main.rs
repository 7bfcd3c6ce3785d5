//! The fuzzers' laws under `cargo test`, without a fuzzer: every seed, and what becomes of seeds that are changed a
//! little.
//!
//! `make fuzz` runs the same laws under libFuzzer where a nightly toolchain is. What it finds becomes a seed.

mod laws;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

/// Content of the files in the folder of a target, ordered by name.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder can be listed").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).collect()
}

#[test]
fn every_seed_keeps_the_laws() {
    for (target, _) in laws::TARGETS {
        let seeds = seeds(target);
        assert!(seeds.len() >= 5, "{target} has {} seeds", seeds.len());
        for seed in &seeds {
            laws::check(target, seed);
        }
    }
}

#[test]
fn every_message_of_the_corpus_keeps_the_laws() {
    for file in ["accepted", "clients", "refused"] {
        for case in corpus(&format!("tests/vectors/http/{file}.json"))["cases"].as_array().into_iter().flatten() {
            // Each character is one byte there.
            let text = case["request"].as_str().expect("each case has a request");
            let message = text.chars().map(|byte| u8::try_from(u32::from(byte)).expect("one byte a character"));
            let cut = u8::try_from(text.len() % 100).expect("small");
            laws::check("request", &[cut].into_iter().chain(message).collect::<Vec<u8>>());
        }
    }
}

#[test]
fn the_compiled_tables_of_the_corpus_are_taken_and_keep_the_laws() {
    let mut tables = 0;
    for file in ["grants", "identities", "local", "modes", "paths", "queries"] {
        for set in corpus(&format!("tests/vectors/rules/{file}.json"))["sets"].as_array().into_iter().flatten() {
            laws::check("table", set["compiled"]["table"].to_string().as_bytes());
            tables += 1;
        }
    }
    assert!(tables >= 20, "{tables}");
}

fn corpus(file: &str) -> serde_json::Value {
    let text = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("the corpus is there");
    serde_json::from_slice(&text).expect("the corpus is JSON")
}

/// One change, as a fuzzer makes them.
#[derive(Clone, Debug)]
enum Change {
    Put(Index, Vec<u8>),
    Replace(Index, u8),
    Cut(Index, u8),
    Double(Index, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let piece = prop_oneof![
        proptest::sample::select(
            &["%2e", "%2F", "%25", "..", "//", ";", "\\", "%u002e", "%00", "%c0%ae", "%ef%bc%8e"][..]
        )
        .prop_map(|piece| piece.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 1..3),
    ];
    prop_oneof![
        (any::<Index>(), piece).prop_map(|(at, piece)| Change::Put(at, piece)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        (any::<Index>(), 1..9_u8).prop_map(|(at, len)| Change::Cut(at, len)),
        (any::<Index>(), 1..40_u8).prop_map(|(at, len)| Change::Double(at, len)),
    ]
}

fn changed(mut data: Vec<u8>, changes: Vec<Change>) -> Vec<u8> {
    for change in changes {
        let end = data.len();
        let part = |at: Index, len: u8| {
            let at = at.index(end + 1);
            at..end.min(at + usize::from(len))
        };
        match change {
            Change::Put(at, piece) => {
                let at = at.index(end + 1);
                data.splice(at..at, piece);
            }
            Change::Replace(at, byte) if end > 0 => data[at.index(end)] = byte,
            Change::Replace(..) => {}
            Change::Cut(at, len) => drop(data.drain(part(at, len))),
            Change::Double(at, len) => {
                let part = part(at, len);
                let piece = data[part.clone()].to_vec();
                data.splice(part.end..part.end, piece);
            }
        }
    }
    data
}

#[test]
fn changed_seeds_keep_the_laws() {
    // What is found becomes a seed by hand, under a name that says what it is.
    let config = ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() };
    for (target, law) in laws::TARGETS {
        let seed = proptest::sample::select(seeds(target));
        let data = (seed, proptest::collection::vec(change(), 0..5)).prop_map(|(seed, changes)| changed(seed, changes));
        proptest!(config.clone(), |(data in data)| law(&data));
    }
}
