//! How a hook refuses: with an error that says what happened, so that the application does what it does without a mesh.
//! `docs/ports-and-addresses.md` has the table.

use crate::maps::HAS_SET_RETVAL;
use aya_ebpf::helpers::generated::bpf_set_retval;

/// The system call goes on.
pub const ALLOW: i32 = 1;
/// The system call fails.
const DENY: i32 = 0;

/// No configuration: the mesh is not up.
pub const ENETDOWN: i32 = 100;
/// No way to there: what the kernel says where there is no route.
pub const ENETUNREACH: i32 = 101;
/// No room for a note. Not `EAGAIN`, which some take for "in progress" and then wait.
pub const ENOBUFS: i32 = 105;
/// Nothing of that name.
pub const ENOENT: i32 = 2;
/// It is so already.
pub const EALREADY: i32 = 114;
/// A malformed option.
pub const EINVAL: i32 = 22;

/// Makes the system call fail with this error; with `EPERM` before Linux 5.18, which offers no choice.
#[inline(always)]
pub fn deny(errno: i32) -> i32 {
    if HAS_SET_RETVAL.load() != 0 {
        // SAFETY: no preconditions; it fails only for numbers that are no errors.
        let _ = unsafe { bpf_set_retval(-errno) };
    }
    DENY
}
