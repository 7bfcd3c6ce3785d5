//! Records shared with C, as the bytes that they are.

use crate::audit::AuditRow;
use crate::caller::Ident;

/// A `#[repr(C)]` record of integers and byte arrays without padding: every byte is initialised and every pattern of
/// bits is a value.
///
/// # Safety
/// The type must be what the first sentence says.
pub unsafe trait Plain: Copy {}

// SAFETY: repr(C), integers and byte arrays only; the size asserted beside the type is the sum of its fields.
unsafe impl Plain for Ident {}
// SAFETY: as above; its first field is an `Ident`.
unsafe impl Plain for AuditRow {}

/// The bytes of a record.
pub fn bytes_of<T: Plain>(record: &T) -> &[u8] {
    // SAFETY: `Plain` has no padding, so all `size_of` bytes are initialised; they are borrowed as long as `record`.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast(), size_of::<T>()) }
}

/// A record from its bytes; none when there are not exactly as many as it has.
#[must_use]
pub fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: the length is checked, every pattern of bits is valid, and the read asks for no alignment.
    (bytes.len() == size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
