//! A second signer, slow and obvious, that reads nothing but the bytes which would be sent.

use std::collections::{BTreeMap, BTreeSet};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
const KEY: [u8; 32] = [
    0x4a, 0x40, 0x4e, 0x63, 0x52, 0x66, 0x55, 0x6a, 0x58, 0x6e, 0x32, 0x72, 0x35, 0x75, 0x38, 0x78, 0x2f, 0x41, 0x3f,
    0x44, 0x28, 0x47, 0x2b, 0x4b, 0x62, 0x50, 0x64, 0x53, 0x67, 0x56, 0x6b, 0x59,
];

/// Of the head as sent, without the authorization.
pub(super) fn authorization(head: &[u8], body: &[u8]) -> String {
    format!("Azure-HMAC-SHA256 9cf81e97-0316-4ad3-94a7-8ccbdee8ddbf {}", signature(&message(head, body)))
}

pub(super) fn signature(message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(&KEY).unwrap();
    mac.update(message);
    mac.finalize()
        .into_bytes()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| DIGITS[usize::from(digit)])
        .collect()
}

fn message(head: &[u8], body: &[u8]) -> Vec<u8> {
    // One character a byte, so that text functions do.
    let head: String = head.iter().copied().map(char::from).collect();
    let mut lines = head.strip_suffix("\r\n\r\n").expect("a whole head").split("\r\n");
    let request_line: Vec<&str> = lines.next().unwrap().split(' ').collect();
    let [method, target, _version] = request_line[..] else { panic!("{request_line:?}") };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));

    let mut fields = BTreeMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        fields.insert(name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned());
    }
    fields.remove("x-ms-azure-host-authorization");
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();

    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut seen = BTreeSet::new();
    for piece in query.split('&') {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let pair = (name.to_ascii_lowercase(), value.to_owned());
        if !name.is_empty() && seen.insert(pair.clone()) {
            pairs.push(pair);
        }
    }
    pairs.sort_by_key(|(name, value)| format!("{name}{value}"));
    let written =
        |(name, value): &(String, String)| if value.is_empty() { name.clone() } else { format!("{name}={value}") };
    let parameters: Vec<String> = pairs.iter().map(written).collect();

    let head = format!("{}{path}\n{}", fields.concat(), parameters.join("&"));
    let bytes = |text: &str| text.chars().map(|character| character as u8).collect::<Vec<u8>>();
    [&bytes(method)[..], b"\n", body, b"\n", &bytes(&head)].concat()
}
