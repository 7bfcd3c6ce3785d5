//! One decision. Follows docs/protocol.md, "The decision", step by step; the numbers below are its.

use std::cell::RefCell;

use super::conditions::Condition;
use super::snapshot::{EndpointPolicy, Mode, Rules, Snapshot};
use super::verdict::{Grounds, Verdict};
use crate::caller::{Endpoint, Ident};
use crate::error::{Reason, Refusal};
use crate::http::canonical::Canonical;
use crate::http::head::Method;

thread_local! {
    /// Sets of identities, reused so that a decision allocates nothing once a thread has made its first.
    static SCRATCH: RefCell<(Vec<u64>, Vec<u64>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

impl Snapshot {
    /// Judges a request. A mode that is not known yet is decided as enforce.
    ///
    /// # Errors
    /// `AmbiguousQuery` (400): a parameter that some privilege of the endpoint names is there twice with different
    /// values. That comes before any 403, also in audit mode, and not at all for a disabled endpoint.
    pub fn decide(
        &self,
        endpoint: Endpoint,
        caller: &Ident,
        method: Method,
        request: &Canonical,
    ) -> Result<Verdict, Refusal> {
        self.endpoint(endpoint).decide(endpoint, caller, method, request)
    }

    /// Whether a request refused with this verdict may yet be allowed: no identity matched, and the rules ask for what
    /// the control plane has not looked at for this caller.
    #[must_use]
    pub fn may_know_more(&self, endpoint: Endpoint, caller: &Ident, verdict: &Verdict) -> bool {
        verdict.grounds().reason == Reason::NoIdentityMatched
            && self.endpoint(endpoint).rules.as_ref().is_some_and(|rules| rules.known.is_stranger(caller))
    }
}

impl EndpointPolicy {
    fn decide(
        &self,
        endpoint: Endpoint,
        caller: &Ident,
        method: Method,
        request: &Canonical,
    ) -> Result<Verdict, Refusal> {
        if self.mode == Mode::Disabled {
            return Ok(Verdict::Allow(Grounds::of(Reason::Disabled)));
        }
        let named = match &self.rules {
            Some(rules) if !self.broken => Some((rules, rules.conditions.named(request)?)),
            _ => None,
        };
        // 1. Root only, and not for the rules or audit mode to soften.
        if endpoint != Endpoint::Imds && !caller.is_root() {
            return Ok(Verdict::Deny(Grounds::of(Reason::NotRoot)));
        }
        if self.broken {
            return Ok(self.refuse(Grounds::of(Reason::RulesBroken)));
        }
        // Without rules the defaults of the endpoints: everybody at IMDS, root (checked above) at the others.
        let Some((rules, named)) = named else {
            return Ok(Verdict::Allow(Grounds::of(Reason::NoRules)));
        };

        let mut judge = Judge { rules, caller, bits_known: false, first: None, granted: None };
        SCRATCH.with_borrow_mut(|(bits, scratch)| {
            rules.conditions.each_met(method, request, &named, |condition| judge.meet(condition, bits, scratch));
        });
        // 4. and 5.
        Ok(match (judge.granted, judge.first) {
            (Some((privilege, identity, role)), _) => Verdict::Allow(Grounds {
                reason: Reason::RuleMatched,
                privilege: Some(privilege),
                role: Some(role),
                identity: Some(identity),
            }),
            (None, Some(privilege)) => {
                self.refuse(Grounds { privilege: Some(privilege), ..Grounds::of(Reason::NoIdentityMatched) })
            }
            (None, None) if rules.default_allowed => Verdict::Allow(Grounds::of(Reason::DefaultAllow)),
            (None, None) => self.refuse(Grounds::of(Reason::DefaultDeny)),
        })
    }

    fn refuse(&self, grounds: Grounds) -> Verdict {
        if self.mode == Mode::Audit { Verdict::AuditAllow(grounds) } else { Verdict::Deny(grounds) }
    }
}

/// Looks at the conditions that a request meets, in whatever order, and keeps what comes first in the rules: the first
/// privilege that is granted, for it the first identity, for these the first assignment.
struct Judge<'a> {
    rules: &'a Rules,
    caller: &'a Ident,
    bits_known: bool,
    /// The first privilege that matches (2.).
    first: Option<u16>,
    /// Privilege, identity and role of a grant to this caller (3., 4.).
    granted: Option<(u16, u16, u16)>,
}

impl Judge<'_> {
    fn meet(&mut self, condition: &Condition, bits: &mut Vec<u64>, scratch: &mut Vec<u64>) {
        self.first = Some(self.first.map_or(condition.first, |before| before.min(condition.first)));
        if !self.bits_known {
            self.rules.selectors.matching(self.caller, bits, scratch);
            self.bits_known = true;
        }
        let found = match &condition.merged {
            Some(merged) => merged.first(bits),
            None => condition.grants.iter().find_map(|&(privilege, set)| {
                let (identity, role) = self.rules.grants.set(set).first(bits)?;
                Some((privilege, identity, role))
            }),
        };
        // A privilege belongs to one condition, so that no two found have the same.
        self.granted = match (self.granted, found) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}
