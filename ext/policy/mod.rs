//! Who may ask for what: the rules as an immutable flat table, and one decision (docs/protocol.md, "Rules").
//!
//! Pure: no I/O, no clock, no lock. Python validates, merges and resolves names (`src/gpa/rules/`) and hands the result
//! down as JSON; [`Snapshot::from_table`] builds the table once, [`Snapshot::decide`] reads it without allocating.

mod conditions;
mod decide;
mod grants;
mod hash;
mod intern;
mod known;
mod selectors;
mod snapshot;
mod table;
mod verdict;

pub use snapshot::{EndpointPolicy, Mode, Rules, Snapshot};
pub use table::TableError;
pub use verdict::{Grounds, Verdict};

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod tests;
