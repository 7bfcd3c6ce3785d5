//! Why a request is not served: one closed list of reasons, each with its status, its code in records and the words
//! that the caller and the operator read. Imports nothing of the crate.

/// Reason codes; the number is what an audit record carries, the text what `docs/audit.md` explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum Reason {
    // Decided in favour (0-19).
    /// A privilege, a role and an identity of the rules matched.
    RuleMatched = 0,
    /// No privilege matched and the default access is allow.
    DefaultAllow = 1,
    /// The host sent no rules for the endpoint.
    NoRules = 2,
    /// The endpoint is disabled: sent on unsigned and unjudged.
    Disabled = 3,
    /// One of the two telemetry targets, from root.
    Exempt = 4,
    /// Answered by the agent itself (`/provision`, aggregated status).
    Local = 5,
    // Decided against, 403 (20-39).
    NotRoot = 20,
    NoIdentityMatched = 21,
    DefaultDeny = 22,
    RulesBroken = 23,
    PathTraversal = 24,
    // Not understood, 4xx (40-79).
    BadRequestLine = 40,
    BadVersion = 41,
    BadField = 42,
    FieldImitatesOurs = 43,
    BadHost = 44,
    BadFraming = 45,
    BadChunk = 46,
    BadTarget = 47,
    AmbiguousPath = 48,
    AmbiguousQuery = 49,
    MissingMetadata = 50,
    MethodNotAllowed = 51,
    BodyTooLarge = 52,
    TargetTooLong = 53,
    HeadTooLarge = 54,
    Misdirected = 55,
    RequestTimeout = 56,
    NotFound = 57,
    // Not served, 5xx (80-99).
    NotReady = 80,
    IdentityLost = 81,
    OverBudget = 82,
    HostUnreachable = 83,
    HostBroken = 84,
    HostTimeout = 85,
    HostDown = 86,
}

impl Reason {
    /// Status that the agent answers for this reason; `None` where the request goes to the host.
    #[must_use]
    pub const fn status(self) -> Option<u16> {
        use Reason as R;
        Some(match self {
            R::RuleMatched | R::DefaultAllow | R::NoRules | R::Disabled | R::Exempt | R::Local => return None,
            R::NotRoot | R::NoIdentityMatched | R::DefaultDeny | R::RulesBroken | R::PathTraversal => 403,
            R::BadRequestLine
            | R::BadVersion
            | R::BadField
            | R::FieldImitatesOurs
            | R::BadHost
            | R::BadFraming
            | R::BadChunk
            | R::BadTarget
            | R::AmbiguousPath
            | R::AmbiguousQuery
            | R::MissingMetadata => 400,
            R::NotFound => 404,
            R::MethodNotAllowed => 405,
            R::RequestTimeout => 408,
            R::BodyTooLarge => 413,
            R::TargetTooLong => 414,
            R::Misdirected => 421,
            R::HeadTooLarge => 431,
            R::HostUnreachable | R::HostBroken => 502,
            R::NotReady | R::IdentityLost | R::OverBudget | R::HostDown => 503,
            R::HostTimeout => 504,
        })
    }

    /// Stable word for logs, records and `decision` queries.
    #[must_use]
    pub const fn code(self) -> &'static str {
        use Reason as R;
        match self {
            R::RuleMatched => "rule_matched",
            R::DefaultAllow => "default_allow",
            R::NoRules => "no_rules",
            R::Disabled => "disabled",
            R::Exempt => "exempt",
            R::Local => "local",
            R::NotRoot => "not_root",
            R::NoIdentityMatched => "no_identity_matched",
            R::DefaultDeny => "default_deny",
            R::RulesBroken => "rules_broken",
            R::PathTraversal => "path_traversal",
            R::BadRequestLine => "bad_request_line",
            R::BadVersion => "bad_version",
            R::BadField => "bad_field",
            R::FieldImitatesOurs => "field_imitates_ours",
            R::BadHost => "bad_host",
            R::BadFraming => "bad_framing",
            R::BadChunk => "bad_chunk",
            R::BadTarget => "bad_target",
            R::AmbiguousPath => "ambiguous_path",
            R::AmbiguousQuery => "ambiguous_query",
            R::MissingMetadata => "missing_metadata",
            R::MethodNotAllowed => "method_not_allowed",
            R::BodyTooLarge => "body_too_large",
            R::TargetTooLong => "target_too_long",
            R::HeadTooLarge => "head_too_large",
            R::Misdirected => "misdirected",
            R::RequestTimeout => "request_timeout",
            R::NotFound => "not_found",
            R::NotReady => "not_ready",
            R::IdentityLost => "identity_lost",
            R::OverBudget => "over_budget",
            R::HostUnreachable => "host_unreachable",
            R::HostBroken => "host_broken",
            R::HostTimeout => "host_timeout",
            R::HostDown => "host_down",
        }
    }

    /// One sentence for the caller: what happened and what to do. Never the word "unreachable", which some clients
    /// take for a missing network.
    #[must_use]
    pub const fn words(self) -> &'static str {
        use Reason as R;
        match self {
            R::RuleMatched => "a rule allows this request",
            R::DefaultAllow => "no rule names this path and the default is to allow",
            R::NoRules => "the host sent no rules for this endpoint",
            R::Disabled => "the endpoint is not protected",
            R::Exempt => "telemetry of root is exempt from the rules",
            R::Local => "answered by the agent",
            R::NotRoot => "this endpoint is for root only: real and effective uid must be 0",
            R::NoIdentityMatched => "rules name this path, and none of them names this user and program",
            R::DefaultDeny => "no rule names this path and the default is to deny",
            R::RulesBroken => {
                "the local rules file of this endpoint is broken: everything is refused until it is mended"
            }
            R::PathTraversal => "the path has dot segments or empty segments",
            R::BadRequestLine => "the request line cannot be read",
            R::BadVersion => "only HTTP/1.1 and HTTP/1.0 are spoken here",
            R::BadField => "a header field cannot be read unambiguously",
            R::FieldImitatesOurs => "a header field's name imitates one that only the agent may set",
            R::BadHost => "the Host field is missing, repeated or not this endpoint",
            R::BadFraming => "the length of the body is ambiguous",
            R::BadChunk => "the chunked body cannot be read",
            R::BadTarget => "the request target has characters that are not allowed",
            R::AmbiguousPath => "the path could be read in two ways",
            R::AmbiguousQuery => "a query parameter that a rule names occurs with different values",
            R::MissingMetadata => "the header field Metadata is missing",
            R::MethodNotAllowed => "this method is not allowed",
            R::BodyTooLarge => "the request body is larger than the limit",
            R::TargetTooLong => "the request target is longer than the limit",
            R::HeadTooLarge => "the header section is larger than the limit",
            R::Misdirected => "this connection did not come through the interception, so nobody can say who made it",
            R::RequestTimeout => "the request did not arrive in time",
            R::NotFound => "the agent has nothing under this path",
            R::NotReady => "the agent is not ready yet, try again",
            R::IdentityLost => "the identity of this connection was lost, try again",
            R::OverBudget => "too many request bodies are held at the moment, try again",
            R::HostUnreachable => "the host refused or reset the connection",
            R::HostBroken => "the host's answer cannot be read",
            R::HostTimeout => "the host did not answer in time",
            R::HostDown => "the host does not answer at the moment, try again",
        }
    }
}

/// A request that is answered by the agent instead of the host. The reason fixes the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Refusal(pub Reason);

impl Refusal {
    /// The status; 500 is never reached, since every refusing reason has one.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self.0.status() {
            Some(status) => status,
            None => 500,
        }
    }
}
