//! What one caller may take of what all callers share: bytes of held bodies, and places among held requests.
//!
//! Shares are counted in a fixed table of atomics that uids are hashed into: no lock, no growth, and nothing that a
//! caller could make long. Two uids that meet in one cell have one share between them; which ones meet is different
//! in each run.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const CELLS: usize = 1024;

/// A quantity with a limit for everybody, one for those who are not root, and one for each uid that is not root.
#[derive(Debug)]
pub(super) struct Budget {
    total: AtomicUsize,
    cells: Box<[AtomicUsize]>,
    hasher: RandomState,
    limit: usize,
    limit_of_others: usize,
    limit_of_one: usize,
}

impl Budget {
    /// Root may use all of `limit`; the others three quarters of it together, and one of them a quarter.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            total: AtomicUsize::new(0),
            cells: (0..CELLS).map(|_| AtomicUsize::new(0)).collect(),
            hasher: RandomState::new(),
            limit,
            limit_of_others: limit - limit / 4,
            limit_of_one: limit / 4,
        })
    }

    /// Takes `amount` for `uid`, or nothing.
    pub(super) fn take(self: &Arc<Self>, uid: u32, amount: usize) -> Option<Lease> {
        let mut lease = Lease { budget: Arc::clone(self), uid, amount: 0 };
        lease.grow(amount).then_some(lease)
    }

    fn limits(&self, uid: u32) -> (usize, usize) {
        if uid == 0 { (self.limit, self.limit) } else { (self.limit_of_others, self.limit_of_one) }
    }

    fn cell(&self, uid: u32) -> &AtomicUsize {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let cell = self.hasher.hash_one(uid) as usize % CELLS;
        &self.cells[cell]
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}

/// What was taken; given back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    budget: Arc<Budget>,
    uid: u32,
    amount: usize,
}

impl Lease {
    /// Takes `more` in addition, or nothing.
    pub(super) fn grow(&mut self, more: usize) -> bool {
        let (all, one) = self.budget.limits(self.uid);
        let cell = self.budget.cell(self.uid);
        if !add_below(cell, more, one) {
            return false;
        }
        if !add_below(&self.budget.total, more, all) {
            cell.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.amount += more;
        true
    }

    pub(super) const fn amount(&self) -> usize {
        self.amount
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.cell(self.uid).fetch_sub(self.amount, Ordering::Relaxed);
        self.budget.total.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

fn add_below(count: &AtomicUsize, more: usize, limit: usize) -> bool {
    let fits = |now: usize| now.checked_add(more).filter(|sum| *sum <= limit);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_has_a_quarter_and_root_has_the_rest() {
        let budget = Budget::new(400);
        let first = budget.take(1000, 100).expect("a quarter is its share");
        assert!(budget.take(1000, 1).is_none());
        assert!(budget.take(0, 301).is_none());
        let root = budget.take(0, 300).expect("root may use what is left");
        drop(first);
        assert!(budget.take(1000, 1).is_none(), "the last quarter is root's");
        drop(root);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_lease_grows_or_stays_as_it_was() {
        let budget = Budget::new(400);
        let mut lease = budget.take(7, 60).expect("fits");
        assert!(!lease.grow(41));
        assert!(lease.grow(40));
        assert_eq!((lease.amount(), budget.used()), (100, 100));
        drop(lease);
        assert_eq!(budget.used(), 0);
    }
}
