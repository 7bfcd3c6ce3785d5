//! The signature of a request (docs/protocol.md, "Signature"): what is signed, and the handle that can sign.
//!
//! The message is never put together: it runs through a small buffer into the MAC. The key exists once, as the two
//! states of its MAC in locked memory; what leaves this file is a signature.

use std::fmt;
use std::io;

use hmac::KeyInit;
use hmac::block_api::HmacCore;
use hmac::digest::array::Array;
use hmac::digest::block_api::{Buffer, FixedOutputCore, UpdateCore};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::http::{compare_names, hex_digit, trim};
use crate::sys::mem::Locked;

type Mac = HmacCore<Sha256>;

/// HMAC-SHA256 in lower-case hexadecimal digits.
pub type Signature = [u8; 64];

/// `authorizationScheme` of the secure channel, and the first word of the field's value.
pub const SCHEME: &str = "Azure-HMAC-SHA256";

/// The one field of a request that is not signed.
const AUTHORIZATION: &[u8] = b"x-ms-azure-host-authorization";

/// Query parameters that are sorted on the stack. Real requests have at most eight.
const FEW: usize = 16;

/// A latched key: a handle that signs, and never shows what it signs with.
pub struct SigningKey {
    guid: String,
    incarnation: Option<i64>,
    mac: Locked<Mac>,
}

/// Why there is no key. Says nothing about the key's digits.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyError {
    /// Not 8-4-4-4-12 hexadecimal digits. The guid names a file, so nothing else may be in it.
    Guid,
    /// Not 64 hexadecimal digits.
    Digits,
    /// There is no locked memory (`RLIMIT_MEMLOCK`).
    Memory(io::Error),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guid => f.write_str("the key's guid does not have the form 8-4-4-4-12"),
            Self::Digits => f.write_str("the key does not have 64 hexadecimal digits"),
            Self::Memory(cause) => write!(f, "no locked memory for the key, raise RLIMIT_MEMLOCK: {cause}"),
        }
    }
}

impl std::error::Error for KeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Memory(cause) => Some(cause),
            Self::Guid | Self::Digits => None,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("guid", &self.guid).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Takes the key that the host delivered as 64 hexadecimal digits. The caller wipes those.
    ///
    /// # Errors
    /// See [`KeyError`].
    #[expect(clippy::missing_panics_doc, reason = "HMAC takes keys of any length")]
    pub fn new(guid: &str, incarnation: Option<i64>, key_hex: &[u8]) -> Result<Self, KeyError> {
        if !is_guid(guid) {
            return Err(KeyError::Guid);
        }
        let digits: &[u8; 64] = key_hex.try_into().map_err(|_| KeyError::Digits)?;
        let mut key = Zeroizing::new([0_u8; 32]);
        let (pairs, _) = digits.as_chunks::<2>();
        for (byte, [high, low]) in key.iter_mut().zip(pairs) {
            let (high, low) = (hex_digit(*high), hex_digit(*low));
            *byte = high.ok_or(KeyError::Digits)? << 4 | low.ok_or(KeyError::Digits)?;
        }
        let mac = Mac::new_from_slice(&*key).expect("HMAC takes keys of any length");
        let mac = Locked::copy_of(&mac).map_err(KeyError::Memory)?;
        Ok(Self { guid: guid.to_owned(), incarnation, mac })
    }

    /// By which the host knows the key; also the name of its file.
    #[must_use]
    pub fn guid(&self) -> &str {
        &self.guid
    }

    /// How often the key had been reset when it was delivered, where the host says so.
    #[must_use]
    pub fn incarnation(&self) -> Option<i64> {
        self.incarnation
    }

    /// Signs a request in parts, of which `fields` may be in any order and `target` has the origin-form.
    #[must_use]
    pub fn sign_parts(&self, method: &[u8], target: &[u8], fields: &[(&[u8], &[u8])], body: &[u8]) -> Signature {
        let mut sorted: Vec<_> =
            fields.iter().copied().filter(|(name, _)| !name.eq_ignore_ascii_case(AUTHORIZATION)).collect();
        sorted.sort_by(|one, other| compare_names(one.0, other.0)); // stable: the last value stays the last
        let mut parts = target.splitn(2, |byte| *byte == b'?');
        let (path, query) = (parts.next().unwrap_or_default(), parts.next());
        self.sign_sorted(method, body, sorted.into_iter(), path, query)
    }

    /// The value of `x-ms-azure-host-authorization` for a request as in [`SigningKey::sign_parts`].
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "digits are UTF-8")]
    pub fn authorization(&self, method: &[u8], target: &[u8], fields: &[(&[u8], &[u8])], body: &[u8]) -> String {
        let signature = self.sign_parts(method, target, fields, body);
        let signature = std::str::from_utf8(&signature).expect("hexadecimal digits");
        format!("{SCHEME} {} {signature}", self.guid)
    }

    /// Signs a request whose fields come ordered by name (in lower case), repeated ones as they were sent, without
    /// the authorization itself. Allocates only for more than 16 query parameters.
    pub(crate) fn sign_sorted<'a>(
        &self,
        method: &[u8],
        body: &[u8],
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        path: &[u8],
        query: Option<&[u8]>,
    ) -> Signature {
        let mut message = Message::new(&self.mac);
        message.push(method);
        message.push_byte(b'\n');
        message.push(body);
        message.push_byte(b'\n');
        message.push_fields(fields);
        message.push(path);
        message.push_byte(b'\n');
        message.push_parameters(query.unwrap_or_default());
        message.finish()
    }
}

/// 8-4-4-4-12 hexadecimal digits: it becomes the name of a file and part of a target, so nothing else may pass.
#[must_use]
pub fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

const BLOCK: usize = 64;
/// Whole blocks, so that the MAC reads from it; long enough for a typical message in one go.
const BUFFER: usize = 8 * BLOCK;

/// What is signed, on its way into the MAC.
struct Message {
    mac: Mac,
    buffer: [u8; BUFFER],
    used: usize,
}

impl Message {
    fn new(mac: &Mac) -> Self {
        Self { mac: mac.clone(), buffer: [0; BUFFER], used: 0 }
    }

    /// Gives whole blocks to the MAC.
    fn update(mac: &mut Mac, blocks: &[u8]) {
        let (blocks, rest) = Array::slice_as_chunks(blocks);
        debug_assert!(rest.is_empty());
        mac.update_blocks(blocks);
    }

    fn push(&mut self, mut bytes: &[u8]) {
        let room = BUFFER - self.used;
        if bytes.len() >= room {
            let (first, rest) = bytes.split_at(room);
            self.buffer[self.used..].copy_from_slice(first);
            Self::update(&mut self.mac, &self.buffer);
            let whole = rest.len() - rest.len() % BUFFER;
            Self::update(&mut self.mac, &rest[..whole]); // a body is not copied
            bytes = &rest[whole..];
            self.used = 0;
        }
        self.buffer[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    fn push_byte(&mut self, byte: u8) {
        if let Some(place) = self.buffer.get_mut(self.used) {
            *place = byte;
            self.used += 1;
        } else {
            self.push(&[byte]);
        }
    }

    fn push_lower(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.used == BUFFER {
                Self::update(&mut self.mac, &self.buffer);
                self.used = 0;
            }
            let room = &mut self.buffer[self.used..];
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            room[..now.len()].make_ascii_lowercase();
            self.used += now.len();
            bytes = later;
        }
    }

    /// `name:value` lines; of a repeated name only the last.
    fn push_fields<'a>(&mut self, mut fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
        let Some(mut current) = fields.next() else { return };
        loop {
            let next = fields.next();
            if next.is_none_or(|(name, _)| !name.eq_ignore_ascii_case(current.0)) {
                self.push_lower(current.0);
                self.push_byte(b':');
                self.push(trim(current.1));
                self.push_byte(b'\n');
            }
            match next {
                Some(next) => current = next,
                None => return,
            }
        }
    }

    /// Names in lower case, values as they are, sorted by the two written together, each pair once.
    fn push_parameters(&mut self, query: &[u8]) {
        let pairs = query.split(|byte| *byte == b'&').map(Pair::new).filter(|pair| !pair.name.is_empty());
        let mut few = [Pair::default(); FEW];
        let mut count = 0;
        for pair in pairs.clone() {
            if let Some(place) = few.get_mut(count) {
                *place = pair;
            }
            count += 1;
        }
        let mut many = Vec::new();
        let sorted = if count <= FEW {
            &mut few[..count]
        } else {
            many.extend(pairs);
            &mut many[..]
        };
        sorted.sort_by(|one, other| one.written_together().cmp(other.written_together()));

        let mut run = 0; // where those begin that are equal when written together
        for (at, pair) in sorted.iter().enumerate() {
            if at > 0 {
                if sorted[run].written_together().ne(pair.written_together()) {
                    run = at;
                }
                if sorted[run..at].contains(pair) {
                    continue;
                }
                self.push_byte(b'&');
            }
            self.push_lower(pair.name);
            if !pair.value.is_empty() {
                self.push_byte(b'=');
                self.push(pair.value);
            }
        }
    }

    /// Not by value: a value that is moved leaves a copy behind that nobody wipes.
    fn finish(&mut self) -> Signature {
        let whole = self.used - self.used % BLOCK;
        Self::update(&mut self.mac, &self.buffer[..whole]);
        let mut tail = Buffer::<Mac>::default();
        tail.digest_blocks(&self.buffer[whole..self.used], |blocks| self.mac.update_blocks(blocks));
        let mut digest = Array::default();
        self.mac.finalize_fixed_core(&mut tail, &mut digest);
        let mut text = [0; 64];
        let (pairs, _) = text.as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(digest) {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            *pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        }
        text
    }
}

/// One query parameter as on the wire.
#[derive(Clone, Copy, Default)]
struct Pair<'a> {
    name: &'a [u8],
    value: &'a [u8],
}

impl<'a> Pair<'a> {
    fn new(piece: &'a [u8]) -> Self {
        match memchr::memchr(b'=', piece) {
            Some(at) => Self { name: &piece[..at], value: &piece[at + 1..] },
            None => Self { name: piece, value: &[] },
        }
    }

    fn written_together(self) -> impl Iterator<Item = u8> {
        self.name.iter().map(u8::to_ascii_lowercase).chain(self.value.iter().copied())
    }
}

impl PartialEq for Pair<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(other.name) && self.value == other.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "9cf81e97-0316-4ad3-94a7-8ccbdee8ddbf";
    const KEY: &[u8] = b"4A404E635266556A586E3272357538782F413F4428472B4B6250645367566B59";

    fn key() -> SigningKey {
        SigningKey::new(GUID, Some(1), KEY).unwrap()
    }

    fn mac(message: &[u8]) -> String {
        let key = key();
        let mut running = Message::new(&key.mac);
        running.push(message);
        String::from_utf8(running.finish().to_vec()).unwrap()
    }

    #[test]
    fn hello_world() {
        assert_eq!(mac(b"Hello world"), "a15b46f621193876a6d3121b836dc2af4180e2786642e55235ef916fc5b082a3");
    }

    #[test]
    fn a_request_for_the_instance() {
        let fields: &[(&[u8], &[u8])] = &[
            (b"Host", b"169.254.169.254"),
            (b"x-ms-azure-host-date", b"Thu, 01 Jan 2026 00:00:00 GMT"),
            (b"Metadata", b" true "),
            (b"X-MS-Azure-Host-Authorization", b"not signed"),
            (b"x-ms-azure-host-claims", b"{ \"isRoot\": \"true\"}"),
        ];
        let value = key().authorization(b"GET", b"/metadata/instance?api-version=2021-02-01", fields, b"");
        let expected = "40dcaba1dc4d6f7a38cff1418d9304a76416624dd1146ccba80546b01890b155";
        assert_eq!(value, format!("Azure-HMAC-SHA256 {GUID} {expected}"));
    }

    #[test]
    fn a_message_may_come_in_pieces_of_any_size() {
        let message: Vec<u8> = (0..=255).cycle().take(3000).collect();
        let key = key();
        for size in [1, 3, 63, 64, 65, 511, 512, 513, 1500, 3000] {
            let mut running = Message::new(&key.mac);
            message.chunks(size).for_each(|piece| running.push(piece));
            assert_eq!(String::from_utf8(running.finish().to_vec()).unwrap(), mac(&message), "{size}");
        }
    }

    #[test]
    fn a_key_that_is_none_says_why_and_shows_nothing() {
        assert!(matches!(SigningKey::new("../../etc/passwd", None, KEY), Err(KeyError::Guid)));
        assert!(matches!(SigningKey::new(&GUID.replace('-', "/"), None, KEY), Err(KeyError::Guid)));
        assert!(matches!(SigningKey::new(GUID, None, &KEY[1..]), Err(KeyError::Digits)));
        assert!(matches!(SigningKey::new(GUID, None, &[b'g'; 64]), Err(KeyError::Digits)));
        assert_eq!(format!("{:?}", key()), format!("SigningKey {{ guid: {GUID:?}, .. }}"));
    }
}
