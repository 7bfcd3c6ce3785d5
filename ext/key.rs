//! The latched key on its way: out of the host's answer, onto the disk, back from it.
//!
//! No Python and no socket of its own: bytes and files in, a checked record out. Every buffer that held key material is
//! zeroized, no buffer grows (a reallocation would leave a copy behind), and no message ever quotes what was read.

pub mod exchange;
pub mod store;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::sign::is_guid;

/// The only scheme there is (docs/protocol.md, "Secure channel").
pub const SCHEME: &str = "Azure-HMAC-SHA256";
/// Digits of a key: 256 bits.
pub const KEY_DIGITS: usize = 64;
/// An answer or a key file is some 300 bytes; what is far larger is something else.
pub const MAX_RECORD: usize = 16 * 1024;

/// Why there is no key. Decides which Python exception is raised; never holds a byte of the key.
#[derive(Debug)]
pub enum Fault {
    /// The file is not there.
    Missing(PathBuf),
    /// The file or folder could have been written, or can be read, by somebody else.
    Untrusted(PathBuf, &'static str),
    /// A system call on a file failed: the disk is full, read-only, broken.
    File(&'static str, PathBuf, io::Error),
    /// What was read is not a key.
    Invalid(&'static str),
    /// The host refused, reset, or did not answer in time.
    Unreachable(io::Error),
    /// The host answered with another status than 200.
    Status(u16),
    /// The host's answer is not HTTP, or not the protocol.
    Garbled(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Missing(path) => write!(f, "there is no {}", path.display()),
            Fault::Untrusted(path, why) => write!(f, "{} is not used: {why}", path.display()),
            Fault::File(what, path, cause) => write!(f, "cannot {what} {}: {cause}", path.display()),
            Fault::Invalid(why) => write!(f, "this is not a key: {why}"),
            Fault::Unreachable(cause) => write!(f, "the host did not answer the request for a key: {cause}"),
            Fault::Status(status) => write!(f, "the host answered the request for a key with status {status}"),
            Fault::Garbled(why) => write!(f, "the host's answer to the request for a key cannot be read: {why}"),
        }
    }
}

impl std::error::Error for Fault {}

/// A checked key, and the JSON that it came in, which is what is stored.
pub struct KeyRecord {
    guid: String,
    incarnation: Option<i64>,
    digits: Zeroizing<[u8; KEY_DIGITS]>,
    json: Zeroizing<Vec<u8>>,
}

/// Borrowed on purpose: a key with escapes in it would be copied by the parser, and is refused instead.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    authorization_scheme: &'a str,
    guid: &'a str,
    key: &'a str,
    #[serde(default)]
    incarnation_id: Option<i64>,
    #[serde(default)]
    issued: Option<&'a str>,
}

impl KeyRecord {
    /// Checks the JSON of an answer or of a key file.
    ///
    /// # Errors
    /// `Invalid`, with what is wrong and without what was read.
    pub fn parse(json: &[u8]) -> Result<Self, Fault> {
        if json.len() > MAX_RECORD {
            return Err(Fault::Invalid("it is too large"));
        }
        let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
        // The parser's own message could quote a value, so it is dropped.
        let answer: Answer<'_> = serde_json::from_slice(json).map_err(|_| {
            Fault::Invalid("it is not JSON with authorizationScheme, guid and key, each a plain string")
        })?;
        if !answer.authorization_scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(Fault::Invalid("its authorizationScheme is unknown"));
        }
        if !is_guid(answer.guid) {
            return Err(Fault::Invalid("its guid is not a GUID"));
        }
        if answer.issued.is_some_and(str::is_empty) {
            return Err(Fault::Invalid("its issued is empty"));
        }
        let digits: &[u8; KEY_DIGITS] =
            answer.key.as_bytes().try_into().map_err(|_| Fault::Invalid("its key does not have 64 digits"))?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Fault::Invalid("its key has something else than hexadecimal digits"));
        }
        Ok(KeyRecord {
            guid: answer.guid.to_owned(),
            incarnation: answer.incarnation_id,
            digits: Zeroizing::new(*digits),
            json: Zeroizing::new(json.to_vec()),
        })
    }

    #[must_use]
    pub fn guid(&self) -> &str {
        &self.guid
    }

    #[must_use]
    pub fn incarnation(&self) -> Option<i64> {
        self.incarnation
    }

    /// The key in hexadecimal, for `SigningKey::new` and nobody else.
    #[must_use]
    pub fn digits(&self) -> &[u8; KEY_DIGITS] {
        &self.digits
    }

    fn json(&self) -> &[u8] {
        &self.json
    }

    /// Name of the file in the key folder: the guid in the host's own letters, as the vendor's agent names it.
    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.key", self.guid))
    }
}

impl fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRecord").field("guid", &self.guid).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const GUID: &str = "9cf7a7d5-4f5e-4a6a-b0c7-5b2a3b4c5d6e";
    pub(crate) const DIGITS: &str = "4A404E635266556A586E3272357538782F413F4428472B4B6250645367566B59";

    pub(crate) fn json() -> String {
        format!(
            r#"{{"authorizationScheme":"Azure-HMAC-SHA256","incarnationId":1,"guid":"{GUID}","issued":"2026-01-01T00:00:00Z","key":"{DIGITS}"}}"#
        )
    }

    #[test]
    fn a_key_is_read() {
        let record = KeyRecord::parse(json().as_bytes()).unwrap();
        assert_eq!(record.guid(), GUID);
        assert_eq!(record.incarnation(), Some(1));
        assert_eq!(record.digits(), DIGITS.as_bytes());
        let without = json().replace(r#""incarnationId":1,"#, "");
        assert_eq!(KeyRecord::parse(without.as_bytes()).unwrap().incarnation(), None);
        assert!(KeyRecord::parse(format!("\u{feff}{}", json()).as_bytes()).is_ok());
    }

    #[test]
    fn what_is_not_a_key_is_refused_without_quoting_it() {
        let cut = DIGITS[..63].to_owned();
        let guid_path = format!("../{}", &GUID[3..]);
        for (old, new) in [
            (DIGITS, cut.as_str()),
            (DIGITS, ""),
            (DIGITS, "4A404E635266556A586E3272357538782F413F4428472B4B6250645367566B5G"),
            (GUID, guid_path.as_str()),
            (GUID, ""),
            ("Azure-HMAC-SHA256", "Basic"),
            ("2026-01-01T00:00:00Z", ""),
            ("\"key\"", "\"kex\""),
            ("4A40", "\\u0034A40"),
            (r#""incarnationId":1"#, r#""incarnationId":"1""#),
            (r#""incarnationId":1"#, r#""incarnationId":1.5"#),
            (r#""guid":"#, r#""key":"#),
        ] {
            let text = json().replace(old, new);
            assert_ne!(text, json());
            let words = KeyRecord::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(!words.contains("4A404E63"), "{words}");
        }
        for bytes in [&b""[..], b"null", b"[]", b"{", b"\xff"] {
            assert!(KeyRecord::parse(bytes).is_err());
        }
        assert!(KeyRecord::parse(&vec![b' '; MAX_RECORD + 1]).is_err());
    }

    #[test]
    fn every_cut_is_refused() {
        let whole = json();
        for end in 0..whole.len() {
            assert!(KeyRecord::parse(&whole.as_bytes()[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn debug_shows_the_guid_only() {
        let text = format!("{:?}", KeyRecord::parse(json().as_bytes()).unwrap());
        assert!(text.contains(GUID) && !text.contains("4A40"), "{text}");
    }
}
