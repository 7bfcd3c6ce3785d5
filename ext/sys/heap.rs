//! The C library's heap.

/// Gives pages that hold nothing any more back to the kernel. Costs about a millisecond: for the moments after
/// a crowd has left and after the start, since the library itself gives back only what lies at the end of its heap.
pub fn give_back() {
    // SAFETY: malloc_trim takes the heap's own locks and moves nothing that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
