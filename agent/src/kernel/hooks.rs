//! What the programs take of a kernel, for errors that say it: a kernel that lacks something answers with no more than a number.

use super::{KernelError, load};
use std::{fs, io};

/// What a program needs, and since when Linux has it.
pub(super) fn needs(program: &str) -> &'static str {
    match program {
        load::CONNECT4 | load::CONNECT6 => "cgroup/connect with bpf_get_netns_cookie, since Linux 5.7",
        load::GETPEERNAME4 | load::GETPEERNAME6 => "cgroup/getpeername, since Linux 5.8",
        load::GETSOCKOPT | load::SETSOCKOPT => "cgroup/getsockopt and setsockopt, since Linux 5.3",
        load::GUARD => "a classifier of tc with bpf_skb_load_bytes_relative, since Linux 4.18",
        load::RECVMSG4 | load::RECVMSG6 => "cgroup/recvmsg, since Linux 5.2",
        load::SENDMSG4 | load::SENDMSG6 => "cgroup/sendmsg, since Linux 4.18",
        load::SK_LOOKUP => "sk_lookup, since Linux 5.9",
        load::SOCK_OPS => "sock_ops with bpf_get_netns_cookie, since Linux 5.15",
        _ => "what this kernel may lack",
    }
}

/// The running kernel's release, for example `6.1.0-57-amd64`.
pub(super) fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map_or_else(|_| "an unknown release".to_owned(), |text| text.trim().to_owned())
}

/// The kernel has no tcx.
pub(super) fn no_tcx(source: io::Error) -> KernelError {
    KernelError::NoHook {
        hook: "tcx",
        since: "6.6",
        kernel: release(),
        source,
    }
}
