//! The policy of all endpoints at one moment: immutable, built from the table, swapped as a whole.

use std::sync::Arc;

use serde::Deserialize;

use super::conditions::{Asked, Conditions, Methods};
use super::grants::Grants;
use super::known::Known;
use super::selectors::Selectors;
use super::table::{Entry, Privilege, RuleTable, Table, TableError};
use crate::caller::Endpoint;
use crate::http::canonical::Canonical;
use crate::http::head::TARGET_LIMIT;
use crate::sign::SigningKey;

/// What happens to the requests of an endpoint; numbers as `GPA_MODE_*` of `bpf/record.h`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Mode {
    /// Decided as enforce; the relay holds requests until it is known.
    Unknown = 0,
    Disabled = 1,
    Audit = 2,
    Enforce = 3,
}

/// Rules, modes and key of one epoch. A request is judged and signed by exactly one.
pub struct Snapshot {
    pub epoch: u64,
    /// None: nothing can be signed.
    pub key: Option<Arc<SigningKey>>,
    endpoints: [EndpointPolicy; 3],
}

/// One endpoint's part of a snapshot.
pub struct EndpointPolicy {
    pub mode: Mode,
    /// The local rules cannot be used: everything is refused.
    pub(super) broken: bool,
    /// None: the host sent none, and the endpoint's default holds.
    pub(super) rules: Option<Rules>,
}

/// Rules as the engine reads them.
pub struct Rules {
    /// The id shown to operators.
    pub id: String,
    pub(super) default_allowed: bool,
    pub(super) conditions: Conditions,
    pub(super) selectors: Selectors,
    pub(super) grants: Grants,
    pub(super) known: Known,
}

impl Snapshot {
    /// Builds the policy from the table that `src/gpa/rules/compile.py` writes.
    ///
    /// # Errors
    /// Not such a table, a place in a list that does not exist, a path that no request can have, or more
    /// than the limits of `table.rs`.
    pub fn from_table(epoch: u64, json: &[u8], key: Option<Arc<SigningKey>>) -> Result<Self, TableError> {
        let endpoints = Table::read(json)?.endpoints;
        let policy = |endpoint: Endpoint, entry| EndpointPolicy::build(endpoint, entry);
        Ok(Snapshot {
            epoch,
            key,
            endpoints: [
                policy(Endpoint::Imds, &endpoints.imds)?,
                policy(Endpoint::WireServer, &endpoints.wireserver)?,
                policy(Endpoint::HostGa, &endpoints.hostga)?,
            ],
        })
    }

    #[must_use]
    pub fn endpoint(&self, endpoint: Endpoint) -> &EndpointPolicy {
        &self.endpoints[endpoint as usize]
    }
}

impl EndpointPolicy {
    fn build(endpoint: Endpoint, entry: &Entry) -> Result<Self, TableError> {
        let place = format!("{}.rules", endpoint.name());
        let rules = entry.rules.as_ref().map(|table| Rules::build(table, &place)).transpose()?;
        Ok(EndpointPolicy { mode: entry.mode, broken: entry.broken, rules })
    }
}

impl Rules {
    fn build(table: &RuleTable, place: &str) -> Result<Self, TableError> {
        table.check(place)?;
        let selectors = Selectors::build(&table.identities, &table.groups);
        let grants = Grants::build(table, selectors.words(), place)?;
        let asked: Vec<Asked> =
            (0..).zip(&table.privileges).map(|(i, p)| asked(p, place, i)).collect::<Result<_, _>>()?;
        Ok(Rules {
            id: table.id.clone(),
            default_allowed: table.default_allowed,
            conditions: Conditions::build(asked.into_iter(), &grants),
            selectors,
            grants,
            known: Known::build(&table.known),
        })
    }
}

fn asked(privilege: &Privilege, place: &str, number: usize) -> Result<Asked, TableError> {
    let segments = Canonical::rule_path(privilege.path.as_bytes())
        .map_err(|refusal| TableError::new(format!("{place}.privileges[{number}].path"), refusal.0.words()))?;
    // As a rule that asks for what no request can have, it would never match and nobody would be told.
    let least = |text: &String| Canonical::rule_text(text.as_bytes()).len() + 1;
    let query: usize = privilege.query.iter().map(|(name, value)| least(name) + least(value)).sum();
    if segments.iter().map(|segment| segment.len() + 1).sum::<usize>() + query > TARGET_LIMIT {
        let message = format!("it asks for more than a request's target can hold, {TARGET_LIMIT} bytes");
        return Err(TableError::new(format!("{place}.privileges[{number}]"), message));
    }
    let text = |text: &String| Canonical::rule_text(text.as_bytes());
    let pairs = privilege.query.iter().map(|(name, value)| (text(name), text(value))).collect();
    let methods = privilege.methods.as_deref().map_or(Methods::ANY, Methods::of);
    Ok(Asked { segments, pairs, methods })
}
