//! `tests/vectors/rules/*.json`: the cases that pytest reads, too. What they look like stands in
//! `tests/rules/corpus.py`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Snapshot, Verdict};
use crate::caller::{Endpoint, FLAG_EXE_KNOWN, FLAG_EXE_NAME, INITIAL_USERNS, Ident};
use crate::error::Refusal;
use crate::http::canonical::Canonical;
use crate::http::head::Method;

#[test]
fn every_case_of_the_corpus_comes_out_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/rules");
    let mut cases = 0;
    for entry in fs::read_dir(folder).expect("the corpus is there") {
        let text = fs::read(entry.expect("a folder can be listed").path()).expect("a file can be read");
        let document: Value = serde_json::from_slice(&text).expect("the corpus is JSON");
        for set in list(&document["sets"]) {
            cases += check_set(set, &document["callers"]);
        }
    }
    assert!(cases >= 100, "{cases}");
}

fn check_set(set: &Value, callers: &Value) -> usize {
    let table = serde_json::to_vec(&set["compiled"]["table"]).expect("JSON again");
    let snapshot = Snapshot::from_table(1, &table, None).expect("the compiler's tables can be read");
    let endpoint = Endpoint::ALL.into_iter().find(|e| set["endpoint"] == e.name()).expect("a known endpoint");
    let names = &set["compiled"]["names"];
    let mut canonical = Canonical::new();
    for case in list(&set["cases"]) {
        let caller = ident(&callers[text(&case["caller"])]);
        let (method, target) = request(text(&case["request"]));
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.as_bytes())),
            None => (target, None),
        };
        let outcome = match canonical.canonicalise(path.as_bytes(), query) {
            Ok(()) => snapshot.decide(endpoint, &caller, method, &canonical),
            Err(refusal) => Err(refusal),
        };
        assert_eq!(told(outcome, names), expected(case), "{}: {case}", set["name"]);
    }
    list(&set["cases"]).len()
}

/// A target, with a method and a space before it when it is not GET.
fn request(text: &str) -> (Method, &str) {
    match text.split_once(' ') {
        Some((method, target)) => (Method::parse(method.as_bytes()).expect("a method that comes through"), target),
        None => (Method::Get, text),
    }
}

type Told<'a> = (&'a str, &'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>);

fn told(outcome: Result<Verdict, Refusal>, names: &Value) -> Told<'_> {
    let verdict = match outcome {
        Ok(verdict) => verdict,
        Err(refusal) => return ("refused", refusal.0.code(), None, None, None),
    };
    let grounds = verdict.grounds();
    let name = |list: &str, place: Option<u16>| place.map(|at| text(&names[list][usize::from(at)]));
    let (privilege, role) = (name("privileges", grounds.privilege), name("roles", grounds.role));
    (verdict.code(), grounds.reason.code(), privilege, role, name("identities", grounds.identity))
}

fn expected(case: &Value) -> Told<'_> {
    let name = |key: &str| case[key].as_str();
    (text(&case["decision"]), text(&case["reason"]), name("privilege"), name("role"), name("identity"))
}

fn ident(caller: &Value) -> Ident {
    let mut ident = Ident::zeroed();
    ident.uid = number(&caller["uid"], 0);
    ident.euid = number(&caller["euid"], ident.uid);
    ident.gid = number(&caller["gid"], 0);
    ident.egid = ident.gid;
    ident.userns_inum = number(&caller["userns"], INITIAL_USERNS);
    ident.exe_sbmagic = number(&caller["sbmagic"], 0xEF53);
    ident.cgroup_id = caller["cgroupId"].as_u64().unwrap_or(0);
    if let Some(exe) = caller["exe"].as_array() {
        ident.flags |= FLAG_EXE_KNOWN;
        ident.exe_dev = number(&exe[0], 0);
        ident.exe_ino = exe[1].as_u64().expect("an inode number");
        ident.exe_ctime_s = exe[2].as_i64().expect("seconds");
        ident.exe_ctime_ns = number(&exe[3], 0);
    }
    if let Some(name) = caller["exeName"].as_str() {
        ident.flags |= FLAG_EXE_NAME;
        ident.exe_name[..name.len()].copy_from_slice(name.as_bytes());
    }
    ident
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn number(value: &Value, default: u32) -> u32 {
    value.as_u64().map_or(default, |n| u32::try_from(n).expect("a number of 32 bits"))
}
