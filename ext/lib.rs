//! `gpa._native`: the path of a request, without Python.
//!
//! Pure parts (`http`, `policy`, `sign`) turn bytes into values and do no I/O; `relay` carries connections; `sys` is
//! the only place that talks to the kernel. PyO3 stands in `python` alone, behind the feature `extension`.

pub mod audit;
pub mod caller;
pub mod digest;
pub mod error;
pub mod http;
pub mod key;
pub mod policy;
pub mod relay;
pub mod sign;
pub mod sys;

#[cfg(feature = "extension")]
mod python;
