//! Connections that stay within a pod are not paced.
//!
//! Where a machine's congestion control is BBR, the kernel sends at a pace that it measures, by timers. Between an application and its
//! proxy there is no network whose pace could be kept: bytes wait for timers there, and a gigabyte costs twice the CPU. What crosses
//! the network is the proxies' tunnel, which keeps what the machine is set up with.

use crate::note;
use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{bpf_getsockopt, bpf_setsockopt},
    programs::SockOpsContext,
};
use culvert_abi::Noted;

const SOL_TCP: i32 = 6;
const TCP_CONGESTION: i32 = 13;
/// `TCP_CA_NAME_MAX`.
const LONGEST: usize = 16;

/// Takes the pace from a socket that was just established, where that faces the proxy or is the proxy's and faces an application.
#[inline(always)]
pub fn stop(context: &SockOpsContext) {
    // SAFETY: the context is valid while the program runs.
    let socket = unsafe { (*context.ops).__bindgen_anon_2.sk };
    // SAFETY: checked, and from the context.
    let Some(noted) = (!socket.is_null()).then(|| unsafe { note::on(socket) }).flatten() else {
        return;
    };
    let within = [
        Noted::CAPTURED,
        Noted::HELD,
        Noted::FORWARDED,
        Noted::ACCEPTED_CAPTURED,
        Noted::ACCEPTED_FORWARDED,
    ];
    if !within.contains(&noted.role) {
        return;
    }
    let mut name = [0u8; LONGEST];
    // SAFETY: the context is valid, and the kernel writes no more than the length.
    let told = unsafe {
        let place = name.as_mut_ptr().cast();
        bpf_getsockopt(context.as_ptr(), SOL_TCP, TCP_CONGESTION, place, LONGEST as i32)
    };
    if told != 0 || [name[0], name[1], name[2]] != *b"bbr" {
        return;
    }
    // Every kernel has this one. Where it cannot be had, the connection is as slow as it was.
    let mut unpaced = *b"reno\0";
    // SAFETY: the context is valid, and the kernel reads no more than the length.
    let _ = unsafe {
        let place = unpaced.as_mut_ptr().cast();
        bpf_setsockopt(context.as_ptr(), SOL_TCP, TCP_CONGESTION, place, 5)
    };
}
