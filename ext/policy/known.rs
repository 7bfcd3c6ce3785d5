//! Callers whose program and cgroup the control plane has looked at.
//!
//! What is in a file and where in the hierarchy a cgroup stands cannot be told from the kernel's record. The control
//! plane looks once per file and cgroup that it meets and publishes what it found; until then rules on them match
//! nobody, and a refusal because of that is worth asking again.

use super::hash::Set;
use super::selectors::executable;
use super::table;
use crate::caller::{ExeId, Ident};

/// `None`: no rule asks for it.
pub(super) struct Known {
    exes: Option<Set<ExeId>>,
    cgroups: Option<Set<u64>>,
}

impl Known {
    pub(super) fn build(known: &table::Known) -> Self {
        let exes = known.exe_ids().map(|ids| ids.into_iter().collect());
        Known { exes, cgroups: known.cgroups.as_ref().map(|ids| ids.iter().copied().collect()) }
    }

    pub(super) fn is_stranger(&self, caller: &Ident) -> bool {
        let program =
            self.exes.as_ref().is_some_and(|known| executable(caller).0.is_some_and(|exe| !known.contains(&exe)));
        program || self.cgroups.as_ref().is_some_and(|known| !known.contains(&caller.cgroup_id))
    }
}
