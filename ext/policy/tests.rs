//! What the corpus is too small for: rule sets that overflow each of the engine's short lists, against a reading of the
//! rules that walks them; and tables that nobody should have written.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::table::MAX_GRANTS;
use super::{Grounds, Snapshot, TableError, Verdict};
use crate::caller::{Endpoint, FLAG_EXE_KNOWN, FLAG_EXE_NAME, INITIAL_USERNS, Ident};
use crate::error::{Reason, Refusal};
use crate::http::canonical::Canonical;
use crate::http::head::Method;

const PATHS: [&str; 5] = ["/", "/a", "/a/b", "/a/b/c", "/b"];
const PROGRAMS: [&str; 3] = ["curl", "wget", "sh"];
const METHODS: [&str; 3] = ["GET", "POST", "PATCH"];

#[derive(Clone, Debug)]
struct Selectors {
    uids: Option<Vec<u32>>,
    group: Option<u16>,
    inode: Option<u64>,
    program: Option<&'static str>,
    cgroups: Option<Vec<u64>>,
}

/// Path, parameters, methods.
type Privilege = (&'static str, BTreeMap<u8, u8>, Option<Vec<&'static str>>);

#[derive(Clone, Debug)]
struct Set {
    privileges: Vec<Privilege>,
    groups: Vec<(u32, Vec<u32>)>,
    identities: Vec<Selectors>,
    roles: Vec<BTreeSet<u16>>,
    assignments: Vec<(u16, BTreeSet<u16>)>,
}

#[derive(Clone, Debug)]
struct Asked {
    path: &'static str,
    parameters: Vec<(u8, u8)>,
    uid: u32,
    gid: u32,
    inode: u64,
    program: &'static str,
    cgroup: u64,
    method: &'static str,
}

fn selectors() -> impl Strategy<Value = Selectors> {
    let uids = proptest::option::weighted(0.7, proptest::collection::vec(0..6_u32, 0..3));
    let group = proptest::option::weighted(0.3, 0..3_u16);
    let inode = proptest::option::weighted(0.2, 0..4_u64);
    let program = proptest::option::weighted(0.2, select(&PROGRAMS[..]));
    let cgroups = proptest::option::weighted(0.2, proptest::collection::vec(0..4_u64, 0..3));
    (uids, group, inode, program, cgroups).prop_map(|(uids, group, inode, program, cgroups)| Selectors {
        uids,
        group,
        inode,
        program,
        cgroups,
    })
}

/// Up to 200 identities (four words of bits), 60 privileges of which most share a path, and 24 parameters.
fn set() -> impl Strategy<Value = Set> {
    let parameters = proptest::collection::btree_map(0..24_u8, 0..2_u8, 0..3);
    let methods = proptest::option::weighted(0.3, proptest::sample::subsequence(&METHODS[..], 1..METHODS.len()));
    let privileges = proptest::collection::vec((select(&PATHS[..]), parameters, methods), 1..60);
    let groups = proptest::collection::vec((0..4_u32, proptest::collection::vec(0..6_u32, 0..4)), 3);
    let identities = proptest::collection::vec(selectors(), 1..200);
    (privileges, groups, identities).prop_flat_map(|(privileges, groups, identities)| {
        let (p, i) = (u16::try_from(privileges.len()).unwrap(), u16::try_from(identities.len()).unwrap());
        let roles = proptest::collection::vec(proptest::collection::btree_set(0..p, 1..4), 1..40);
        (Just(privileges), Just(groups), Just(identities), roles).prop_flat_map(
            move |(privileges, groups, identities, roles)| {
                let few = proptest::collection::btree_set(0..i, 1..4);
                let many = proptest::collection::btree_set(0..i, 1..40);
                let one = (0..u16::try_from(roles.len()).unwrap(), prop_oneof![4 => few, 1 => many]);
                proptest::collection::vec(one, 0..60).prop_map(move |assignments| Set {
                    privileges: privileges.clone(),
                    groups: groups.clone(),
                    identities: identities.clone(),
                    roles: roles.clone(),
                    assignments,
                })
            },
        )
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let parameters = prop_oneof![
        proptest::collection::vec((0..26_u8, 0..2_u8), 0..4),
        // Nearly all there are, each once: more than the engine keeps without allocating.
        proptest::collection::vec(0..2_u8, 24).prop_map(|values| (0..24).zip(values).collect()),
    ];
    let place = (0..5_u64, select(&METHODS[..]));
    (select(&PATHS[..]), parameters, 0..7_u32, 0..5_u32, 0..5_u64, select(&PROGRAMS[..]), place).prop_map(
        |(path, parameters, uid, gid, inode, program, (cgroup, method))| Asked {
            path,
            parameters,
            uid,
            gid,
            inode,
            program,
            cgroup,
            method,
        },
    )
}

impl Set {
    fn table(&self) -> Vec<u8> {
        let identities: Vec<Value> = self
            .identities
            .iter()
            .map(|i| {
                let exes = i.inode.map(|inode| vec![(1, inode, 0, 0)]);
                json!({"uids": i.uids, "group": i.group, "exes": exes, "processName": i.program, "cgroups": i.cgroups})
            })
            .collect();
        let privileges: Vec<Value> = self
            .privileges
            .iter()
            .map(|(path, query, methods)| {
                let query: Vec<_> =
                    query.iter().map(|(name, value)| [format!("k{name}"), format!("v{value}")]).collect();
                json!({"path": path, "query": query, "methods": methods})
            })
            .collect();
        let groups: Vec<Value> = self.groups.iter().map(|(gid, uids)| json!({"gids": [gid], "uids": uids})).collect();
        table(&json!({"id": "x", "defaultAllowed": false, "privileges": privileges, "groups": groups,
            "identities": identities, "roles": self.roles, "assignments": self.assignments, "known": unknown()}))
    }

    /// The rules as they are written down.
    fn decide(&self, asked: &Asked) -> Result<Verdict, Refusal> {
        let named = |name: u8| self.privileges.iter().any(|(_, query, _)| query.contains_key(&name));
        for (name, value) in &asked.parameters {
            if named(*name) && asked.parameters.iter().any(|(n, v)| n == name && v != value) {
                return Err(Refusal(Reason::AmbiguousQuery));
            }
        }
        let mut first = None;
        for (p, (path, query, methods)) in (0_u16..).zip(&self.privileges) {
            if methods.as_ref().is_some_and(|methods| !methods.contains(&asked.method)) {
                continue;
            }
            let below = asked.path == *path || *path == "/" || asked.path.starts_with(&format!("{path}/"));
            if !below || !query.iter().all(|(n, v)| asked.parameters.contains(&(*n, *v))) {
                continue;
            }
            first = first.or(Some(p));
            for (i, identity) in (0_u16..).zip(&self.identities) {
                let granted = |(role, identities): &&(u16, BTreeSet<u16>)| {
                    identities.contains(&i) && self.roles[usize::from(*role)].contains(&p)
                };
                if let Some((role, _)) = self.assignments.iter().find(granted)
                    && self.matches(identity, asked)
                {
                    let (privilege, role, identity) = (Some(p), Some(*role), Some(i));
                    return Ok(Verdict::Allow(Grounds { reason: Reason::RuleMatched, privilege, role, identity }));
                }
            }
        }
        let reason = if first.is_some() { Reason::NoIdentityMatched } else { Reason::DefaultDeny };
        Ok(Verdict::Deny(Grounds { privilege: first, ..Grounds::of(reason) }))
    }

    fn matches(&self, identity: &Selectors, asked: &Asked) -> bool {
        identity.uids.as_ref().is_none_or(|uids| uids.contains(&asked.uid))
            && identity.group.is_none_or(|group| {
                let (gid, uids) = &self.groups[usize::from(group)];
                *gid == asked.gid || uids.contains(&asked.uid)
            })
            && identity.inode.is_none_or(|inode| inode == asked.inode)
            && identity.program.is_none_or(|program| program == asked.program)
            && identity.cgroups.as_ref().is_none_or(|cgroups| cgroups.contains(&asked.cgroup))
    }
}

impl Asked {
    fn canonical(&self) -> Canonical {
        let query: Vec<String> = self.parameters.iter().map(|(name, value)| format!("K{name}=V{value}")).collect();
        canonical(self.path, Some(&query.join("&")))
    }

    fn method(&self) -> Method {
        Method::parse(self.method.as_bytes()).expect("one that comes through")
    }

    fn caller(&self) -> Ident {
        let mut caller = caller(self.uid);
        caller.gid = self.gid;
        caller.exe_dev = 1;
        caller.exe_ino = self.inode;
        caller.cgroup_id = self.cgroup;
        caller.exe_name[..self.program.len()].copy_from_slice(self.program.as_bytes());
        caller
    }
}

fn canonical(path: &str, query: Option<&str>) -> Canonical {
    let mut canonical = Canonical::new();
    canonical.canonicalise(path.as_bytes(), query.map(str::as_bytes)).expect("a plain target");
    canonical
}

fn caller(uid: u32) -> Ident {
    let mut caller = Ident::zeroed();
    (caller.uid, caller.euid) = (uid, uid);
    caller.userns_inum = INITIAL_USERNS;
    caller.flags = FLAG_EXE_KNOWN | FLAG_EXE_NAME;
    caller
}

/// Nobody asks for what has to be looked at.
fn unknown() -> Value {
    json!({"exes": null, "cgroups": null})
}

fn table(rules: &Value) -> Vec<u8> {
    let none = json!({"mode": "disabled", "broken": false, "rules": null});
    let imds = json!({"mode": "enforce", "broken": false, "rules": rules});
    json!({"endpoints": {"imds": imds, "wireserver": none, "hostga": none}}).to_string().into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn large_sets_decide_as_they_are_written(set in set(), asked in proptest::collection::vec(asked(), 40)) {
        let snapshot = Snapshot::from_table(1, &set.table(), None).expect("a valid table");
        for asked in &asked {
            let decided = snapshot.decide(Endpoint::Imds, &asked.caller(), asked.method(), &asked.canonical());
            prop_assert_eq!(decided, set.decide(asked), "{:?}", asked);
        }
    }

    #[test]
    fn no_bytes_are_a_table_by_accident(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Snapshot::from_table(1, &bytes, None).is_err());
    }
}

/// A small set with one member replaced; what is said of it.
fn fault(member: &str, value: Value) -> TableError {
    let mut rules = json!({"id": "x", "defaultAllowed": true, "privileges": [{"path": "/m", "query": [["k", "v"]], "methods": null}],
        "groups": [], "identities": [{"uids": [0], "group": null, "exes": null, "processName": null, "cgroups": null}],
        "roles": [[0]], "assignments": [[0, [0]]], "known": unknown()});
    assert!(Snapshot::from_table(1, &table(&rules), None).is_ok());
    rules[member] = value;
    Snapshot::from_table(1, &table(&rules), None).err().expect("a fault")
}

#[test]
fn a_path_that_no_request_can_have_is_told_with_its_place() {
    for path in ["/a/../b", "/a//b", "/a%2fb", "/a;b", "/a\\b", "/%2e%2e/a", "/%252e/a", "m", "", "/a?b", "/a\u{0}"] {
        let found = fault(
            "privileges",
            json!([{"path": "/m", "query": [], "methods": null}, {"path": path, "query": [], "methods": null}]),
        );
        assert_eq!(found.place, "imds.rules.privileges[1].path", "{path:?}");
        assert!(found.to_string().starts_with("imds.rules.privileges[1].path: the "), "{found}");
    }
}

#[test]
fn a_privilege_that_is_longer_than_a_target_is_told_with_its_place() {
    let fits = json!({"path": format!("/{}", "a".repeat(8191 - 8)), "query": [["name", "v%61"]], "methods": null});
    let rules = json!({"id": "x", "defaultAllowed": true, "privileges": [fits], "groups": [], "identities": [],
        "roles": [], "assignments": [], "known": unknown()});
    assert!(Snapshot::from_table(1, &table(&rules), None).is_ok());
    for long in [
        json!({"path": format!("/{}", "a".repeat(8192 - 8)), "query": [["name", "v%61"]], "methods": null}),
        json!({"path": format!("/{}", "a".repeat(1_000_000)), "query": [], "methods": null}),
        json!({"path": "/", "query": [["name", "v".repeat(9000)]], "methods": null}),
    ] {
        let found = fault("privileges", json!([{"path": "/m", "query": [], "methods": null}, long]));
        assert_eq!(found.place, "imds.rules.privileges[1]");
        assert!(found.message.contains("8192 bytes"), "{found}");
    }
}

#[test]
fn a_place_that_is_not_there_is_refused() {
    assert_eq!(fault("roles", json!([[0, 1]])).place, "imds.rules.roles[0]");
    assert_eq!(fault("assignments", json!([[1, [0]]])).place, "imds.rules.assignments[0]");
    assert_eq!(fault("assignments", json!([[0, [0, 1]]])).place, "imds.rules.assignments[0]");
    let identity = json!([{"uids": null, "group": 0, "exes": null, "processName": null, "cgroups": null}]);
    assert_eq!(fault("identities", identity).place, "imds.rules.identities[0]");
}

#[test]
fn a_list_is_no_longer_than_a_record_can_name() {
    let privilege = json!({"path": "/m", "query": [], "methods": null});
    assert_eq!(fault("privileges", json!(vec![privilege; 0x1_0000])).place, "imds.rules.privileges");
    assert_eq!(fault("roles", json!(vec![json!([]); 0x1_0000])).place, "imds.rules.roles");
}

#[test]
fn grants_do_not_unfold_without_end() {
    // Each privilege has a list of assignments of its own, and every list has the long one in it.
    let many = 2 + MAX_GRANTS / 65_535;
    let roles: Vec<Vec<usize>> = std::iter::once((0..many).collect()).chain((0..many).map(|p| vec![p])).collect();
    let assignments: Vec<(usize, Vec<u16>)> =
        std::iter::once((0, vec![0; 65_535])).chain((0..many).map(|p| (p + 1, vec![0]))).collect();
    let privileges = vec![json!({"path": "/m", "query": [], "methods": null}); many];
    let set = json!({"id": "x", "defaultAllowed": true, "privileges": privileges, "groups": [],
        "identities": [{"uids": [0], "group": null, "exes": null, "processName": null, "cgroups": null}],
        "roles": roles, "assignments": assignments, "known": unknown()});
    let found = Snapshot::from_table(1, &table(&set), None).err().expect("a fault");
    assert_eq!(found.place, "imds.rules.roles");
}

#[test]
fn what_is_not_the_tables_form_is_refused() {
    for (member, value) in [
        ("more", json!(1)),
        ("defaultAllowed", json!("allow")),
        ("privileges", json!(null)),
        ("roles", json!([[-1]])),
        ("roles", json!([[65536]])),
        ("identities", json!([{}])),
    ] {
        assert_eq!(fault(member, value).place, "", "{member}");
    }
    for text in ["", "{}", "[]", "null", "{\"endpoints\": {}}"] {
        assert!(Snapshot::from_table(1, text.as_bytes(), None).is_err(), "{text}");
    }
}

#[test]
fn a_caller_at_the_edges_of_the_record_is_judged() {
    let none = json!({"uids": null, "group": null, "exes": null, "processName": null, "cgroups": null});
    let rules = |key: &str, value: Value| {
        let mut identity = none.clone();
        identity[key] = value;
        json!({"id": "x", "defaultAllowed": true, "privileges": [{"path": "/", "query": [], "methods": null}], "groups": [],
            "identities": [identity], "roles": [[0]], "assignments": [[0, [0]]], "known": unknown()})
    };
    let allowed = |rules: &Value, caller: &Ident| {
        let snapshot = Snapshot::from_table(1, &table(rules), None).expect("a valid table");
        let verdict =
            snapshot.decide(Endpoint::Imds, caller, Method::Get, &canonical("/", None)).expect("nothing ambiguous");
        matches!(verdict, Verdict::Allow(_))
    };

    assert!(allowed(&rules("uids", json!([u32::MAX])), &caller(u32::MAX)));
    let mut full = caller(1);
    full.exe_name = [b'x'; 64];
    assert!(allowed(&rules("processName", json!("x".repeat(64))), &full));
    full.flags = FLAG_EXE_KNOWN;
    assert!(!allowed(&rules("processName", json!("x".repeat(64))), &full), "a name that was cut is no name");
    full.flags = FLAG_EXE_NAME;
    assert!(!allowed(&rules("exes", json!([[0, 0, 0, 0]])), &full), "an unknown file is not the one of zeros");
    full.flags = FLAG_EXE_KNOWN;
    (full.exe_dev, full.exe_ino, full.exe_ctime_s, full.exe_ctime_ns) = (u32::MAX, u64::MAX, i64::MIN, 999_999_999);
    assert!(allowed(&rules("exes", json!([[u32::MAX, u64::MAX, i64::MIN, 999_999_999]])), &full));
}

#[test]
fn a_caller_nobody_has_looked_at_may_be_known_more_of() {
    let none = json!({"uids": null, "group": null, "exes": null, "processName": null, "cgroups": null});
    let rules = |known: Value| {
        let mut identity = none.clone();
        identity["cgroups"] = json!([7]);
        json!({"id": "x", "defaultAllowed": false, "privileges": [{"path": "/a", "query": [], "methods": null}],
            "groups": [], "identities": [identity], "roles": [[0]], "assignments": [[0, [0]]], "known": known})
    };
    let more = |known: Value, caller: &Ident, path: &str| {
        let snapshot = Snapshot::from_table(1, &table(&rules(known)), None).expect("a valid table");
        let verdict = snapshot.decide(Endpoint::Imds, caller, Method::Get, &canonical(path, None)).expect("plain");
        snapshot.may_know_more(Endpoint::Imds, caller, &verdict)
    };
    let mut someone = caller(1);
    someone.cgroup_id = 8;
    assert!(!more(unknown(), &someone, "/a"), "no rule asks");
    assert!(more(json!({"exes": null, "cgroups": [7]}), &someone, "/a"));
    assert!(!more(json!({"exes": null, "cgroups": [7, 8]}), &someone, "/a"));
    assert!(!more(json!({"exes": null, "cgroups": [7]}), &someone, "/b"), "no privilege matches: no identity would");
    someone.exe_ino = 5;
    assert!(more(json!({"exes": [], "cgroups": [8]}), &someone, "/a"));
    assert!(!more(json!({"exes": [[0, 5, 0, 0]], "cgroups": [8]}), &someone, "/a"));
    assert!(more(json!({"exes": [[0, 5, 0, 0]], "cgroups": []}), &someone, "/a"));
    someone.exe_sbmagic = 0x6969;
    assert!(!more(json!({"exes": [], "cgroups": null}), &someone, "/a"), "no look would help there");
    someone.cgroup_id = 7;
    assert!(!more(json!({"exes": null, "cgroups": []}), &someone, "/a"), "allowed");
}
