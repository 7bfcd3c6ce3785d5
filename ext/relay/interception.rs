//! The relay's view of the kernel half: who is calling, and how to reach the host without being caught oneself.

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use crate::caller::{Endpoint, FLAG_ACCEPTED, Ident};
use crate::sys::{bpf, net};

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
///
/// They are answered on sockets of the agent's own cgroup. A listener that was taken over, and what is accepted from
/// it, may belong to a cgroup that is gone (a service manager removes those of a stopped service): then the record is
/// read from the map in which it rides.
#[derive(Debug, Default)]
pub struct KernelInterception(OnceLock<RecordsMap>);

#[derive(Debug)]
struct RecordsMap {
    idents: OwnedFd,
    /// A socket of our cgroup. Asking it says to the kernel half that we make progress, as the option itself would.
    own: OwnedFd,
}

impl KernelInterception {
    /// Gives the map `idents` of bpf/maps.h; done once.
    ///
    /// # Errors
    /// As socket(2).
    pub fn set_map(&self, idents: OwnedFd) -> io::Result<()> {
        let own = net::tcp_socket()?;
        self.0.get_or_init(|| RecordsMap { idents, own });
        Ok(())
    }
}

impl Interception for KernelInterception {
    fn caller(&self, accepted: BorrowedFd<'_>) -> io::Result<Ident> {
        net::ident(accepted).or_else(|error| {
            let Some(map) = self.0.get() else { return Err(error) };
            let ident = bpf::record_of(map.idents.as_fd(), accepted)?;
            if ident.flags & FLAG_ACCEPTED == 0 {
                return Err(error);
            }
            // It carries no record, so this is always an error, and nothing that we want to know.
            let _ = net::ident(map.own.as_fd());
            Ok(ident)
        })
    }

    fn exempt(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        net::exempt(socket)
    }
}
