//! Which identities a caller matches, as bits: one look-up per selector, whatever the number of identities.
//!
//! Each selector is a dimension: a set of identities that do not have it (anything matches), and for each value the
//! set of identities that name it. A caller's identities are, over the dimensions, the intersection of "does not
//! have it" with "names what the caller has" (docs/protocol.md, "The decision", 3).

use std::hash::Hash;

use smallvec::SmallVec;

use super::hash::Map;
use super::intern::Interner;
use super::table::{Group, Identity};
use crate::caller::{ExeId, INITIAL_USERNS, Ident};

/// Filesystems whose content somebody else than this machine's root decides: on them a name or an inode number proves
/// nothing, and rules on executables do not hold. `s_magic` of `linux/magic.h`.
const FOREIGN_FILESYSTEMS: [u32; 13] = [
    0x6969,      // nfs
    0x517B,      // smb
    0xFF53_4D42, // cifs
    0xFE53_4D42, // smb2
    0x6573_5546, // fuse, also overlays made by it
    0x0102_1997, // 9p
    0x00C3_6400, // ceph
    0x5346_414F, // afs (openafs)
    0x6B41_4653, // afs (kernel)
    0x7375_7245, // coda
    0x564C,      // ncp
    0x0BD0_0BD0, // lustre
    0x0116_1970, // gfs2, shared between machines
];

pub(super) struct Selectors {
    words: usize,
    users: Dimension<u32>,
    groups_of_uid: Map<u32, Vec<u16>>,
    groups_of_gid: Map<u32, Vec<u16>>,
    groups: Dimension<u16>,
    exes: Dimension<ExeId>,
    name_numbers: Interner,
    names: Dimension<u32>,
    cgroups: Dimension<u64>,
}

impl Selectors {
    pub(super) fn build(identities: &[Identity], groups: &[Group]) -> Self {
        let words = identities.len().div_ceil(64);
        let mut name_numbers = Interner::new();
        let users = Dimension::build(words, identities.iter().map(|i| i.uids.clone()));
        let exes = Dimension::build(words, identities.iter().map(Identity::exe_ids));
        let names = Dimension::build(
            words,
            identities.iter().map(|i| i.process_name.as_ref().map(|n| vec![name_numbers.insert(0, n.as_bytes())])),
        );
        let in_groups = Dimension::build(words, identities.iter().map(|i| i.group.map(|g| vec![g])));
        let cgroups = Dimension::build(words, identities.iter().map(|i| i.cgroups.clone()));
        Selectors {
            words,
            users,
            groups_of_uid: having(groups, |group| &group.uids),
            groups_of_gid: having(groups, |group| &group.gids),
            groups: in_groups,
            exes,
            name_numbers,
            names,
            cgroups,
        }
    }

    /// Length of a set in words of 64 identities.
    pub(super) const fn words(&self) -> usize {
        self.words
    }

    /// Sets the bits of all identities that the caller matches. `scratch` is overwritten.
    pub(super) fn matching(&self, caller: &Ident, bits: &mut Vec<u64>, scratch: &mut Vec<u64>) {
        bits.clear();
        bits.extend_from_slice(&self.users.without);
        if let Some(uid) = caller.rule_uid() {
            self.users.add(&uid, bits);
        }

        self.groups.narrow(bits, scratch, |found| {
            if let Some(uid) = caller.rule_uid() {
                let as_member = self.groups_of_uid.get(&uid).into_iter().flatten();
                let as_captured = self.groups_of_gid.get(&caller.gid).into_iter().flatten();
                for group in as_member.chain(as_captured) {
                    self.groups.add(group, found);
                }
            }
        });
        let (exe, name) = executable(caller);
        self.exes.narrow(bits, scratch, |found| {
            if let Some(exe) = exe {
                self.exes.add(&exe, found);
            }
        });
        self.names.narrow(bits, scratch, |found| {
            if let Some(number) = name.and_then(|name| self.name_numbers.get(0, name)) {
                self.names.add(&number, found);
            }
        });
        self.cgroups.narrow(bits, scratch, |found| self.cgroups.add(&caller.cgroup_id, found));
    }
}

/// What the kernel says of the program, where that can be believed: both the file and its name can be chosen freely
/// inside another user namespace (`prctl(PR_SET_MM_MAP)`).
pub(super) fn executable(caller: &Ident) -> (Option<ExeId>, Option<&[u8]>) {
    if caller.userns_inum != INITIAL_USERNS || FOREIGN_FILESYSTEMS.contains(&caller.exe_sbmagic) {
        return (None, None);
    }
    (caller.exe(), caller.exe_name())
}

fn intersect(bits: &mut [u64], with: &[u64]) {
    for (a, b) in bits.iter_mut().zip(with) {
        *a &= b;
    }
}

/// One kind of selector.
struct Dimension<K> {
    /// Some identity has it.
    used: bool,
    without: Box<[u64]>,
    naming: Map<K, Members>,
}

/// Identities that name one value: a list while that is shorter than bits.
enum Members {
    Few(SmallVec<[u16; 8]>),
    Many(Box<[u64]>),
}

impl<K: Eq + Hash> Dimension<K> {
    /// `values`: for each identity what it accepts; `None` has no such selector.
    fn build(words: usize, values: impl Iterator<Item = Option<Vec<K>>>) -> Self {
        let (mut used, mut without) = (false, vec![0; words]);
        let mut naming: Map<K, Vec<u16>> = Map::default();
        for (identity, accepted) in (0_u16..).zip(values) {
            match accepted {
                None => set(&mut without, identity),
                Some(accepted) => {
                    used = true;
                    for value in accepted {
                        naming.entry(value).or_default().push(identity);
                    }
                }
            }
        }
        let naming = naming.into_iter().map(|(value, list)| (value, Members::of(list, words))).collect();
        Dimension { used, without: without.into_boxed_slice(), naming }
    }

    /// Leaves in `bits` those that do not have this selector and those that `find` adds. `scratch` is overwritten.
    fn narrow(&self, bits: &mut [u64], scratch: &mut Vec<u64>, find: impl FnOnce(&mut [u64])) {
        if self.used {
            scratch.clear();
            scratch.extend_from_slice(&self.without);
            find(scratch);
            intersect(bits, scratch);
        }
    }

    fn add(&self, value: &K, bits: &mut [u64]) {
        match self.naming.get(value) {
            None => {}
            Some(Members::Few(list)) => list.iter().for_each(|identity| set(bits, *identity)),
            Some(Members::Many(more)) => bits.iter_mut().zip(more).for_each(|(a, b)| *a |= b),
        }
    }
}

impl Members {
    fn of(list: Vec<u16>, words: usize) -> Self {
        // A list of u16 takes a quarter of the bytes of as many words, and setting a bit costs more than an OR.
        if list.len() <= words * 2 {
            return Members::Few(list.into());
        }
        let mut bits = vec![0; words];
        for identity in &list {
            set(&mut bits, *identity);
        }
        Members::Many(bits.into_boxed_slice())
    }
}

fn set(bits: &mut [u64], identity: u16) {
    bits[usize::from(identity) / 64] |= 1 << (identity % 64);
}

/// For each id the groups that have it.
fn having(groups: &[Group], ids: impl Fn(&Group) -> &Vec<u32>) -> Map<u32, Vec<u16>> {
    let mut having: Map<u32, Vec<u16>> = Map::default();
    for (number, group) in (0..).zip(groups) {
        for id in ids(group) {
            having.entry(*id).or_default().push(number);
        }
    }
    having
}
