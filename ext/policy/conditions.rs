//! Which privileges match a request: a trie of path segments, and at each node the queries that are asked for.
//!
//! Privileges that ask for the same path, query and methods are one condition. Those of one node stand in a row. Where many
//! of them ask for a query, each hangs under the rarest of its parameters as well, so that a request looks up each
//! parameter that it has and sees only conditions that it nearly meets.
//!
//! Of ten thousand rules most are in no cache when they are asked for, and each pointer costs as much as the rest of the
//! step: what is small is kept in place.

use std::collections::{HashMap, HashSet};

use smallvec::SmallVec;

use super::grants::{Grants, Merged};
use super::hash::{Map, Set};
use super::intern::{Interner, index};
use crate::error::{Reason, Refusal};
use crate::http::canonical::Canonical;
use crate::http::head::Method;

/// The node of the path `/`.
const ROOT: u32 = 0;

/// Distinct named parameters of a request that are kept without allocating (real rule sets name two or three), and
/// privileges of one condition that are asked one by one.
const FEW: usize = 16;

/// Conditions of a node that are looked at one by one: as many as take no longer than one look into a table.
const NEAR: usize = 8;

pub(super) struct Conditions {
    /// Tag: node, bytes: segment; the number plus one is the child.
    children: Interner,
    nodes: Vec<Node>,
    names: Interner,
    /// Tag: number of the name, bytes: value.
    values: Interner,
    /// Node and pair to conditions, for nodes with more than `NEAR` that ask for a query.
    anchored: Map<(u32, u32), Vec<u32>>,
    /// By node.
    list: Vec<Condition>,
}

/// The conditions of a node in the list: those without a query, then the others.
#[derive(Clone, Copy, Default)]
struct Node {
    start: u32,
    plain: u32,
    asking: u32,
}

pub(super) struct Condition {
    /// Numbers of (name, value), each once.
    pairs: SmallVec<[u32; 4]>,
    methods: Methods,
    /// The first of its privileges.
    pub(super) first: u16,
    /// Its privileges that are granted to anybody, in order, and to whom; of those with equal grants only the first.
    pub(super) grants: SmallVec<[(u16, u32); 2]>,
    /// The same in one set, once `grants` is long.
    pub(super) merged: Option<Box<Merged>>,
}

/// One privilege in canonical form.
pub(super) struct Asked {
    pub(super) segments: Vec<Vec<u8>>,
    pub(super) pairs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) methods: Methods,
}

/// Methods for which a privilege is meant, a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Methods(u8);

impl Methods {
    pub(super) const ANY: Methods = Methods(u8::MAX);

    pub(super) fn of(list: &[Method]) -> Self {
        Methods(list.iter().fold(0, |bits, method| bits | 1 << *method as u8))
    }

    const fn has(self, method: Method) -> bool {
        self.0 >> method as u8 & 1 == 1
    }
}

impl Conditions {
    pub(super) fn new() -> Self {
        Conditions {
            children: Interner::new(),
            nodes: vec![Node::default()],
            names: Interner::new(),
            values: Interner::new(),
            anchored: Map::default(),
            list: Vec::new(),
        }
    }

    /// Takes the privileges in their order.
    pub(super) fn build(privileges: impl Iterator<Item = Asked>, grants: &Grants) -> Self {
        let mut this = Self::new();
        let mut known: HashMap<(u32, SmallVec<[u32; 4]>, Methods), u32> = HashMap::new();
        let mut granted: HashSet<(u32, u32)> = HashSet::new();
        for (privilege, asked) in (0_u16..).zip(privileges) {
            let key = (this.node(&asked.segments), this.pairs(&asked.pairs), asked.methods);
            let condition = *known.entry(key).or_insert_with_key(|(_, pairs, methods)| {
                let (pairs, methods, grants) = (pairs.clone(), *methods, SmallVec::new());
                this.list.push(Condition { pairs, methods, first: privilege, grants, merged: None });
                index(this.list.len() - 1)
            });
            let set = grants.set_of(privilege);
            if !grants.set(set).is_empty() && granted.insert((condition, set)) {
                this.list[condition as usize].grants.push((privilege, set));
            }
        }
        for condition in &mut this.list {
            if condition.grants.len() > FEW {
                condition.merged = Some(Box::new(grants.merged(&condition.grants)));
            }
        }
        this.stand(
            known.into_iter().map(|((node, pairs, _), condition)| (node, !pairs.is_empty(), condition)).collect(),
        );
        this.hang();
        this
    }

    fn node(&mut self, segments: &[Vec<u8>]) -> u32 {
        segments.iter().filter(|segment| !segment.is_empty()).fold(ROOT, |node, segment| {
            let child = self.children.insert(node, segment) + 1;
            if child as usize == self.nodes.len() {
                self.nodes.push(Node::default());
            }
            child
        })
    }

    fn pairs(&mut self, pairs: &[(Vec<u8>, Vec<u8>)]) -> SmallVec<[u32; 4]> {
        let mut numbers: SmallVec<[u32; 4]> = pairs
            .iter()
            .map(|(name, value)| {
                let name = self.names.insert(0, name);
                self.values.insert(name, value)
            })
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Puts the conditions into the order of their nodes: node, whether it asks for a query, number until now.
    fn stand(&mut self, mut placed: Vec<(u32, bool, u32)>) {
        placed.sort_unstable();
        let mut from: Vec<Option<Condition>> = self.list.drain(..).map(Some).collect();
        for (node, asks, condition) in placed {
            let here = &mut self.nodes[node as usize];
            if here.plain + here.asking == 0 {
                here.start = index(self.list.len());
            }
            *(if asks { &mut here.asking } else { &mut here.plain }) += 1;
            self.list.extend(from[condition as usize].take());
        }
    }

    fn hang(&mut self) {
        for node in 0..index(self.nodes.len()) {
            let here = self.nodes[node as usize];
            if here.asking as usize <= NEAR {
                continue;
            }
            let numbers = here.start + here.plain..here.start + here.plain + here.asking;
            let mut uses: HashMap<u32, u32> = HashMap::new();
            for number in numbers.clone() {
                self.list[number as usize].pairs.iter().for_each(|pair| *uses.entry(*pair).or_default() += 1);
            }
            for number in numbers {
                let rarest = self.list[number as usize].pairs.iter().min_by_key(|pair| uses[*pair]);
                let anchor = *rarest.expect("it asks for a query");
                self.anchored.entry((node, anchor)).or_default().push(number);
            }
        }
    }

    /// The conditions of a node: without a query, and with one.
    fn conditions(&self, node: Node) -> (&[Condition], &[Condition]) {
        let here = &self.list[node.start as usize..][..(node.plain + node.asking) as usize];
        here.split_at(node.plain as usize)
    }

    /// The parameters of the request that some privilege names.
    ///
    /// # Errors
    /// `AmbiguousQuery`: one of them is there twice with different values, and who reads the request after us may take
    /// either.
    pub(super) fn named<'a>(&self, request: &'a Canonical) -> Result<Named<'a>, Refusal> {
        let mut named = Named::default();
        if self.names.len() == 0 {
            return Ok(named);
        }
        for (name, value) in request.parameters() {
            let Some(name) = self.names.get(0, name) else { continue };
            match named.value_of(name) {
                None => named.push(name, value, self.values.get(name, value)),
                Some(first) if first == value => {}
                Some(_) => return Err(Refusal(Reason::AmbiguousQuery)),
            }
        }
        Ok(named)
    }

    /// Calls `found` with each condition that the request meets.
    pub(super) fn each_met(
        &self,
        method: Method,
        request: &Canonical,
        named: &Named<'_>,
        mut found: impl FnMut(&Condition),
    ) {
        let mut at = Some(ROOT);
        let mut segments = request.segments();
        while let Some(node) = at {
            let (plain, asking) = self.conditions(self.nodes[node as usize]);
            let mut look = |condition: &Condition| {
                if condition.methods.has(method) && condition.pairs.iter().all(|pair| named.has(*pair)) {
                    found(condition);
                }
            };
            plain.iter().for_each(&mut look);
            if asking.len() <= NEAR {
                asking.iter().for_each(&mut look);
            } else {
                let near = named.pairs().filter_map(|anchor| self.anchored.get(&(node, anchor))).flatten();
                near.for_each(|number| look(&self.list[*number as usize]));
            }
            at = segments.next().and_then(|segment| self.children.get(node, segment)).map(|child| child + 1);
        }
    }
}

/// What a request says for the names that rules use; each name once.
#[derive(Default)]
pub(super) struct Named<'a> {
    few: [Option<Parameter<'a>>; FEW],
    len: usize,
    /// By name, once there are more than few.
    many: Map<u32, Parameter<'a>>,
    many_pairs: Set<u32>,
}

#[derive(Clone, Copy)]
struct Parameter<'a> {
    name: u32,
    value: &'a [u8],
    /// Number of (name, value), where some privilege asks for just that.
    pair: Option<u32>,
}

impl<'a> Named<'a> {
    fn few(&self) -> impl Iterator<Item = &Parameter<'a>> {
        self.few[..self.len].iter().flatten()
    }

    fn value_of(&self, name: u32) -> Option<&'a [u8]> {
        let few = self.few().find(|p| p.name == name);
        few.or_else(|| self.many.get(&name)).map(|p| p.value)
    }

    fn push(&mut self, name: u32, value: &'a [u8], pair: Option<u32>) {
        let parameter = Parameter { name, value, pair };
        if self.len < FEW {
            self.few[self.len] = Some(parameter);
            self.len += 1;
            return;
        }
        self.many.insert(name, parameter);
        self.many_pairs.extend(pair);
    }

    fn pairs(&self) -> impl Iterator<Item = u32> {
        self.few().chain(self.many.values()).filter_map(|p| p.pair)
    }

    fn has(&self, pair: u32) -> bool {
        self.few().any(|p| p.pair == Some(pair)) || self.many_pairs.contains(&pair)
    }
}
