//! Notes on sockets.

use crate::maps::{HAS_MPTCP_HELPER, SOCKETS};
use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::generated::{bpf_sk_storage_get, bpf_skc_to_mptcp_sock},
};
use core::{ffi::c_void, ptr};
use culvert_abi::Noted;

/// The note on a socket, if it ever had one.
///
/// # Safety
/// `socket` comes from the program's context, or from a helper that returned it.
#[inline(always)]
pub unsafe fn on<'a>(socket: *mut bpf_sock) -> Option<&'a mut Noted> {
    // SAFETY: the map exists; the kernel checks the socket. The note lives as long as the socket, which the context
    // holds while the program runs.
    unsafe {
        bpf_sk_storage_get(map(), socket.cast(), ptr::null_mut(), 0)
            .cast::<Noted>()
            .as_mut()
    }
}

/// Puts a note on a socket, over the one that it has. False when the kernel has no memory for it.
///
/// # Safety
/// As for [`on`].
#[inline(always)]
#[must_use]
pub unsafe fn put(socket: *mut bpf_sock, noted: &Noted) -> bool {
    let mut first = *noted;
    let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: as in `on`; `first` is copied by the call.
    let kept = unsafe {
        bpf_sk_storage_get(map(), socket.cast(), ptr::from_mut(&mut first).cast(), flags)
            .cast::<Noted>()
            .as_mut()
    };
    let Some(kept) = kept else { return false };
    *kept = *noted;
    true
}

/// Makes a socket forget what it noted as `role`.
///
/// # Safety
/// As for [`on`].
#[inline(always)]
pub unsafe fn clear(socket: *mut bpf_sock, role: u32) {
    // SAFETY: the caller's promise.
    if let Some(noted) = unsafe { on(socket) }
        && noted.role == role
    {
        noted.role = Noted::NOTHING;
    }
}

/// The MPTCP socket that the application holds, where `socket` is the TCP socket below it. Null for plain TCP.
///
/// Connecting and establishing happen on the TCP socket, but `getpeername` is asked on the MPTCP socket.
///
/// # Safety
/// As for [`on`].
#[inline(always)]
pub unsafe fn above(socket: *mut bpf_sock) -> *mut bpf_sock {
    if HAS_MPTCP_HELPER.load() == 0 {
        return ptr::null_mut();
    }
    // SAFETY: the kernel checks the socket.
    unsafe { bpf_skc_to_mptcp_sock(socket.cast()).cast() }
}

#[inline(always)]
fn map() -> *mut c_void {
    ptr::addr_of!(SOCKETS).cast_mut().cast()
}
