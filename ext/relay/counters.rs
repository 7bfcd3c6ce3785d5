//! Counters of the relay: each thread writes its own, a reader adds them up.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the counters once: their type, and their names for readers.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One thread's counters, on cache lines of its own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(super) struct Counters {
            $($(#[$doc])* pub(super) $name: AtomicU64,)*
        }

        /// Name and sum of every counter.
        pub(super) fn sums(threads: &[Counters]) -> Vec<(&'static str, u64)> {
            vec![$((stringify!($name), threads.iter().map(|c| c.$name.load(Ordering::Relaxed)).sum()),)*]
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Connections open now.
    open,
    /// Requests whose head was complete or refused.
    requests,
    /// Of these, answered with what the host said.
    relayed,
    /// Of these, answered by the agent.
    refused,
    /// Requests held because the agent was not ready or had no room.
    held,
    /// Requests sent once more.
    retried,
    /// Callers that left before their answer was whole.
    left,
    /// Connections to the host: made, and taken from the pool.
    upstreams_opened,
    upstreams_reused,
    /// Audit rows that found the ring full.
    records_dropped,
    /// Times that descriptors were exhausted.
    exhausted,
    /// Handlers that panicked; each cost its connection.
    panics,
}

/// Adds one to a counter that only this thread writes: no locked instruction.
pub(super) fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}
