//! The relay alone as a program, for measurements beside other proxies: no eBPF, no Python, one identity.
//!
//! `relay LISTEN HOST [THREADS]` (addresses as 127.0.0.1:PORT) serves until its standard input ends, reads its records
//! as the agent would, and prints its counters.

use std::io::{self, Read};
use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use _native::caller::{Endpoint, Ident};
use _native::policy::Snapshot;
use _native::relay::{Interception, Relay, RelayConfig};
use _native::sign::SigningKey;

const GUID: &str = "9cf81e97-0316-4ad3-94a7-8ccbdee8ccbf";
const KEY: &[u8] = b"4A404E635266556A586E3272357538782F413F4428472B4B6250645367566B59";
const TABLE: &[u8] = br#"{"endpoints": {
    "imds": {"mode": "enforce", "broken": false, "rules": null},
    "wireserver": {"mode": "enforce", "broken": false, "rules": null},
    "hostga": {"mode": "enforce", "broken": false, "rules": null}}}"#;

/// Everybody is one user who asks IMDS, which is somewhere else.
#[derive(Debug)]
struct Everybody(SocketAddrV4);

impl Interception for Everybody {
    fn caller(&self, accepted: BorrowedFd<'_>) -> io::Result<Ident> {
        // The question costs what it costs in the agent; here nobody answers it.
        let _ = _native::sys::net::ident(accepted);
        let (ip, port) = Endpoint::Imds.address();
        Ok(Ident { uid: 1000, euid: 1000, dst_ip4: u32::from_ne_bytes(ip), dst_port: port, ..Ident::zeroed() })
    }

    fn exempt(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn address(&self, _: Endpoint) -> ([u8; 4], u16) {
        (self.0.ip().octets(), self.0.port())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, host, rest @ ..] = &arguments[..] else { return Err("usage: relay LISTEN HOST [THREADS]".into()) };
    let SocketAddr::V4(host) = host.parse()? else { return Err("the host has an IPv4 address".into()) };
    let threads = rest.first().map_or(Ok(1), |text| text.parse())?;
    let relay =
        Relay::start(RelayConfig { threads, interception: Arc::new(Everybody(host)), ..RelayConfig::default() })?;
    let key = Arc::new(SigningKey::new(GUID, None, KEY).map_err(|_| "a key cannot be locked in memory")?);
    relay.publish(Arc::new(Snapshot::from_table(1, TABLE, Some(key)).map_err(|_| "the table is broken")?));
    relay.listen(TcpListener::bind(listen.parse::<SocketAddr>()?)?.into())?;

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rows = Vec::new();
            while !done.load(Ordering::Relaxed) {
                rows.clear();
                relay.take_records(&mut rows, usize::MAX);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let ended = io::stdin().read_to_end(&mut Vec::new());
        done.store(true, Ordering::Relaxed);
        ended
    })?;
    for (name, value) in relay.counters() {
        println!("{name} {value}");
    }
    Ok(())
}
