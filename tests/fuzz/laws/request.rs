//! A whole head: read, judged, and written for the host.

use std::sync::LazyLock;

use _native::caller::{Endpoint, FLAG_EXE_KNOWN, FLAG_EXE_NAME, INITIAL_USERNS, Ident};
use _native::error::Refusal;
use _native::http::canonical::Canonical;
use _native::http::forward::{Forward, write_request};
use _native::http::head::{Method, RequestHead};
use _native::http::{Framing, Progress};
use _native::policy::Snapshot;
use _native::sign::SigningKey;
use serde_json::{Value, json};

use super::{path, rules, servers};

const DATE: &[u8; 29] = b"Thu, 01 Jan 2026 00:00:00 GMT";

/// Rules in which targets that are near the seeds meet something.
static RULES: LazyLock<(Value, Snapshot)> = LazyLock::new(|| {
    let identity =
        |uids: Value| json!({"uids": uids, "group": null, "exes": null, "processName": null, "cgroups": null});
    let table = rules::table(&json!({"id": "x", "defaultAllowed": false,
        "privileges": [{"path": "/metadata/instance", "query": [], "methods": ["GET"]},
            {"path": "/metadata", "query": [["api-version", "2021-02-01"]], "methods": null}, {"path": "/a%20b", "query": [["x", ""]], "methods": null}],
        "groups": [], "identities": [identity(json!([1000])), identity(json!([0]))],
        "roles": [[0, 2], [1]], "assignments": [[0, [0]], [1, [0, 1]]],
        "known": {"exes": null, "cgroups": null}}));
    let snapshot = Snapshot::from_table(1, table.to_string().as_bytes(), None).expect("a good table");
    (table, snapshot)
});

static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    const DIGITS: &[u8] = b"4A404E635266556A586E3272357538782F413F4428472B4B6250645367566B59";
    SigningKey::new("9cf81e97-0316-4ad3-94a7-8ccbdee8ddbf", Some(1), DIGITS).expect("a good key")
});

/// The first byte says where the message is cut, the rest is the message.
pub(super) fn law(data: &[u8]) {
    let Some((cut, message)) = data.split_first() else { return };
    let mut head = RequestHead::new();
    let outcome = head.parse(message);
    in_pieces(message, usize::from(*cut), outcome, &head);
    if outcome == Ok(Progress::Complete) {
        as_others_read_it(&head, message);
        judged(&head, message);
        sent_on(&head, message);
    }
}

/// What is found does not depend on how the bytes came, nor on those behind the head.
fn in_pieces(message: &[u8], cut: usize, outcome: Result<Progress, Refusal>, head: &RequestHead) {
    let mut slow = RequestHead::new();
    let first = cut.min(message.len());
    let mut found = slow.parse(&message[..first]);
    if found == Ok(Progress::Incomplete) {
        found = slow.parse(message);
    }
    assert_eq!(found, outcome, "cut at {first}");
    if found == Ok(Progress::Complete) {
        assert_eq!(format!("{slow:?}"), format!("{head:?}"), "cut at {first}");
        let mut alone = RequestHead::new();
        assert_eq!(alone.parse(&message[..head.head_len()]), Ok(Progress::Complete));
        assert_eq!(format!("{alone:?}"), format!("{head:?}"), "without what is behind it");
    }
}

fn as_others_read_it(head: &RequestHead, message: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut other = httparse::Request::new(&mut fields);
    assert_eq!(other.parse(message), Ok(httparse::Status::Complete(head.head_len())));
    assert_eq!(other.method.map(str::as_bytes), Some(head.method(message)));
    assert!(other.path.is_some_and(|target| target.as_bytes().ends_with(head.target(message))));
    let theirs = other.headers.iter().map(|field| (field.name.as_bytes(), field.value));
    assert!(theirs.eq(head.fields().iter().map(|field| (field.name(message), field.value(message)))));
}

fn judged(head: &RequestHead, message: &[u8]) {
    let (target, query) = (head.target(message), head.query(message));
    assert_eq!(path::split(target), (head.path(message), query));
    let mut canonical = Canonical::new();
    if canonical.canonicalise(head.path(message), query).is_err() {
        return;
    }
    path::accepted(&canonical, head.path(message), query);
    let (path, parameters) = servers::by_the_url_standard(target).expect("a target that goes on is a URL's");
    assert_eq!(path, canonical.path(), "{}", target.escape_ascii());
    let ours = canonical.parameters().map(|(name, value)| (name.to_vec(), value.to_vec()));
    assert!(ours.eq(parameters), "{}", target.escape_ascii());

    let Some(method) = Method::parse(head.method(message)) else { return };
    let (table, snapshot) = &*RULES;
    for (endpoint, uid) in [(Endpoint::Imds, 1000), (Endpoint::Imds, 0), (Endpoint::WireServer, 1000)] {
        rules::decided_as_written(table, snapshot, endpoint, &caller(uid), method, &canonical);
    }
}

/// A user who runs a known program.
pub(super) fn caller(uid: u32) -> Ident {
    let flags = FLAG_EXE_KNOWN | FLAG_EXE_NAME;
    Ident { uid, euid: uid, userns_inum: INITIAL_USERNS, flags, ..Ident::zeroed() }
}

/// What goes to the host is a head that we would let through, and says what the caller's said.
fn sent_on(head: &RequestHead, message: &[u8]) {
    // With our fields a head may outgrow the limits that we have for callers.
    if head.check_endpoint(message, Endpoint::Imds).is_err() || head.fields().len() > 124 || message.len() > 60_000 {
        return;
    }
    let body = match head.framing() {
        Framing::None | Framing::Length(0) => &b""[..],
        Framing::Chunked => b"hello",
        Framing::Length(_) | Framing::UntilClose => return,
    };
    let forward = Forward {
        buf: message,
        head,
        endpoint: Endpoint::Imds,
        is_root: false,
        date: DATE,
        body: Some(body),
        streamed_length: None,
        key: Some(&KEY),
    };
    let mut out = Vec::new();
    assert!(write_request(&mut out, &forward));
    let mut again = RequestHead::new();
    assert_eq!(again.parse(&out), Ok(Progress::Complete), "{}", out.escape_ascii());
    assert_eq!(again.head_len(), out.len());
    assert_eq!(again.method(&out), head.method(message));
    assert_eq!(again.target(&out), head.target(message));
    let length = if head.framing() == Framing::Chunked { Framing::Length(5) } else { head.framing() };
    assert_eq!(again.framing(), length);

    // The caller's fields in their order, some of them left out; ours behind them, each once.
    let ours: Vec<String> =
        again.fields().iter().map(|field| field.name(&out).escape_ascii().to_string().to_lowercase()).collect();
    let names = ["x-ms-azure-host-claims", "x-ms-azure-host-date", "x-ms-azure-host-authorization"];
    assert!(ours.ends_with(&names.map(str::to_owned)), "{ours:?}");
    assert!(names.iter().all(|name| ours.iter().filter(|other| other == name).count() == 1), "{ours:?}");
    let mut theirs = head.fields().iter().map(|field| (field.name(message), field.value(message)));
    let own = names.len() + usize::from(head.framing() == Framing::Chunked);
    for field in &again.fields()[..again.fields().len() - own] {
        let (name, value) = (field.name(&out), field.value(&out));
        assert!(theirs.any(|their| their == (name, value)), "{} is nobody's", name.escape_ascii());
    }
}
