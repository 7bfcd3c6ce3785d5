//! Who is calling: the record that `bpf/capture.h` fills in connect(), as the relay reads it from an accepted socket.
//!
//! Pure: bytes to a typed value. How the bytes are asked for is `ext/sys/net.rs`.

/// Fields that the record below has, `GPA_ABI` of `bpf/record.h`. Records of an older or newer agent have fewer or more,
/// and the same size; 0 is none.
pub const ABI: u32 = 1;
/// Private socket level and options of `bpf/record.h`.
pub const SOL_GPA: i32 = 0x6770;
pub const SO_IDENT: i32 = 1;
pub const SO_EXEMPT: i32 = 2;
pub const SO_CLAIM: i32 = 3;

pub const FLAG_DIRECT: u32 = 1 << 0;
pub const FLAG_ACCEPTED: u32 = 1 << 1;
pub const FLAG_EXE_KNOWN: u32 = 1 << 2;
pub const FLAG_EXE_NAME: u32 = 1 << 3;

/// Inode number of the initial user namespace (`PROC_USER_INIT_INO`, Linux 3.8).
pub const INITIAL_USERNS: u32 = 0xEFFF_FFFD;

/// `struct gpa_ident` of `bpf/record.h`; field meanings stand there.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ident {
    pub start_boottime: u64,
    pub connect_ns: u64,
    pub cgroup_id: u64,
    pub netns_cookie: u64,
    pub sock_cookie: u64,
    pub exe_ino: u64,
    pub exe_ctime_s: i64,
    pub exe_ctime_ns: u32,
    pub exe_dev: u32,
    pub exe_gen: u32,
    pub exe_sbmagic: u32,
    pub tgid: u32,
    pub tid: u32,
    pub ppid: u32,
    pub pf_flags: u32,
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub egid: u32,
    pub loginuid: u32,
    pub userns_inum: u32,
    pub mntns_inum: u32,
    pub exe_mntns_inum: u32,
    /// Network byte order, as in memory: `u32::from_be` gives the number.
    pub dst_ip4: u32,
    pub dst_port: u16,
    pub family: u16,
    pub mark: u32,
    pub bound_if: u32,
    pub comm: [u8; 16],
    pub gl_comm: [u8; 16],
    pub abi: u32,
    pub flags: u32,
    pub exe_name: [u8; 64],
    pub reserve: [u32; 4],
}

const _: () = assert!(size_of::<Ident>() == 256);

/// The services that the host offers (docs/protocol.md, "Endpoints").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Endpoint {
    Imds = 0,
    WireServer = 1,
    HostGa = 2,
}

impl Endpoint {
    pub const ALL: [Endpoint; 3] = [Endpoint::Imds, Endpoint::WireServer, Endpoint::HostGa];

    /// Address and port on which the host offers it.
    #[must_use]
    pub const fn address(self) -> ([u8; 4], u16) {
        match self {
            Endpoint::Imds => ([169, 254, 169, 254], 80),
            Endpoint::WireServer => ([168, 63, 129, 16], 80),
            Endpoint::HostGa => ([168, 63, 129, 16], 32526),
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Endpoint::Imds => "imds",
            Endpoint::WireServer => "wireserver",
            Endpoint::HostGa => "hostga",
        }
    }
}

impl Ident {
    /// A record with every field zero and the current version; for tests and for unknown callers in records.
    #[must_use]
    pub const fn zeroed() -> Self {
        Ident {
            start_boottime: 0,
            connect_ns: 0,
            cgroup_id: 0,
            netns_cookie: 0,
            sock_cookie: 0,
            exe_ino: 0,
            exe_ctime_s: 0,
            exe_ctime_ns: 0,
            exe_dev: 0,
            exe_gen: 0,
            exe_sbmagic: 0,
            tgid: 0,
            tid: 0,
            ppid: 0,
            pf_flags: 0,
            uid: 0,
            gid: 0,
            euid: 0,
            egid: 0,
            loginuid: 0,
            userns_inum: 0,
            mntns_inum: 0,
            exe_mntns_inum: 0,
            dst_ip4: 0,
            dst_port: 0,
            family: 0,
            mark: 0,
            bound_if: 0,
            comm: [0; 16],
            gl_comm: [0; 16],
            abi: ABI,
            flags: 0,
            exe_name: [0; 64],
            reserve: [0; 4],
        }
    }

    /// Root is who has real and effective uid 0, whatever the gid (docs/protocol.md, "Rules").
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.uid == 0 && self.euid == 0
    }

    /// True when the caller connected to the listener itself instead of being redirected there.
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.flags & FLAG_DIRECT != 0
    }

    /// The uid under which rules on users and groups may match: none when real and effective differ.
    #[must_use]
    pub const fn rule_uid(&self) -> Option<u32> {
        if self.uid == self.euid { Some(self.uid) } else { None }
    }

    /// The endpoint that the caller asked for; none for a direct connect.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        if self.is_direct() {
            return None;
        }
        let ip = self.dst_ip4.to_ne_bytes();
        Endpoint::ALL.into_iter().find(|e| e.address() == (ip, self.dst_port))
    }

    /// Last component of the executable by dentry, when the kernel gave the whole of it.
    #[must_use]
    pub fn exe_name(&self) -> Option<&[u8]> {
        if self.flags & FLAG_EXE_NAME == 0 {
            return None;
        }
        self.exe_name.split(|b| *b == 0).next()
    }

    /// What rules on the executable compare; unknown outside the initial user namespace, where
    /// `prctl(PR_SET_MM_MAP)` lets a process choose it.
    #[must_use]
    pub const fn exe(&self) -> Option<ExeId> {
        if self.flags & FLAG_EXE_KNOWN == 0 || self.userns_inum != INITIAL_USERNS {
            return None;
        }
        Some(ExeId { dev: self.exe_dev, ino: self.exe_ino, ctime_s: self.exe_ctime_s, ctime_ns: self.exe_ctime_ns })
    }
}

/// An executable file as the kernel tells it apart: device (`major << 20 | minor`), inode, change time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExeId {
    pub dev: u32,
    pub ino: u64,
    pub ctime_s: i64,
    pub ctime_ns: u32,
}
