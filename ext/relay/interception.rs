//! The relay's view of the kernel half: who is calling, and how to reach the host without being caught oneself.

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;

use crate::caller::{Endpoint, Ident};
use crate::sys::net;

/// What the relay asks of the interception. Tests and benchmarks, which have no eBPF, answer for themselves.
pub trait Interception: Debug + Send + Sync {
    /// Who made the connection that `accepted` was accepted from.
    ///
    /// # Errors
    /// When nobody knows; the connection is then refused.
    fn caller(&self, accepted: BorrowedFd<'_>) -> io::Result<Ident>;

    /// Exempts a socket of ours from the interception before it connects.
    ///
    /// # Errors
    /// When it cannot be exempted; it must not connect then.
    fn exempt(&self, socket: BorrowedFd<'_>) -> io::Result<()>;

    /// Where the host offers `endpoint`.
    fn address(&self, endpoint: Endpoint) -> ([u8; 4], u16) {
        endpoint.address()
    }
}

/// The real one: private socket options, answered by bpf/handover.h to the agent alone.
#[derive(Clone, Copy, Debug)]
pub struct KernelInterception;

impl Interception for KernelInterception {
    fn caller(&self, accepted: BorrowedFd<'_>) -> io::Result<Ident> {
        net::ident(accepted)
    }

    fn exempt(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        net::exempt(socket)
    }
}
