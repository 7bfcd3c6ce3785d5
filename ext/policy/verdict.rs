//! What a decision says. An enum and not a bool: whoever has one must say what it does with each case.

use crate::error::Reason;

/// What becomes of a request that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Sent on: signed, unless the endpoint is disabled.
    Allow(Grounds),
    /// Refused by the rules of an endpoint in audit mode: sent on, signed, and recorded as a failed authorization.
    AuditAllow(Grounds),
    /// Answered with 403, and the connection is closed.
    Deny(Grounds),
}

/// Why: the reason, and the rule that decided by its index in the endpoint's table, which is its place in the lists of
/// the merged rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grounds {
    pub reason: Reason,
    /// Allowed: the privilege that was granted. Denied: the first that matched the request.
    pub privilege: Option<u16>,
    pub role: Option<u16>,
    pub identity: Option<u16>,
}

impl Grounds {
    /// A reason that no single rule stands behind.
    #[must_use]
    pub const fn of(reason: Reason) -> Self {
        Grounds { reason, privilege: None, role: None, identity: None }
    }
}

impl Verdict {
    /// The grounds, whatever the outcome.
    #[must_use]
    pub const fn grounds(&self) -> &Grounds {
        match self {
            Verdict::Allow(grounds) | Verdict::AuditAllow(grounds) | Verdict::Deny(grounds) => grounds,
        }
    }

    /// Stable word for records and tools.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Verdict::Allow(_) => "allow",
            Verdict::AuditAllow(_) => "audit_allow",
            Verdict::Deny(_) => "deny",
        }
    }
}
