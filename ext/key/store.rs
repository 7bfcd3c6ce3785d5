//! Keys on disk: written so that a crash or a power loss leaves the old state or the new one, read only when nobody
//! else could have written or read them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::{Fault, KeyRecord, MAX_RECORD};
use crate::sign::is_guid;
use crate::sys::process::effective_uid;

/// Stores the key in `folder` and gives back what was read again from the disk, which is what may be attested.
///
/// Order: a temporary file 0600, its content synced, renamed, the folder synced, then opened anew, checked and
/// compared. A file that lies in its place with other content is kept under another name, never overwritten.
///
/// # Errors
/// `File` when the disk is full, read-only or broken, `Untrusted` when the folder is not ours alone, `Invalid` when
/// something else was read back.
pub fn store(folder: &Path, record: &KeyRecord) -> Result<KeyRecord, Fault> {
    check_folder(folder)?;
    let path = record.file(folder);
    let temporary = folder.join(format!(".{}.key.tmp", record.guid()));
    remove(&temporary).map_err(|e| Fault::File("remove", temporary.clone(), e))?;
    if let Err(error) = write(&temporary, record.json()) {
        // A full disk must not keep half a key.
        let _ = remove(&temporary);
        return Err(Fault::File("store the key in", folder.to_owned(), error));
    }
    let placed = keep_other(&path, record.json()).and_then(|()| fs::rename(&temporary, &path));
    if let Err(error) = placed {
        let _ = remove(&temporary);
        return Err(Fault::File("put in place", path, error));
    }
    sync_folder(folder).map_err(|e| Fault::File("sync", folder.to_owned(), e))?;

    let back = load(&path)?;
    if back.json() != record.json() {
        return Err(Fault::Invalid("the disk gives back something else than was written"));
    }
    Ok(back)
}

/// Reads and checks a key file.
///
/// # Errors
/// `Missing`, `Untrusted`, `File`, or `Invalid` for a torn file.
pub fn load(path: &Path) -> Result<KeyRecord, Fault> {
    if let Some(folder) = path.parent() {
        check_folder(folder)?;
    }
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).map_err(
        |e| match e.kind() {
            io::ErrorKind::NotFound => Fault::Missing(path.to_owned()),
            _ if e.raw_os_error() == Some(libc::ELOOP) => Fault::Untrusted(path.to_owned(), "it is a link"),
            _ => Fault::File("open", path.to_owned(), e),
        },
    )?;
    let info = file.metadata().map_err(|e| Fault::File("look at", path.to_owned(), e))?;
    if !info.is_file() {
        return Err(Fault::Untrusted(path.to_owned(), "it is not a plain file"));
    }
    check_owner(path, info.uid())?;
    if info.mode() & 0o077 != 0 {
        return Err(Fault::Untrusted(path.to_owned(), "others may read or write it (chmod 600)"));
    }
    if info.nlink() > 1 {
        return Err(Fault::Untrusted(path.to_owned(), "it has a second name"));
    }
    let json = read(&file).map_err(|e| Fault::File("read", path.to_owned(), e))?;
    let record = KeyRecord::parse(&json)?;
    let named = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if is_guid(named) && !named.eq_ignore_ascii_case(record.guid()) {
        return Err(Fault::Invalid("the file's name is the guid of another key"));
    }
    Ok(record)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// One buffer that never grows, one byte more than is allowed so that too much is seen.
fn read(file: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; MAX_RECORD + 1]);
    let mut used = 0;
    while used < bytes.len() {
        match (&*file).read(&mut bytes[used..]) {
            Ok(0) => break,
            Ok(count) => used += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(used);
    Ok(bytes)
}

/// A torn or foreign file of that name goes aside: it is never used, and never deleted.
fn keep_other(path: &Path, json: &[u8]) -> io::Result<()> {
    let info = match fs::symlink_metadata(path) {
        Ok(info) => info,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if info.is_file()
        && let Ok(file) = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
        && read(&file).is_ok_and(|bytes| *bytes == json)
    {
        return Ok(());
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.unused", info.mtime()));
    fs::rename(path, aside)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn check_folder(folder: &Path) -> Result<(), Fault> {
    let info = fs::symlink_metadata(folder).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Fault::Missing(folder.to_owned()),
        _ => Fault::File("look at", folder.to_owned(), e),
    })?;
    if !info.is_dir() {
        return Err(Fault::Untrusted(folder.to_owned(), "it is not a folder"));
    }
    check_owner(folder, info.uid())?;
    if info.mode() & 0o022 != 0 {
        return Err(Fault::Untrusted(folder.to_owned(), "others may write it (chmod 700)"));
    }
    Ok(())
}

fn check_owner(path: &Path, uid: u32) -> Result<(), Fault> {
    if uid == 0 || uid == effective_uid() {
        return Ok(());
    }
    Err(Fault::Untrusted(path.to_owned(), "it belongs to somebody else"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::super::tests::{DIGITS, GUID, json};
    use super::*;

    /// A folder of the test's own, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gpa-key-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            Folder(path)
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> =
                fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn key(&self) -> PathBuf {
            self.0.join(format!("{GUID}.key"))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn record() -> KeyRecord {
        KeyRecord::parse(json().as_bytes()).unwrap()
    }

    #[test]
    fn a_key_is_stored_and_read_back() {
        let folder = Folder::new("stored");
        fs::write(folder.0.join(format!(".{GUID}.key.tmp")), "of a crash").unwrap();
        let back = store(&folder.0, &record()).unwrap();
        assert_eq!(back.digits(), DIGITS.as_bytes());
        assert_eq!(folder.names(), [format!("{GUID}.key")]);
        assert_eq!(fs::metadata(folder.key()).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(load(&folder.key()).unwrap().guid(), GUID);
        store(&folder.0, &record()).unwrap();
        assert_eq!(folder.names().len(), 1);
    }

    #[test]
    fn a_torn_file_is_kept_aside_and_not_used() {
        let folder = Folder::new("torn");
        fs::write(folder.key(), &json()[..40]).unwrap();
        fs::set_permissions(folder.key(), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(load(&folder.key()), Err(Fault::Invalid(_))));
        store(&folder.0, &record()).unwrap();
        let names = folder.names();
        assert_eq!(names.len(), 2);
        assert!(names[1].ends_with(".unused"), "{names:?}");
    }

    #[test]
    fn what_others_could_have_touched_is_not_used() {
        let folder = Folder::new("trust");
        assert!(matches!(load(&folder.key()), Err(Fault::Missing(_))));
        store(&folder.0, &record()).unwrap();
        for (mode, right) in [(0o640, false), (0o602, false), (0o400, true), (0o600, true)] {
            fs::set_permissions(folder.key(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(load(&folder.key()).is_ok(), right, "{mode:o}");
        }
        let second = folder.0.join("second");
        fs::hard_link(folder.key(), &second).unwrap();
        assert!(matches!(load(&folder.key()), Err(Fault::Untrusted(_, "it has a second name"))));
        fs::remove_file(&second).unwrap();
        let other = folder.0.join("aaaaaaaa-4f5e-4a6a-b0c7-5b2a3b4c5d6e.key");
        symlink(folder.key(), &other).unwrap();
        assert!(matches!(load(&other), Err(Fault::Untrusted(_, "it is a link"))));
        fs::remove_file(&other).unwrap();
        fs::rename(folder.key(), &other).unwrap();
        assert!(matches!(load(&other), Err(Fault::Invalid(_))));
        fs::remove_file(&other).unwrap();

        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(store(&folder.0, &record()), Err(Fault::Untrusted(..))));
        assert!(matches!(store(&folder.key(), &record()), Err(Fault::Missing(_))));
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let folder = Folder::new("link");
        let target = folder.0.join("target");
        fs::write(&target, "precious").unwrap();
        symlink(&target, folder.key()).unwrap();
        store(&folder.0, &record()).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert!(load(&folder.key()).is_ok());
    }

    #[test]
    fn a_full_disk_leaves_no_half_key() {
        // /dev/full cannot stand for a folder; a name that cannot be created fails at the same step.
        let folder = Folder::new("full");
        fs::create_dir(folder.0.join(format!(".{GUID}.key.tmp"))).unwrap();
        let fault = store(&folder.0, &record()).unwrap_err();
        assert!(matches!(fault, Fault::File(..)), "{fault}");
        assert!(!folder.key().exists());
        assert!(!fault.to_string().contains("4A40"));
    }
}
