//! The relay on real sockets of the loopback, between clients and hosts that follow a script; no eBPF.
//!
//! Each test has a relay and a host of its own. Time limits are set short where a test is about them, and never slept
//! through: every wait is for a byte, the end of a stream, or a record.

mod answers;
mod bodies;
mod descriptors;
mod holding;
mod hosts;
mod limits;
mod local;
mod looks;
mod requests;
mod swaps;
mod threads;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{Interception, Relay, RelayConfig, Relief, Timeouts};
use crate::audit::AuditRow;
use crate::caller::{Endpoint, FLAG_DIRECT, Ident};
use crate::policy::Snapshot;
use crate::sign::SigningKey;
use crate::sys::plain;

/// Longer than any test waits when all is well.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const GUID: &str = "9cf81e97-0316-4ad3-94a7-8ccbdee8ccbf";
pub(super) const KEY: &[u8] = b"4A404E635266556A586E3272357538782F413F4428472B4B6250645367566B59";

/// What stands in for the kernel half.
#[derive(Debug)]
struct Fake {
    caller: Mutex<Option<Ident>>,
    host: SocketAddr,
    /// The next connection to the host meets a bug.
    bug: AtomicBool,
}

impl Interception for Fake {
    fn caller(&self, _: BorrowedFd<'_>) -> io::Result<Ident> {
        self.caller.lock().expect("no test panics with it").ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn exempt(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        assert!(!self.bug.swap(false, Ordering::SeqCst), "a bug, as this test wants it");
        Ok(())
    }

    fn address(&self, _: Endpoint) -> ([u8; 4], u16) {
        (Ipv4Addr::LOCALHOST.octets(), self.host.port())
    }
}

/// Who connected to IMDS, as the kernel would say.
pub(super) fn user(uid: u32, endpoint: Endpoint) -> Ident {
    let (ip, port) = endpoint.address();
    let connect_ns = crate::sys::time::monotonic_ns();
    Ident { uid, euid: uid, dst_ip4: u32::from_ne_bytes(ip), dst_port: port, connect_ns, ..Ident::zeroed() }
}

pub(super) fn direct(uid: u32) -> Ident {
    Ident { uid, euid: uid, flags: FLAG_DIRECT, ..Ident::zeroed() }
}

/// Rules that say nothing, in one mode for all endpoints.
pub(super) fn snapshot(mode: &str, with_key: bool) -> Arc<Snapshot> {
    let entry = format!(r#"{{"mode": "{mode}", "broken": false, "rules": null}}"#);
    let table = format!(r#"{{"endpoints": {{"imds": {entry}, "wireserver": {entry}, "hostga": {entry}}}}}"#);
    let key = with_key.then(|| Arc::new(SigningKey::new(GUID, None, KEY).expect("a good key")));
    Arc::new(Snapshot::from_table(7, table.as_bytes(), key).expect("a good table"))
}

/// A relay, its host, and what both have seen.
pub(super) struct Stage {
    pub(super) relay: Relay,
    pub(super) address: SocketAddr,
    listener: TcpListener,
    fake: Arc<Fake>,
    requests: Receiver<Vec<u8>>,
    connections: Arc<AtomicUsize>,
}

/// One connection that the host has accepted.
pub(super) struct Served {
    pub(super) stream: TcpStream,
    /// How many the host had accepted before.
    pub(super) number: usize,
    seen: Sender<Vec<u8>>,
}

impl Served {
    /// Reads one request, head and body; none at the end of the stream.
    pub(super) fn request(&mut self) -> Option<Vec<u8>> {
        let message = read_message(&mut self.stream)?;
        // The test may have ended.
        let _ = self.seen.send(message.clone());
        Some(message)
    }

    pub(super) fn answer(&mut self, bytes: &[u8]) {
        // The relay may have gone: then the test says so.
        let _ = self.stream.write_all(bytes);
    }

    /// Serves every request with the same bytes.
    pub(super) fn always(mut self, bytes: &[u8]) {
        while self.request().is_some() {
            self.answer(bytes);
        }
    }
}

impl Stage {
    /// A stage in enforce mode with a key, a user of IMDS, and a host that serves each connection with `script`.
    pub(super) fn new(script: impl Fn(Served) + Send + Sync + 'static) -> Self {
        let stage = Self::unready(RelayConfig { threads: 1, ..RelayConfig::default() }, script);
        stage.relay.publish(snapshot("enforce", true));
        stage
    }

    pub(super) fn with_timeouts(timeouts: Timeouts, script: impl Fn(Served) + Send + Sync + 'static) -> Self {
        let stage = Self::unready(RelayConfig { threads: 1, timeouts, ..RelayConfig::default() }, script);
        stage.relay.publish(snapshot("enforce", true));
        stage
    }

    /// The same before anything was published.
    pub(super) fn unready(config: RelayConfig, script: impl Fn(Served) + Send + Sync + 'static) -> Self {
        let host = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let host_address = host.local_addr().expect("bound");
        Self::build(config, host_address, Some((host, script)))
    }

    /// A stage whose host listens nowhere.
    pub(super) fn without_host(timeouts: Timeouts) -> Self {
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a free port");
        let config = RelayConfig { threads: 1, timeouts, ..RelayConfig::default() };
        let stage = Self::build(config, closed, None::<(TcpListener, fn(Served))>);
        stage.relay.publish(snapshot("enforce", true));
        stage
    }

    fn build<S>(mut config: RelayConfig, host_address: SocketAddr, host: Option<(TcpListener, S)>) -> Self
    where
        S: Fn(Served) + Send + Sync + 'static,
    {
        let (seen, requests) = channel();
        let connections = Arc::new(AtomicUsize::new(0));
        if let Some((host, script)) = host {
            let (connections, script) = (Arc::clone(&connections), Arc::new(script));
            thread::spawn(move || {
                loop {
                    let Ok((stream, _)) = host.accept() else {
                        // Out of descriptors, as a test wants it.
                        thread::sleep(Duration::from_millis(1));
                        continue;
                    };
                    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
                    let number = connections.fetch_add(1, Ordering::SeqCst);
                    let served = Served { stream, number, seen: seen.clone() };
                    let script = Arc::clone(&script);
                    thread::spawn(move || script(served));
                }
            });
        }
        let fake = Arc::new(Fake {
            caller: Mutex::new(Some(user(1000, Endpoint::Imds))),
            host: host_address,
            bug: AtomicBool::new(false),
        });
        config.interception = Arc::clone(&fake) as Arc<dyn Interception>;
        let relay = Relay::start(config).expect("a relay");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stage = Self { relay, address, listener, fake, requests, connections };
        stage.relay.listen(stage.listener()).expect("a listening socket");
        stage
    }

    /// The socket that the relay listens on, as one more descriptor.
    pub(super) fn listener(&self) -> OwnedFd {
        self.listener.try_clone().expect("a descriptor").into()
    }

    /// Who the next connections are from.
    pub(super) fn caller(&self, ident: Option<Ident>) {
        *self.fake.caller.lock().expect("no test panics with it") = ident;
    }

    pub(super) fn plant_a_bug(&self) {
        self.fake.bug.store(true, Ordering::SeqCst);
    }

    pub(super) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).expect("the relay listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        Client(stream)
    }

    /// One request on a connection of its own; the answer.
    pub(super) fn ask(&self, request: &[u8]) -> Answer {
        let mut client = self.connect();
        client.send(request);
        client.answer()
    }

    /// The next request that reached the host.
    pub(super) fn seen(&self) -> String {
        let message = self.requests.recv_timeout(PATIENCE).expect("the host saw a request");
        String::from_utf8_lossy(&message).into_owned()
    }

    /// Connections that the host has accepted.
    pub(super) fn host_connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        self.relay.counters().into_iter().find(|(other, _)| *other == name).expect("a counter").1
    }

    /// Waits until a counter has a value.
    pub(super) fn await_counter(&self, name: &str, value: u64) {
        let until = Instant::now() + PATIENCE;
        while self.counter(name) != value {
            assert!(Instant::now() < until, "{name} is {}, not {value}", self.counter(name));
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The next `count` records.
    pub(super) fn records(&self, count: usize) -> Vec<AuditRow> {
        let until = Instant::now() + PATIENCE;
        let mut bytes = Vec::new();
        while bytes.len() < count * size_of::<AuditRow>() {
            assert!(Instant::now() < until, "only {} records", bytes.len() / size_of::<AuditRow>());
            self.relay.take_records(&mut bytes, usize::MAX);
            thread::sleep(Duration::from_millis(1));
        }
        bytes.chunks(size_of::<AuditRow>()).map(|row| plain::from_bytes(row).expect("a whole row")).collect()
    }
}

/// A caller's end of a connection.
pub(super) struct Client(pub(super) TcpStream);

/// What a caller was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

impl Client {
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the relay reads");
    }

    /// Reads one answer with a length, with chunks (given raw), or without a body.
    pub(super) fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    pub(super) fn answer_to(&mut self, method: &str) -> Answer {
        let head = read_head(&mut self.0).expect("an answer");
        let head = String::from_utf8(head).expect("text");
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        let empty = method == "HEAD" || status < 200 || status == 204 || status == 304;
        let body = if empty { Vec::new() } else { read_body(&mut self.0, &head) };
        Answer { status, head, body }
    }

    /// Everything up to the end of the stream.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        match self.0.read_to_end(&mut all) {
            Ok(_) => all,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => all,
            Err(error) => panic!("{error} after {} bytes", all.len()),
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (other, value) = line.split_once(':')?;
        other.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Head and body of a message; none when the stream ends before it.
fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut message = read_head(stream)?;
    let head = String::from_utf8_lossy(&message).into_owned();
    message.extend(if field(&head, "content-length").is_some() { read_body(stream, &head) } else { Vec::new() });
    Some(message)
}

fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(head)
}

fn read_body(stream: &mut TcpStream, head: &str) -> Vec<u8> {
    let mut body = Vec::new();
    if let Some(length) = field(head, "content-length") {
        body.resize(length.parse().expect("a length"), 0);
        if let Err(error) = stream.read_exact(&mut body) {
            assert!(error.kind() == io::ErrorKind::UnexpectedEof, "{error}");
            body.clear();
        }
    } else if field(head, "transfer-encoding").is_some() {
        let mut byte = [0];
        while !body.ends_with(b"0\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => body.push(byte[0]),
                other => panic!("{other:?} in a chunked body: {:?}", String::from_utf8_lossy(&body)),
            }
        }
    } else {
        stream.read_to_end(&mut body).expect("a body");
    }
    body
}

pub(super) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
pub(super) const GET: &[u8] = b"GET /metadata/instance HTTP/1.1\r\nHost: 169.254.169.254\r\nMetadata: true\r\n\r\n";
