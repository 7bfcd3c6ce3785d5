//! Which identities a privilege is granted to, and through which role: one set per distinct list of assignments.

use std::collections::BTreeMap;
use std::collections::HashMap;

use super::table::{MAX_GRANTS, RuleTable, TableError};

/// Identities in order, each with the first role that grants.
pub(super) struct GrantSet {
    identities: Box<[u16]>,
    roles: Box<[u16]>,
    /// The same as bits, where that is the shorter list.
    bits: Option<Bits>,
}

/// Identities as bits, and for each word how many come before it.
struct Bits {
    words: Box<[u64]>,
    before: Box<[u16]>,
}

impl Bits {
    fn build<'a>(identities: impl Iterator<Item = &'a u16>, words: usize) -> Self {
        let mut bits = vec![0_u64; words];
        for identity in identities {
            bits[usize::from(*identity) / 64] |= 1 << (identity % 64);
        }
        let mut sum = 0_u16;
        let before = bits.iter().map(|word| {
            let before = sum;
            sum += u16::try_from(word.count_ones()).expect("64 at most"); // a list has at most `MAX_LIST`
            before
        });
        let before = before.collect();
        Bits { words: bits.into_boxed_slice(), before }
    }

    /// Of those that are in both, one word after the other.
    fn common<'a>(&'a self, matching: &'a [u64]) -> impl Iterator<Item = (usize, u64)> + 'a {
        self.words.iter().zip(matching).map(|(a, b)| a & b).enumerate()
    }

    /// The place in the list of the lowest of `common`, which are some of a word's.
    fn rank(&self, word: usize, common: u64) -> usize {
        let below = (common & common.wrapping_neg()) - 1;
        usize::from(self.before[word]) + (self.words[word] & below).count_ones() as usize
    }
}

/// All sets of an endpoint; most privileges share one with their neighbours in a role.
pub(super) struct Grants {
    sets: Vec<GrantSet>,
    of_privilege: Vec<u32>,
    words: usize,
}

impl Grants {
    /// `words`: length of a set of identities as bits.
    pub(super) fn build(table: &RuleTable, words: usize, place: &str) -> Result<Self, TableError> {
        let mut assignments_of_role: Vec<Vec<usize>> = vec![Vec::new(); table.roles.len()];
        for (i, (role, _)) in table.assignments.iter().enumerate() {
            assignments_of_role[usize::from(*role)].push(i);
        }
        let mut assignments_of: Vec<Vec<usize>> = vec![Vec::new(); table.privileges.len()];
        let mut unfolded = 0;
        for (role, privileges) in table.roles.iter().enumerate() {
            unfolded += privileges.len() * assignments_of_role[role].len();
            bounded(unfolded, place)?;
            for privilege in privileges {
                assignments_of[usize::from(*privilege)].extend(&assignments_of_role[role]);
            }
        }

        let mut grants = Grants { sets: Vec::new(), of_privilege: Vec::new(), words };
        let mut known: HashMap<Vec<usize>, u32> = HashMap::new();
        let mut unfolded = 0;
        for mut list in assignments_of {
            // A role may have the privilege twice, and roles come in the order of roles: the rules' order decides.
            list.sort_unstable();
            list.dedup();
            if let Some(set) = known.get(&list) {
                grants.of_privilege.push(*set);
                continue;
            }
            unfolded += list.iter().map(|i| table.assignments[*i].1.len()).sum::<usize>();
            bounded(unfolded, place)?;
            let set = super::intern::index(grants.sets.len());
            grants.sets.push(GrantSet::build(table, &list, words));
            grants.of_privilege.push(set);
            known.insert(list, set);
        }
        Ok(grants)
    }

    pub(super) fn set_of(&self, privilege: u16) -> u32 {
        self.of_privilege[usize::from(privilege)]
    }

    pub(super) fn set(&self, number: u32) -> &GrantSet {
        &self.sets[number as usize]
    }

    /// One set for the privileges of a condition, `granted` in order with their sets.
    pub(super) fn merged(&self, granted: &[(u16, u32)]) -> Merged {
        let mut first: BTreeMap<u16, (u16, u16)> = BTreeMap::new();
        for &(privilege, set) in granted {
            let set = self.set(set);
            for (identity, role) in set.identities.iter().zip(&set.roles) {
                first.entry(*identity).or_insert((privilege, *role));
            }
        }
        Merged {
            bits: Bits::build(first.keys(), self.words),
            identities: first.keys().copied().collect(),
            grants: first.values().copied().collect(),
        }
    }
}

/// Identities in order, each with the first privilege granted to it, and the role. For the odd rule set with many
/// privileges for one path and query, which would otherwise be asked one by one.
pub(super) struct Merged {
    bits: Bits,
    identities: Box<[u16]>,
    grants: Box<[(u16, u16)]>,
}

impl Merged {
    /// The first privilege granted to any of `matching`: privilege, identity, role.
    pub(super) fn first(&self, matching: &[u64]) -> Option<(u16, u16, u16)> {
        let mut found = None;
        for (word, common) in self.bits.common(matching) {
            let mut rest = common;
            while rest != 0 {
                let at = self.bits.rank(word, rest);
                let (privilege, role) = self.grants[at];
                let this = (privilege, self.identities[at], role);
                found = Some(found.map_or(this, |before: (u16, u16, u16)| before.min(this)));
                rest &= rest - 1;
            }
        }
        found
    }
}

impl GrantSet {
    fn build(table: &RuleTable, assignments: &[usize], words: usize) -> Self {
        let mut role_of: BTreeMap<u16, u16> = BTreeMap::new();
        for assignment in assignments {
            let (role, identities) = &table.assignments[*assignment];
            for identity in identities {
                role_of.entry(*identity).or_insert(*role);
            }
        }
        let bits = (role_of.len() > words).then(|| Bits::build(role_of.keys(), words));
        GrantSet { identities: role_of.keys().copied().collect(), roles: role_of.values().copied().collect(), bits }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }

    /// The first identity of the set that is among `matching`, and the role that grants it.
    pub(super) fn first(&self, matching: &[u64]) -> Option<(u16, u16)> {
        let at = if let Some(bits) = &self.bits {
            let (word, common) = bits.common(matching).find(|(_, common)| *common != 0)?;
            bits.rank(word, common)
        } else {
            self.identities.iter().position(|i| matching[usize::from(*i) / 64] >> (i % 64) & 1 == 1)?
        };
        Some((self.identities[at], self.roles[at]))
    }
}

fn bounded(unfolded: usize, place: &str) -> Result<(), TableError> {
    if unfolded <= MAX_GRANTS {
        return Ok(());
    }
    let message =
        format!("roles and assignments unfold into more than {MAX_GRANTS} grants: put identities into groups");
    Err(TableError::new(format!("{place}.roles"), message))
}
