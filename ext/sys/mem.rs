//! Memory for secrets: never swapped, never dumped, empty in a child, wiped when it is given back.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;

use super::cerr;

/// A value in pages of its own, which are locked (mlock), left out of core dumps (`MADV_DONTDUMP`), zero in a forked child
/// (`MADV_WIPEONFORK`), and zeroed before they are unmapped.
///
/// A forked child of this process must not use the value: it finds zeros there. `T` therefore has to be a type for
/// which all bits zero cannot harm, such as plain numbers.
pub struct Locked<T> {
    place: NonNull<T>,
}

// SAFETY: `Locked` owns its value like a Box, and gives out shared references only.
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Locked<T> {}

impl<T: Clone> Locked<T> {
    /// Copies `value`, whose own place the caller wipes, into locked memory.
    ///
    /// # Errors
    /// `OutOfMemory` and `PermissionDenied` of mmap, mlock (`RLIMIT_MEMLOCK`) and madvise.
    pub fn copy_of(value: &T) -> io::Result<Self> {
        let length = Self::LENGTH;
        // SAFETY: a new anonymous mapping touches no memory that exists.
        let pages = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if pages == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the three calls are about the mapping just made, from its start, over its length.
        let prepared = cerr(unsafe { libc::mlock(pages, length) })
            .and_then(|_| cerr(unsafe { libc::madvise(pages, length, libc::MADV_DONTDUMP) }))
            .and_then(|_| cerr(unsafe { libc::madvise(pages, length, libc::MADV_WIPEONFORK) }));
        match (prepared, NonNull::new(pages.cast::<T>())) {
            (Ok(_), Some(place)) => {
                // SAFETY: the mapping is page-aligned, longer than a T, and nobody else knows it.
                unsafe { place.write(value.clone()) };
                Ok(Self { place })
            }
            (prepared, _) => {
                // SAFETY: the mapping was made above and is used by nobody.
                unsafe { libc::munmap(pages, length) };
                Err(prepared.err().unwrap_or_else(|| io::ErrorKind::OutOfMemory.into()))
            }
        }
    }
}

impl<T> Locked<T> {
    /// Bytes mapped: whole pages of the smallest size there is; the kernel rounds up where they are larger.
    const LENGTH: usize = {
        assert!(align_of::<T>() <= 4096, "a mapping begins at a page");
        assert!(size_of::<T>() > 0);
        size_of::<T>().next_multiple_of(4096)
    };
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `place` was filled when it was made, is never written again, and lives as long as `self`.
        unsafe { self.place.as_ref() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        let bytes = self.place.as_ptr().cast::<u8>();
        // SAFETY: the value is dropped once, here. Its bytes are then wiped by writes that cannot be left out, and the
        // mapping that `copy_of` made is given back; nobody has a reference, since `self` is borrowed exclusively.
        unsafe {
            self.place.drop_in_place();
            for at in 0..size_of::<T>() {
                bytes.add(at).write_volatile(0);
            }
            libc::munmap(bytes.cast(), Self::LENGTH);
        }
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked(..)")
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::Locked;

    /// The line `name:` of the mapping that holds `address`.
    fn of_mapping(address: usize, name: &str) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let range = line.split(' ').next().unwrap_or_default().split_once('-');
            if let Some((from, to)) = range
                && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
            {
                inside = (from..to).contains(&address);
            } else if inside && line.starts_with(name) {
                return line.to_owned();
            }
        }
        panic!("no {name} for {address:#x}");
    }

    #[test]
    fn the_kernel_says_locked_not_dumped_wiped_on_fork() {
        let secret = Locked::copy_of(&[7_u8; 32]).unwrap();
        assert_eq!(*secret, [7; 32]);
        let flags = of_mapping(std::ptr::from_ref(&*secret).addr(), "VmFlags:");
        for flag in [" lo", " dd", " wf"] {
            assert!(flags.contains(flag), "{flag} in {flags}");
        }
    }

    #[test]
    fn it_shows_nothing() {
        assert_eq!(format!("{:?}", Locked::copy_of(&[7_u8; 32]).unwrap()), "Locked(..)");
    }
}
