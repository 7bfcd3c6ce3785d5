//! Clocks, in nanoseconds. But for the one of a thread, each is read in user space (vDSO).

/// Since boot, without the time spent suspended: what `bpf_ktime_get_ns` and deadlines count.
#[must_use]
pub fn monotonic_ns() -> u64 {
    u64::try_from(read(libc::CLOCK_MONOTONIC)).unwrap_or(0)
}

/// Since boot, with the time spent suspended: what the host's clock is kept against.
#[must_use]
pub fn boottime_ns() -> i64 {
    read(libc::CLOCK_BOOTTIME)
}

/// Processor time of the calling thread. A system call, unlike the others.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    u64::try_from(read(libc::CLOCK_THREAD_CPUTIME_ID)).unwrap_or(0)
}

/// Since 1970, as this machine believes.
#[must_use]
pub fn realtime_ns() -> i64 {
    read(libc::CLOCK_REALTIME)
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives during the call. The clocks above exist on every kernel we run on, so it cannot fail;
    // if it did, `time` stays zero and every deadline has passed.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
