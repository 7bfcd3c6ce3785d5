//! The characters of RFC 9110 and RFC 3986, and the few productions that every message is made of.

use std::cmp::Ordering;

const TOKEN: u8 = 1 << 0;
const TARGET: u8 = 1 << 1;
const ALNUM: u8 = 1 << 2;

/// Which classes a byte is in.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0x21;
    while i < 0x7f {
        #[expect(clippy::cast_possible_truncation, reason = "below 0x7f")]
        let byte = i as u8;
        // RFC 9110, section 5.6.2: tchar is any VCHAR, except delimiters.
        if !matches!(
            byte,
            b'"' | b'('
                | b')'
                | b','
                | b'/'
                | b':'
                | b';'
                | b'<'
                | b'='
                | b'>'
                | b'?'
                | b'@'
                | b'['
                | b'\\'
                | b']'
                | b'{'
                | b'}'
        ) {
            table[i] |= TOKEN;
        }
        // More than RFC 3986 has: clients send quotes, braces and bars as they are, and nobody reads them in two
        // ways. Not the number sign, after which some servers stop to read.
        if byte != b'#' {
            table[i] |= TARGET;
        }
        if byte.is_ascii_alphanumeric() {
            table[i] |= ALNUM;
        }
        i += 1;
    }
    table
}

/// `tchar`: what methods and field names are made of.
pub(super) fn is_token_byte(byte: u8) -> bool {
    CLASS[byte as usize] & TOKEN != 0
}

/// A byte that may stand in a request target.
pub(super) fn is_target_byte(byte: u8) -> bool {
    CLASS[byte as usize] & TARGET != 0
}

pub(super) fn is_alphanumeric(byte: u8) -> bool {
    CLASS[byte as usize] & ALNUM != 0
}

/// `token = 1*tchar`
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

/// True when there is a control character other than the tab. Without early exit, so that it runs in wide registers.
pub(super) fn has_control(text: &[u8]) -> bool {
    let controls = text.iter().map(|byte| u8::from(byte.is_ascii_control()) & u8::from(*byte != b'\t'));
    controls.fold(0, |found, control| found | control) != 0
}

/// Without the optional white space (`OWS`, spaces and tabs) around it.
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let mut text = trim_start(text);
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

pub(super) fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

/// `Content-Length = 1*DIGIT`, without what only some parsers accept: signs, leading zeros (octal to some), lists,
/// and numbers beyond 64 bits.
pub(super) fn content_length(text: &[u8]) -> Option<u64> {
    match text {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] => text.iter().try_fold(0_u64, |sum, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        }),
        _ => None,
    }
}

/// Value of a hexadecimal digit.
pub(crate) const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The order of field names: by byte, in lower case.
pub(crate) fn compare_names(one: &[u8], other: &[u8]) -> Ordering {
    one.iter().map(u8::to_ascii_lowercase).cmp(other.iter().map(u8::to_ascii_lowercase))
}

/// The elements of a comma-separated list, trimmed. Empty elements are passed over (RFC 9110, section 5.6.1.2).
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// Digits of the largest number.
pub(super) const DECIMAL: usize = 20;

/// A number in decimal, at the end of `digits`.
pub(super) fn decimal(mut number: u64, digits: &mut [u8; DECIMAL]) -> &[u8] {
    let mut start = DECIMAL;
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10).to_le_bytes()[0];
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_and_nothing_else() {
        for good in ["0", "1", "42", "18446744073709551615"] {
            assert_eq!(content_length(good.as_bytes()), good.parse().ok());
        }
        for bad in ["", "+1", "-1", "01", "00", "1 ", "0x1", "1,1", "1.0", "1e3", "18446744073709551616", "\u{662}"] {
            assert_eq!(content_length(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        for number in [0, 9, 10, 1234, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; DECIMAL]), number.to_string().as_bytes());
        }
    }

    #[test]
    fn token_is_what_the_rfc_lists() {
        for byte in 0..=255_u8 {
            let listed = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token_byte(byte), listed, "{byte:#x}");
        }
    }

    #[test]
    fn control_characters_are_seen_and_tabs_are_none() {
        for byte in 0..=255_u8 {
            assert_eq!(has_control(&[b'a', byte]), byte.is_ascii_control() && byte != b'\t', "{byte:#x}");
        }
    }
}
