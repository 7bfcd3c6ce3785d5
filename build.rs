//! Nothing to build without the feature `extension`.
fn main() {}
