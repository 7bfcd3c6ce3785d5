//! Connections to the host: each belongs to one exchange, or waits in the pool for the next of the same identity.
//!
//! A kept connection is given only to the endpoint and the uids it was opened for. It is checked without a system
//! call: it stays registered while it waits, and the reactor looks at upstream events before it looks at callers', so
//! bytes nobody asked for, or the host's close, have removed it before somebody could take it.

use std::os::fd::OwnedFd;

use super::config::{IDLE_UPSTREAMS, IDLE_UPSTREAMS_OF_ONE};
use super::slab::Key;
use crate::caller::{Endpoint, Ident};

/// For whom a connection may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Purpose {
    pub(super) endpoint: Endpoint,
    pub(super) uid: u32,
    euid: u32,
    userns: u32,
}

impl Purpose {
    pub(super) const fn of(endpoint: Endpoint, caller: &Ident) -> Self {
        Self { endpoint, uid: caller.uid, euid: caller.euid, userns: caller.userns_inum }
    }

    /// As [`Ident::is_root`].
    pub(super) const fn is_root(&self) -> bool {
        self.uid == 0 && self.euid == 0
    }
}

/// One connection to the host.
#[expect(clippy::struct_excessive_bools, reason = "what epoll has said, and what the pool has to know")]
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) fd: OwnedFd,
    pub(super) purpose: Purpose,
    /// The caller's connection that it serves; none while it waits in the pool.
    pub(super) owner: Option<Key>,
    pub(super) connected: bool,
    /// An edge was seen that has not been read to its end.
    pub(super) readable: bool,
    /// The host will send nothing more.
    pub(super) closed: bool,
    /// It has served a request before: the host may have closed it in the meantime.
    pub(super) kept: bool,
}

#[derive(Clone, Copy, Debug)]
struct Idle {
    key: Key,
    purpose: Purpose,
    since: u64,
}

/// The idle connections of one thread, oldest first.
#[derive(Debug)]
pub(super) struct Pool(Vec<Idle>);

impl Pool {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Takes the one that was used last: the others may then grow old and be closed.
    pub(super) fn take(&mut self, purpose: Purpose) -> Option<Key> {
        let at = self.0.iter().rposition(|idle| idle.purpose == purpose)?;
        Some(self.0.remove(at).key)
    }

    /// Keeps a connection; gives back the one that has to be closed for it.
    pub(super) fn keep(&mut self, key: Key, purpose: Purpose, now: u64) -> Option<Key> {
        let of_same = || self.0.iter().filter(|idle| idle.purpose == purpose);
        let evicted = if self.0.len() >= IDLE_UPSTREAMS_OF_ONE && of_same().count() >= IDLE_UPSTREAMS_OF_ONE {
            self.0.iter().position(|idle| idle.purpose == purpose)
        } else {
            (self.0.len() >= IDLE_UPSTREAMS).then_some(0)
        };
        let evicted = evicted.map(|at| self.0.remove(at).key);
        self.0.push(Idle { key, purpose, since: now });
        evicted
    }

    /// Forgets one that the host has closed.
    pub(super) fn forget(&mut self, key: Key) {
        self.0.retain(|idle| idle.key != key);
    }

    /// Since when the oldest waits.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.0.first().map(|idle| idle.since)
    }

    pub(super) fn take_oldest(&mut self) -> Option<Key> {
        (!self.0.is_empty()).then(|| self.0.remove(0).key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 1 }
    }

    fn user(uid: u32, euid: u32) -> Purpose {
        Purpose::of(Endpoint::Imds, &Ident { uid, euid, ..Ident::zeroed() })
    }

    #[test]
    fn never_given_to_another_identity_or_endpoint() {
        let mut pool = Pool::new();
        assert_eq!(pool.keep(key(1), user(1000, 1000), 5), None);
        assert_eq!(pool.take(user(1001, 1001)), None);
        assert_eq!(pool.take(user(1000, 0)), None);
        assert_eq!(pool.take(Purpose { endpoint: Endpoint::WireServer, ..user(1000, 1000) }), None);
        assert_eq!(pool.take(user(1000, 1000)), Some(key(1)));
        assert_eq!(pool.take(user(1000, 1000)), None);
    }

    #[test]
    fn bounded_in_all_and_for_each() {
        let mut pool = Pool::new();
        let one = u32::try_from(IDLE_UPSTREAMS_OF_ONE).expect("small");
        let all = u32::try_from(IDLE_UPSTREAMS).expect("small");
        for n in 0..one {
            assert_eq!(pool.keep(key(n), user(1, 1), u64::from(n)), None);
        }
        assert_eq!(pool.keep(key(one), user(1, 1), 1000), Some(key(0)), "the oldest of the same identity goes");
        for n in one + 1..=all {
            assert_eq!(pool.keep(key(n), user(2 + n, 2), 2000), None);
        }
        assert_eq!(pool.keep(key(all + 1), user(1, 2), 3000), Some(key(1)), "the oldest of all goes");
        assert_eq!(pool.oldest(), Some(2));
        assert_eq!(pool.take(user(1, 1)), Some(key(one)), "the youngest is used again");
    }
}
