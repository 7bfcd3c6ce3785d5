//! Callers of whom the control plane is to learn more before they are refused.
//!
//! What is in a caller's program and where its cgroup stands is looked up once, outside of requests. The first request
//! of a service that has just started would come too early: it waits for that look, a moment and no longer, and is
//! then judged once more, by whatever is known.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::caller::{ExeId, Ident};

/// Callers that wait to be looked at; one more is judged by what is known.
const QUEUE: usize = 64;

/// Of them, those of one uid that is not root: a crowd of one user's leaves room for others.
const SHARE: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Strangers(Mutex<VecDeque<Ident>>);

impl Strangers {
    /// False when there are too many already. Whoever has program and cgroup in common needs one look.
    pub(super) fn put(&self, caller: Ident) -> bool {
        let mut queue = self.lock();
        if queue.iter().any(|other| sort(other) == sort(&caller)) {
            return true;
        }
        let fits = queue.len() < QUEUE
            && (caller.uid == 0 || queue.iter().filter(|other| other.uid == caller.uid).count() < SHARE);
        if fits {
            queue.push_back(caller);
        }
        fits
    }

    pub(super) fn take(&self) -> Vec<Ident> {
        self.lock().drain(..).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Ident>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sort(caller: &Ident) -> (u64, Option<ExeId>, u32) {
    (caller.cgroup_id, caller.exe(), caller.uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uid: u32, cgroup_id: u64) -> Ident {
        Ident { cgroup_id, uid, ..Ident::zeroed() }
    }

    #[test]
    fn one_look_is_enough_for_all_of_a_sort() {
        let strangers = Strangers::default();
        assert!(strangers.is_empty());
        assert!((0..100).all(|tgid| strangers.put(Ident { tgid, ..of(1, 7) })));
        assert!(strangers.put(of(1, 8)) && strangers.put(of(2, 7)));
        assert_eq!(strangers.take().len(), 3);
        assert!(strangers.is_empty());
    }

    #[test]
    fn one_user_leaves_room_for_others() {
        let strangers = Strangers::default();
        let fit = |uid| (0..100).filter(|cgroup| strangers.put(of(uid, *cgroup))).count();
        assert_eq!((fit(1), fit(2), fit(0)), (SHARE, SHARE, QUEUE - 2 * SHARE));
        assert_eq!(fit(3), 0);
    }
}
