//! The rules as a flat table, and one decision.
