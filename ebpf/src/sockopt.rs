//! Socket options by which the proxy and the programs talk. Attached to the cgroups of the proxy (and of the agent, which
//! opens listeners for it) alone, because it costs on every option of every socket there.

use crate::{
    count::count,
    dns,
    maps::FLOWS,
    note,
    verdict::{ALLOW, EALREADY, EINVAL, ENOBUFS, ENOENT, deny},
};
use aya_ebpf::{bindings::bpf_sockopt, programs::SockoptContext};
use core::ptr::{addr_of_mut, write_volatile};
use culvert_abi::{
    CULVERT_CLAIM, CULVERT_CLIENT_ADDRESS, Claim, Counter, Endpoint, Noted, SO_ORIGINAL_DST, SOL_CULVERT, SOL_IP,
    SOL_IPV6,
};

/// Instead of a length: the kernel's own `setsockopt` is not run.
const HANDLED: i32 = -1;
/// Longer values are not shown to programs as a whole; a length of 0 leaves them to the kernel.
const PAGE: i32 = 4096;

/// `sockaddr_in`, in 32-bit words.
type SockaddrIn = [u32; 4];
/// `sockaddr_in6`, in 32-bit words.
type SockaddrIn6 = [u32; 7];

/// Answers `SO_ORIGINAL_DST` as netfilter would, as often as it is asked.
#[inline(always)]
pub fn get(context: &SockoptContext) {
    let option = context.sockopt;
    // SAFETY: the context is valid while the program runs.
    unsafe {
        if (*option).optname != SO_ORIGINAL_DST || ((*option).level != SOL_IP && (*option).level != SOL_IPV6) {
            if (*option).optlen > PAGE {
                write_volatile(addr_of_mut!((*option).optlen), 0);
            }
            return;
        }
        if let Some(resolver) = dns::of_socket(context) {
            answer(option, resolver);
            return;
        }
        let noted = note::on((*option).__bindgen_anon_1.sk).filter(|noted| noted.role == Noted::ACCEPTED_CAPTURED);
        let Some(noted) = noted else {
            return count(Counter::OriginalUnknown);
        };
        if answer(option, &noted.endpoint) {
            count(Counter::OriginalAnswered);
        } else {
            count(Counter::OriginalUnknown);
        }
    }
}

/// # Safety
/// A valid context.
#[inline(always)]
unsafe fn answer(option: *mut bpf_sockopt, endpoint: &Endpoint) -> bool {
    const AF_INET: u32 = 2;
    const AF_INET6: u32 = 10;
    // Family in host byte order, then port in network byte order.
    let word = |family: u32| family.to_le() | u32::from((endpoint.port as u16).to_be()) << 16;
    // SAFETY: the context is valid; the verifier sees the bounds checked before each store.
    unsafe {
        let start = (*option).__bindgen_anon_2.optval;
        let end = (*option).__bindgen_anon_3.optval_end;
        let length = if (*option).level == SOL_IP {
            let value = start.cast::<SockaddrIn>();
            if !endpoint.address.is_v4() || value.add(1).cast() > end {
                return false;
            }
            (*value)[0] = word(AF_INET);
            (*value)[1] = endpoint.address.0[3];
            (*value)[2] = 0;
            (*value)[3] = 0;
            size_of::<SockaddrIn>()
        } else {
            let value = start.cast::<SockaddrIn6>();
            if endpoint.address.is_v4() || value.add(1).cast() > end {
                return false;
            }
            (*value)[0] = word(AF_INET6);
            (*value)[1] = 0;
            (*value)[2] = endpoint.address.0[0];
            (*value)[3] = endpoint.address.0[1];
            (*value)[4] = endpoint.address.0[2];
            (*value)[5] = endpoint.address.0[3];
            (*value)[6] = 0;
            size_of::<SockaddrIn6>()
        };
        write_volatile(addr_of_mut!((*option).optlen), length as i32);
        write_volatile(addr_of_mut!((*option).retval), 0);
    }
    true
}

/// Takes the client's address from the proxy; every other option goes to the kernel.
#[inline(always)]
pub fn set(context: &SockoptContext) -> i32 {
    let option = context.sockopt;
    // SAFETY: the context is valid; the verifier sees the bounds checked before the load.
    unsafe {
        if (*option).level != SOL_CULVERT {
            if (*option).optlen > PAGE {
                write_volatile(addr_of_mut!((*option).optlen), 0);
            }
            return ALLOW;
        }
        if (*option).optname == CULVERT_CLAIM {
            return claim(option);
        }
        let value = (*option).__bindgen_anon_2.optval.cast::<Endpoint>();
        let end = (*option).__bindgen_anon_3.optval_end;
        if (*option).optname != CULVERT_CLIENT_ADDRESS || value.add(1).cast() > end {
            count(Counter::ClientInvalid);
            return deny(EINVAL);
        }
        let noted = Noted {
            endpoint: value.read(),
            role: Noted::FORWARDED,
        };
        if !note::put((*option).__bindgen_anon_1.sk, &noted) {
            count(Counter::ClientInvalid);
            return deny(ENOBUFS);
        }
        write_volatile(addr_of_mut!((*option).optlen), HANDLED);
        count(Counter::ClientSet);
        ALLOW
    }
}

/// Gives a held connection to the proxy that asks for it, and says on the socket that asked where it is to go.
///
/// # Safety
/// A valid context.
#[inline(always)]
unsafe fn claim(option: *mut bpf_sockopt) -> i32 {
    // SAFETY: the context is valid; the verifier sees the bounds checked before the load.
    unsafe {
        let value = (*option).__bindgen_anon_2.optval.cast::<Claim>();
        let end = (*option).__bindgen_anon_3.optval_end;
        if value.add(1).cast() > end {
            count(Counter::ClientInvalid);
            return deny(EINVAL);
        }
        let Claim { flow, claimant, .. } = value.read();
        let Some(found) = FLOWS.get_ptr_mut(&flow) else {
            count(Counter::HeldUnknown);
            return deny(ENOENT);
        };
        if (*found).kind() != Noted::HELD {
            count(Counter::HeldUnknown);
            return deny(ENOENT);
        }
        write_volatile(addr_of_mut!((*option).optlen), HANDLED);
        if claimant == 0 {
            (*found).role = Noted::HELD;
            return ALLOW;
        }
        if claimant == Claim::ACCEPT_FIRST {
            (*found).role = Noted::CAPTURED;
            return ALLOW;
        }
        if (*found).claimant() == claimant {
            count(Counter::HeldUnknown);
            return deny(EALREADY);
        }
        // Two threads of one claimant can both get it, when an application's SYN and its repetition are looked at at once:
        // then one of them finds nobody when it answers.
        (*found).role = Noted::HELD | claimant << Noted::ROLE_BITS;
        let noted = Noted {
            endpoint: (*found).endpoint,
            role: Noted::ACCEPTED_CAPTURED,
        };
        if !note::put((*option).__bindgen_anon_1.sk, &noted) {
            (*found).role = Noted::HELD;
            return deny(ENOBUFS);
        }
        count(Counter::HeldClaimed);
        ALLOW
    }
}
