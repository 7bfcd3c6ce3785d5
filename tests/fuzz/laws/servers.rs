//! How others read a target: RFC 3986 to the letter, the URL standard of browsers, and a server that forgives
//! everything that some server is known to forgive.

/// Name and value.
pub(super) type Parameter = (Vec<u8>, Vec<u8>);

/// Percent-decoded once; what is no escape stays as it is.
pub(super) fn unquoted(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut out, mut at) = (Vec::new(), 0);
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).expect("two digits"));
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// In lower case, letter by letter; bytes that are no text by ASCII alone.
pub(super) fn folded(bytes: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().flat_map(char::to_lowercase).collect::<String>().into_bytes(),
        Err(_) => bytes.to_ascii_lowercase(),
    }
}

/// Every byte percent-encoded.
pub(super) fn quoted(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("%{byte:02X}").into_bytes()).collect()
}

/// Names and values of a query, each decoded once; those without a name left out.
pub(super) fn parameters(query: &[u8]) -> Vec<Parameter> {
    let text = |part: &[u8]| folded(&unquoted(part));
    let pair = |piece: &[u8]| {
        let at = piece.iter().position(|byte| *byte == b'=');
        let (name, value) = at.map_or((piece, &[][..]), |at| (&piece[..at], &piece[at + 1..]));
        (text(name), text(value))
    };
    query.split(|byte| *byte == b'&').map(pair).filter(|(name, _)| !name.is_empty()).collect()
}

/// Where the most forgiving server would look: it decodes as often as it can, knows `%u`, takes a backslash and what
/// looks like a slash for one, ends a name at NUL and at a semicolon, drops dots and spaces behind it, and resolves.
pub(super) fn lenient(path: &[u8]) -> Vec<Vec<u8>> {
    let mut bytes = path.to_vec();
    loop {
        let decoded = unquoted(&without_percent_u(&bytes));
        if decoded == bytes {
            break;
        }
        bytes = decoded;
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let text: String = text.split('\0').next().unwrap_or_default().chars().map(plain).collect();
    let mut segments: Vec<String> = Vec::new();
    for segment in text.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name.trim_end_matches(['.', ' ']).to_owned()),
        }
    }
    segments.iter().map(|segment| folded(segment.as_bytes())).collect()
}

/// `%u002e` of old Windows servers, as the UTF-8 of that character.
fn without_percent_u(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let code = match &bytes[at..] {
            [b'%', b'u' | b'U', digits @ ..] if digits.len() >= 4 => {
                std::str::from_utf8(&digits[..4]).ok().and_then(|text| u32::from_str_radix(text, 16).ok())
            }
            _ => None,
        };
        if let Some(character) = code.and_then(char::from_u32) {
            out.extend(character.to_string().into_bytes());
            at += 6;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

/// What a conversion to the nearest ASCII makes of a character.
fn plain(character: char) -> char {
    match character {
        '\\' | '\u{2044}' | '\u{2215}' | '\u{2216}' => '/',
        '\u{2024}' => '.',
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character),
        _ => character,
    }
}

/// Path and query as the URL standard (WHATWG) resolves them, each decoded once; nothing for what it cannot read.
pub(super) fn by_the_url_standard(target: &[u8]) -> Option<(Vec<u8>, Vec<Parameter>)> {
    let target = std::str::from_utf8(target).ok()?;
    let url = url::Url::parse(&format!("http://169.254.169.254{target}")).ok()?;
    assert_eq!(url.host_str(), Some("169.254.169.254"), "{target} leads elsewhere");
    assert_eq!((url.port(), url.username(), url.fragment()), (None, "", None), "{target} is more than a path");
    let query = parameters(url.query().unwrap_or_default().as_bytes());
    Some((folded(&unquoted(url.path().as_bytes())), query))
}
