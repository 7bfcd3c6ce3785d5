//! SHA-256 of a file's content, for rules on it: far from requests, within a size and a time.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

const PIECE: usize = 128 << 10;

/// The digest in hexadecimal.
///
/// What others wrote into the file's pages is sent to the disk first. From then on each page is write-protected, and a
/// change through a mapping that is still there gives the file a new ctime (docs/extensions.md).
///
/// # Errors
/// `FileTooLarge` for more than `limit` bytes, `TimedOut`, and whatever the file system says.
pub fn sha256(file: &File, limit: u64, time: Duration) -> Result<String> {
    let begin = Instant::now();
    file.sync_data()?;
    let (mut hash, mut piece, mut at) = (Sha256::new(), vec![0; PIECE], 0);
    loop {
        let read = match file.read_at(&mut piece, at) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        at += read as u64;
        if at > limit {
            return Err(Error::from_raw_os_error(EFBIG));
        }
        if begin.elapsed() > time {
            return Err(ErrorKind::TimedOut.into());
        }
        hash.update(&piece[..read]);
    }
    Ok(hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    }))
}

/// "File too large" of Linux on every architecture.
const EFBIG: i32 = 27;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!("gpa-digest-{}-{}", std::process::id(), content.len()));
        File::create(&path).and_then(|mut file| file.write_all(content)).expect("a file can be written");
        let file = File::open(&path).expect("it is there");
        std::fs::remove_file(path).expect("it can be removed");
        file
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_digest_is_that_of_the_standard() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&file(b"abc"), 3, LONG).expect("a digest"), abc);
        // More than one piece: FIPS 180's million of the letter a.
        let million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(sha256(&file(&vec![b'a'; 1_000_000]), 1 << 20, LONG).expect("a digest"), million);
    }

    #[test]
    fn size_and_time_are_bounded() {
        let large = sha256(&file(b"abcd"), 3, LONG).expect_err("too large");
        assert_eq!(large.kind(), ErrorKind::FileTooLarge);
        let late = sha256(&file(b"abcde"), 9, Duration::ZERO).expect_err("too late");
        assert_eq!(late.kind(), ErrorKind::TimedOut);
    }
}
