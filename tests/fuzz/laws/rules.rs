//! A table of rules, and what it decides, against a reading that walks its lists.

use _native::caller::{Endpoint, FLAG_EXE_KNOWN, FLAG_EXE_NAME, INITIAL_USERNS, Ident};
use _native::http::canonical::Canonical;
use _native::http::head::Method;
use _native::policy::Snapshot;
use serde_json::{Value, json};

use super::servers;

/// Of a table that came from anywhere, so many entries of a list are tried.
const TRIED: usize = 6;

/// `data` is a table as Python hands it down.
pub(super) fn law(data: &[u8]) {
    let Ok(snapshot) = Snapshot::from_table(1, data, None) else { return };
    let table: Value = serde_json::from_slice(data).expect("what was taken is JSON");
    for endpoint in Endpoint::ALL {
        let rules = &table["endpoints"][endpoint.name()]["rules"];
        let mut callers = vec![Ident::zeroed(), person(1)];
        callers.extend(list(&rules["identities"]).iter().take(TRIED).map(|identity| one_who_matches(identity, rules)));
        let mut targets = vec![(b"/".to_vec(), Vec::new())];
        targets.extend(list(&rules["privileges"]).iter().take(TRIED).map(target_that_matches));
        for (path, query) in &targets {
            let mut canonical = Canonical::new();
            if canonical.canonicalise(path, Some(query)).is_ok() {
                for caller in &callers {
                    for method in [Method::Get, Method::Put] {
                        decided_as_written(&table, &snapshot, endpoint, caller, method, &canonical);
                    }
                }
            }
        }
    }
}

/// IMDS enforced by these rules, the others without any.
pub(super) fn table(rules: &Value) -> Value {
    let none = json!({"mode": "enforce", "broken": false, "rules": null});
    let imds = json!({"mode": "enforce", "broken": false, "rules": rules});
    json!({"endpoints": {"imds": imds, "wireserver": none, "hostga": none}})
}

/// The engine says what the table says (docs/protocol.md, "The decision").
pub(super) fn decided_as_written(
    table: &Value,
    snapshot: &Snapshot,
    endpoint: Endpoint,
    caller: &Ident,
    method: Method,
    request: &Canonical,
) {
    let found = match snapshot.decide(endpoint, caller, method, request) {
        Err(refusal) => ("refused", refusal.0.code(), None, None, None),
        Ok(verdict) => {
            let grounds = verdict.grounds();
            (verdict.code(), grounds.reason.code(), grounds.privilege, grounds.role, grounds.identity)
        }
    };
    let wanted = decide(&table["endpoints"][endpoint.name()], endpoint, caller, method, request);
    assert_eq!(found, wanted, "{endpoint:?} {} by {caller:?}: {table}", request.path().escape_ascii());
}

type Told = (&'static str, &'static str, Option<u16>, Option<u16>, Option<u16>);

fn decide(entry: &Value, endpoint: Endpoint, caller: &Ident, method: Method, request: &Canonical) -> Told {
    let alone = |decision, reason| (decision, reason, None, None, None);
    if entry["mode"] == "disabled" {
        return alone("allow", "disabled");
    }
    let (broken, rules) = (entry["broken"] == true, &entry["rules"]);
    if !broken && is_ambiguous(rules, request) {
        return alone("refused", "ambiguous_query");
    }
    if endpoint != Endpoint::Imds && !(caller.uid == 0 && caller.euid == 0) {
        return alone("deny", "not_root");
    }
    let no = if entry["mode"] == "audit" { "audit_allow" } else { "deny" };
    if broken {
        return alone(no, "rules_broken");
    }
    if rules.is_null() {
        return alone("allow", "no_rules");
    }
    let mut first = None;
    for (p, privilege) in (0_u16..).zip(list(&rules["privileges"])) {
        if !is_asked(privilege, method, request) {
            continue;
        }
        first = first.or(Some(p));
        for (i, identity) in (0_u16..).zip(list(&rules["identities"])) {
            if !is_meant(identity, rules, caller) {
                continue;
            }
            for assignment in list(&rules["assignments"]) {
                let role = &assignment[0];
                let has_role = list(&assignment[1]).contains(&json!(i));
                if has_role && list(&rules["roles"][number(role)]).contains(&json!(p)) {
                    let role = u16::try_from(number(role)).expect("it was taken as one");
                    return ("allow", "rule_matched", Some(p), Some(role), Some(i));
                }
            }
        }
    }
    match first {
        Some(_) => (no, "no_identity_matched", first, None, None),
        None if rules["defaultAllowed"] == true => alone("allow", "default_allow"),
        None => alone(no, "default_deny"),
    }
}

fn is_ambiguous(rules: &Value, request: &Canonical) -> bool {
    let named = |name: &[u8]| {
        list(&rules["privileges"]).iter().flat_map(|p| list(&p["query"])).any(|pair| written(&pair[0]) == name)
    };
    let mut parameters = request.parameters();
    parameters.any(|(name, value)| request.parameters().any(|(n, v)| n == name && v != value) && named(name))
}

fn is_asked(privilege: &Value, method: Method, request: &Canonical) -> bool {
    let path = servers::unquoted(text(&privilege["path"]).as_bytes());
    let wanted: Vec<Vec<u8>> =
        servers::folded(&path).split(|byte| *byte == b'/').filter(|s| !s.is_empty()).map(<[u8]>::to_vec).collect();
    let have: Vec<Vec<u8>> = request.segments().map(<[u8]>::to_vec).collect();
    let methods = &privilege["methods"];
    let is_among = |word: &Value| Method::parse(text(word).as_bytes()) == Some(method);
    have.starts_with(&wanted)
        && (methods.is_null() || list(methods).iter().any(is_among))
        && list(&privilege["query"]).iter().all(|pair| {
            let (name, value) = (written(&pair[0]), written(&pair[1]));
            request.parameters().any(|parameter| parameter == (&name, &value))
        })
}

fn is_meant(identity: &Value, rules: &Value, caller: &Ident) -> bool {
    let holds = |key: &str, is: &dyn Fn(&Value) -> bool| identity[key].is_null() || is(&identity[key]);
    let has = |ids: &Value, id: u32| list(ids).contains(&json!(id));
    let one_uid = caller.uid == caller.euid;
    let believed = caller.userns_inum == INITIAL_USERNS;
    let exe = json!([caller.exe_dev, caller.exe_ino, caller.exe_ctime_s, caller.exe_ctime_ns]);
    let end = caller.exe_name.iter().position(|byte| *byte == 0).unwrap_or(caller.exe_name.len());
    holds("uids", &|uids| one_uid && has(uids, caller.uid))
        && holds("group", &|group| {
            let group = &rules["groups"][number(group)];
            one_uid && (has(&group["uids"], caller.uid) || has(&group["gids"], caller.gid))
        })
        && holds("exes", &|exes| believed && caller.flags & FLAG_EXE_KNOWN != 0 && list(exes).contains(&exe))
        && holds("processName", &|name| {
            believed && caller.flags & FLAG_EXE_NAME != 0 && text(name).as_bytes() == &caller.exe_name[..end]
        })
        && holds("cgroups", &|cgroups| list(cgroups).contains(&json!(caller.cgroup_id)))
}

// Requests and callers that come near.

fn target_that_matches(privilege: &Value) -> (Vec<u8>, Vec<u8>) {
    let path = servers::folded(&servers::unquoted(text(&privilege["path"]).as_bytes()));
    let path = path.split(|byte| *byte == b'/').map(servers::quoted).collect::<Vec<_>>().join(&b'/');
    let pair = |pair: &Value| [servers::quoted(&written(&pair[0])), servers::quoted(&written(&pair[1]))].join(&b'=');
    let query = list(&privilege["query"]).iter().map(pair).collect::<Vec<_>>().join(&b'&');
    (path, query)
}

fn one_who_matches(identity: &Value, rules: &Value) -> Ident {
    let id = |ids: &Value| ids[0].as_u64().and_then(|id| u32::try_from(id).ok());
    let group =
        identity["group"].as_u64().map_or(&Value::Null, |group| &rules["groups"][usize::try_from(group).unwrap()]);
    let mut caller = person(id(&identity["uids"]).or(id(&group["uids"])).unwrap_or(7));
    caller.gid = id(&group["gids"]).unwrap_or(7);
    if let Some(exe) = list(&identity["exes"]).first() {
        let part = |at: usize| exe[at].as_u64().and_then(|part| u32::try_from(part).ok()).unwrap_or_default();
        (caller.exe_dev, caller.exe_ctime_ns) = (part(0), part(3));
        caller.exe_ino = exe[1].as_u64().unwrap_or_default();
        caller.exe_ctime_s = exe[2].as_i64().unwrap_or_default();
    }
    caller.cgroup_id = identity["cgroups"][0].as_u64().unwrap_or_default();
    let name = identity["processName"].as_str().unwrap_or("curl").as_bytes();
    let name = &name[..name.len().min(caller.exe_name.len())];
    caller.exe_name[..name.len()].copy_from_slice(name);
    caller
}

fn person(uid: u32) -> Ident {
    super::request::caller(uid)
}

// Values of JSON.

fn written(value: &Value) -> Vec<u8> {
    servers::folded(&servers::unquoted(text(value).as_bytes()))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("it was taken as text")
}

fn number(value: &Value) -> usize {
    value.as_u64().and_then(|n| usize::try_from(n).ok()).expect("it was taken as a place")
}

/// Of a list; of anything else nothing.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
