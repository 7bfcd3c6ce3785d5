//! The table as Python hands it down: JSON, read once per snapshot, checked for everything that the engine relies on.

use std::fmt;

use serde::Deserialize;

use crate::caller::ExeId;
use crate::http::head::Method;

/// Places in the lists are 16 bit in an audit record, where the highest says "none" (`ext/audit.h`).
pub(super) const MAX_LIST: usize = 0xFFFF;

/// (privilege list, identity) pairs that roles and assignments may unfold into: 64 MB of table, a hundred times what
/// 10,000 privileges for 1,000 identities in sensible roles need.
pub(super) const MAX_GRANTS: usize = 16 << 20;

/// The table cannot be used; what is in force stays in force.
#[derive(Debug, PartialEq, Eq)]
pub struct TableError {
    /// Where, as `imds.rules.privileges[3].path`; empty when it is not JSON of this form at all.
    pub place: String,
    /// What is wrong there.
    pub message: String,
}

impl TableError {
    pub(super) fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        TableError { place: place.into(), message: message.into() }
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.place, self.message) }
    }
}

impl std::error::Error for TableError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    pub(super) endpoints: Endpoints,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Endpoints {
    pub(super) imds: Entry,
    pub(super) wireserver: Entry,
    pub(super) hostga: Entry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) mode: super::Mode,
    pub(super) broken: bool,
    // Derived code takes an Option that is not there for None, which here would open: it must be said.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) rules: Option<RuleTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RuleTable {
    pub(super) id: String,
    pub(super) default_allowed: bool,
    pub(super) privileges: Vec<Privilege>,
    pub(super) groups: Vec<Group>,
    pub(super) identities: Vec<Identity>,
    /// The privileges of each role, by place in the list.
    pub(super) roles: Vec<Vec<u16>>,
    /// Role and the identities that have it, by place, in the order of the rules.
    pub(super) assignments: Vec<(u16, Vec<u16>)>,
    pub(super) known: Known,
}

/// Callers whose program and cgroup the control plane has looked at. `None`: no rule asks for that.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) exes: Option<Vec<Exe>>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) cgroups: Option<Vec<u64>>,
}

/// The four members of an [`ExeId`] in their order.
type Exe = (u32, u64, i64, u32);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Privilege {
    /// As written in the rules; the one canonical form is made here.
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    /// `None`: whatever the method.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) methods: Option<Vec<Method>>,
}

/// Selectors with names resolved to what the kernel says. `None`: the rule has no such selector and anything matches;
/// an empty list: nothing does.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Identity {
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) uids: Option<Vec<u32>>,
    /// Place in the list of groups.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) group: Option<u16>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) exes: Option<Vec<Exe>>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) process_name: Option<String>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) cgroups: Option<Vec<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    /// Ids of the group: matched by the caller's captured gid.
    pub(super) gids: Vec<u32>,
    /// Its members by the user database.
    pub(super) uids: Vec<u32>,
}

impl Table {
    pub(super) fn read(json: &[u8]) -> Result<Self, TableError> {
        serde_json::from_slice(json).map_err(|error| TableError::new("", format!("the table cannot be read: {error}")))
    }
}

impl RuleTable {
    /// Every place that is named exists, and each list is short enough to be named.
    pub(super) fn check(&self, place: &str) -> Result<(), TableError> {
        let lists =
            [("privileges", self.privileges.len()), ("identities", self.identities.len()), ("roles", self.roles.len())];
        for (list, len) in lists {
            if len > MAX_LIST {
                return Err(TableError::new(format!("{place}.{list}"), format!("{len} entries, at most {MAX_LIST}")));
            }
        }
        let known = |list: &[u16], len: usize| list.iter().all(|i| usize::from(*i) < len);
        for (i, identity) in self.identities.iter().enumerate() {
            if !known(identity.group.as_slice(), self.groups.len()) {
                return Err(TableError::new(format!("{place}.identities[{i}]"), "names a group that is not there"));
            }
        }
        for (i, role) in self.roles.iter().enumerate() {
            if !known(role, self.privileges.len()) {
                return Err(TableError::new(format!("{place}.roles[{i}]"), "names a privilege that is not there"));
            }
        }
        for (i, (role, identities)) in self.assignments.iter().enumerate() {
            if !known(&[*role], self.roles.len()) || !known(identities, self.identities.len()) {
                let place = format!("{place}.assignments[{i}]");
                return Err(TableError::new(place, "names a role or an identity that is not there"));
            }
        }
        Ok(())
    }
}

impl Known {
    pub(super) fn exe_ids(&self) -> Option<Vec<ExeId>> {
        self.exes.as_deref().map(exe_ids)
    }
}

impl Identity {
    pub(super) fn exe_ids(&self) -> Option<Vec<ExeId>> {
        self.exes.as_deref().map(exe_ids)
    }
}

fn exe_ids(exes: &[Exe]) -> Vec<ExeId> {
    exes.iter().map(|&(dev, ino, ctime_s, ctime_ns)| ExeId { dev, ino, ctime_s, ctime_ns }).collect()
}
