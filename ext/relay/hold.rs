//! How long a request waits while the agent is not ready (docs/clients.md has what clients do when it does not).

use std::time::Duration;

use super::config::Timeouts;
use crate::caller::Endpoint;

/// A probe of IMDS without `Metadata` has about a second in all and no second try, so its 503 must come before that;
/// everybody else does better with a late answer than with a refusal.
pub(super) fn limit(timeouts: &Timeouts, endpoint: Endpoint, has_metadata: bool) -> Duration {
    if endpoint == Endpoint::Imds && !has_metadata { timeouts.hold_probe } else { timeouts.hold }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_probe_of_imds_is_answered_early() {
        let timeouts = Timeouts::default();
        assert_eq!(limit(&timeouts, Endpoint::Imds, false), Duration::from_millis(700));
        assert_eq!(limit(&timeouts, Endpoint::Imds, true), Duration::from_secs(8));
        assert_eq!(limit(&timeouts, Endpoint::WireServer, false), Duration::from_secs(8));
    }
}
