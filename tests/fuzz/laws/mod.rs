//! What must hold whatever the bytes are: the entry points of the fuzzers, and of `cargo test` by `tests/fuzz/main.rs`.
//!
//! Each takes any bytes and panics when a law is broken. Where a law says what the outcome must be, it is worked out
//! here a second time, slowly and obviously, from the documentation and not from the code.

mod judge;
mod path;
mod request;
mod rules;
mod servers;

/// Takes any bytes, panics when a law is broken.
type Law = fn(&[u8]);

/// Every target by the name of its folder of seeds.
pub(crate) const TARGETS: [(&str, Law); 4] =
    [("path", path::law), ("request", request::law), ("table", rules::law), ("judge", judge::law)];

/// Runs one of them; for the fuzzers, which know a target by its name.
///
/// # Panics
/// A law is broken, or there is no such target.
pub(crate) fn check(target: &str, data: &[u8]) {
    let (_, law) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of the list");
    law(data);
}
