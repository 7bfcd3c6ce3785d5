//! One row of the audit trail, `struct gpa_audit` of `ext/audit.h`; what the numbers mean stands there.

use crate::caller::Ident;

pub const METHOD_LEN: usize = 8;
pub const TARGET_LEN: usize = 288;
/// "None" in `privilege`, `role` and `identity`.
pub const NO_INDEX: u16 = 0xffff;
/// `endpoint` of requests to the agent itself, and of those to nobody.
pub const ENDPOINT_LOCAL: u8 = 3;
pub const ENDPOINT_NONE: u8 = 255;

/// How a request ended, in the eyes of who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Decision {
    Allow = 0,
    AuditAllow = 1,
    Deny = 2,
    /// Refused for its form, before anything was judged.
    Refused = 3,
    /// Allowed, and then not answered by the host.
    Failed = 4,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct AuditRow {
    pub caller: Ident,
    pub unix_ns: u64,
    pub decision_id: u64,
    pub epoch: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub duration_us: u32,
    pub status: u16,
    pub endpoint: u8,
    pub decision: u8,
    pub reason: u16,
    pub privilege: u16,
    pub role: u16,
    pub identity: u16,
    pub signed: u8,
    pub mode: u8,
    pub target_len: u16,
    pub pad: u32,
    pub method: [u8; METHOD_LEN],
    pub target: [u8; TARGET_LEN],
}

impl Default for AuditRow {
    /// Every field zero.
    fn default() -> Self {
        Self {
            caller: Ident { abi: 0, ..Ident::zeroed() },
            unix_ns: 0,
            decision_id: 0,
            epoch: 0,
            request_bytes: 0,
            response_bytes: 0,
            duration_us: 0,
            status: 0,
            endpoint: 0,
            decision: 0,
            reason: 0,
            privilege: 0,
            role: 0,
            identity: 0,
            signed: 0,
            mode: 0,
            target_len: 0,
            pad: 0,
            method: [0; METHOD_LEN],
            target: [0; TARGET_LEN],
        }
    }
}

const _: () = assert!(size_of::<AuditRow>() == 616);
const _: () = assert!(std::mem::offset_of!(AuditRow, unix_ns) == 256);
const _: () = assert!(std::mem::offset_of!(AuditRow, duration_us) == 296);
const _: () = assert!(std::mem::offset_of!(AuditRow, privilege) == 306);
const _: () = assert!(std::mem::offset_of!(AuditRow, target_len) == 314);
const _: () = assert!(std::mem::offset_of!(AuditRow, method) == 320);
const _: () = assert!(std::mem::offset_of!(AuditRow, target) == 328);

#[cfg(test)]
mod tests;
