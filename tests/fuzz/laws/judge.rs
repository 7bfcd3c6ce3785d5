//! Rule sets that are valid, whatever the bytes: where a table that is all JSON first would rarely come to a decision.

use _native::caller::{Endpoint, INITIAL_USERNS, Ident};
use _native::http::canonical::Canonical;
use _native::http::head::Method;
use _native::policy::Snapshot;
use serde_json::{Value, json};

use super::rules;

// Alphabets so small that things meet.
const PATHS: [&str; 8] = ["/", "/a", "/a/b", "/a/b/c", "/%41/", "/b", "/a%20b", "/ä"];
const TARGETS: [&str; 8] = ["/", "/A", "/a/%62", "/a/b/c/d", "/aa", "/b/", "/A%20B", "/%C3%84/x"];
const NAMES: [&str; 4] = ["curl", "wget", "", "x%"];
const KEYS: [&str; 4] = ["k", "K", "api-version", "%6b"];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
const VALUES: [&str; 4] = ["v", "V", "", "a=b"];

/// Takes one small choice after the other from the bytes; zeros when they are used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn below(&mut self, end: u8) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first % end
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.below(u8::try_from(choices.len()).expect("few")))]
    }

    fn list(&mut self, most: u8, item: impl Fn(&mut Self) -> Value) -> Value {
        (0..self.below(most + 1)).map(|_| item(self)).collect()
    }

    /// Some places of a list that has `len` entries.
    fn places(&mut self, len: usize) -> Value {
        let len = u8::try_from(len).expect("few");
        self.list(if len == 0 { 0 } else { 4 }, |choices| json!(choices.below(len.max(1))))
    }

    fn maybe(&mut self, item: impl Fn(&mut Self) -> Value) -> Value {
        if self.below(2) == 0 { Value::Null } else { item(self) }
    }
}

/// `data` is a row of choices: first a rule set, then who asks for what.
pub(super) fn law(data: &[u8]) {
    let mut choices = Choices(data);
    let rules = rule_set(&mut choices);
    let mut table = rules::table(&Value::Null);
    for endpoint in Endpoint::ALL {
        let entry = &mut table["endpoints"][endpoint.name()];
        entry["mode"] = json!(choices.of(&["enforce", "enforce", "audit", "unknown", "disabled"]));
        entry["broken"] = json!(choices.below(8) == 7);
        entry["rules"] = choices.maybe(|_| rules.clone());
    }
    let snapshot = Snapshot::from_table(1, table.to_string().as_bytes(), None).expect("a table that is in order");
    for _ in 0..8 {
        let (endpoint, caller) = (choices.of(&Endpoint::ALL), caller(&mut choices));
        let mut canonical = Canonical::new();
        let query = choices.list(3, |c| json!(format!("{}={}", c.of(&KEYS), c.of(&VALUES))));
        let query: Vec<&str> = query.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let target = choices.of(&TARGETS);
        canonical.canonicalise(target.as_bytes(), Some(query.join("&").as_bytes())).expect("a target that is in order");
        let method = choices.of(&[Method::Get, Method::Post, Method::Head]);
        rules::decided_as_written(&table, &snapshot, endpoint, &caller, method, &canonical);
    }
}

fn rule_set(choices: &mut Choices) -> Value {
    let pair = |c: &mut Choices| json!([c.of(&KEYS), c.of(&VALUES)]);
    let methods = |c: &mut Choices| c.list(2, |c| json!(c.of(&METHODS)));
    let ids = |c: &mut Choices| c.list(3, |c| json!(c.below(4)));
    let privileges =
        choices.list(12, |c| json!({"path": c.of(&PATHS), "query": c.list(2, pair), "methods": c.maybe(methods)}));
    let groups = choices.list(3, |c| json!({"gids": ids(c), "uids": ids(c)}));
    let (p, g) = (len(&privileges), u8::try_from(len(&groups)).expect("few"));
    let identities = choices.list(80, |c| {
        let group = if g == 0 { Value::Null } else { c.maybe(|c| json!(c.below(g))) };
        let exes = c.maybe(|c| c.list(2, |c| json!([1, c.below(3), 0, 0])));
        let (name, cgroups) = (c.maybe(|c| json!(c.of(&NAMES))), c.maybe(ids));
        json!({"uids": c.maybe(ids), "group": group, "exes": exes, "processName": name, "cgroups": cgroups})
    });
    let i = len(&identities);
    let roles = choices.list(6, |c| c.places(p));
    let r = u8::try_from(len(&roles)).expect("few");
    let assignments = choices.list(if r == 0 { 0 } else { 8 }, |c| json!([c.below(r), c.places(i)]));
    json!({"id": "x", "defaultAllowed": choices.below(2) == 1, "privileges": privileges, "groups": groups,
        "identities": identities, "roles": roles, "assignments": assignments,
        "known": {"exes": null, "cgroups": null}})
}

fn caller(choices: &mut Choices) -> Ident {
    let mut caller = super::request::caller(u32::from(choices.below(4)));
    caller.euid = if choices.below(8) == 7 { 1 } else { caller.uid };
    caller.gid = u32::from(choices.below(4));
    caller.cgroup_id = u64::from(choices.below(4));
    caller.userns_inum = if choices.below(8) == 7 { 1 } else { INITIAL_USERNS };
    (caller.exe_dev, caller.exe_ino) = (1, u64::from(choices.below(3)));
    let name = choices.of(&NAMES);
    caller.exe_name[..name.len()].copy_from_slice(name.as_bytes());
    caller
}

fn len(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}
