//! The host's clock, and the date that goes with each signature.
//!
//! The host told us its time once; since then the clock that also counts suspends has run on. The text of the date is
//! made once a second.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::http::date;
use crate::sys::time;

const SECOND: i64 = 1_000_000_000;

/// What all threads share: host time minus boot time, in ns.
#[derive(Debug)]
pub(super) struct HostClock(AtomicI64);

impl HostClock {
    /// Until the host has spoken, this machine's own clock must do.
    pub(super) fn new() -> Self {
        Self(AtomicI64::new(time::realtime_ns() - time::boottime_ns()))
    }

    pub(super) fn set(&self, host_unix_ns: i64, at_boottime_ns: i64) {
        self.0.store(host_unix_ns - at_boottime_ns, Ordering::Relaxed);
    }

    fn unix_seconds(&self) -> i64 {
        (time::boottime_ns() + self.0.load(Ordering::Relaxed)).div_euclid(SECOND)
    }
}

/// One thread's text of the current second.
#[derive(Debug)]
pub(super) struct DateText {
    second: i64,
    text: [u8; 29],
}

impl DateText {
    pub(super) const fn new() -> Self {
        Self { second: i64::MIN, text: [b' '; 29] }
    }

    /// The host's date now, as `x-ms-azure-host-date` wants it.
    pub(super) fn now(&mut self, clock: &HostClock) -> &[u8; 29] {
        let second = clock.unix_seconds();
        if second != self.second {
            self.text = date::format(second);
            self.second = second;
        }
        &self.text
    }
}
