//! Ports for the connections that the proxy makes inside a pod, to the pod's own applications.
//!
//! They all begin and end at the pod's address, so one application port has about 28,000 of them, and one that the proxy
//! closed first is held back for a minute (`TIME_WAIT`): some 470 new connections a second would be the most that a pod
//! could serve. The kernel lifts that for loopback addresses by itself (`tcp_tw_reuse` is 2); the pod's own address is as
//! local, but is not recognised as such, so the pod's namespace is told. A port is then used again once a second has
//! passed, which TCP timestamps make safe (RFC 6191). A value that somebody chose stays.

use std::{fs, io};

/// Of the network namespace of whoever opens it.
const REUSE: &str = "/proc/sys/net/ipv4/tcp_tw_reuse";

const LOOPBACK_ONLY: &str = "2";
const ALWAYS: &str = "1";

/// Lets the network namespace that this thread is in use ports again. Returns whether something changed.
pub(super) fn allow_reuse() -> io::Result<bool> {
    if fs::read_to_string(REUSE)?.trim() != LOOPBACK_ONLY {
        return Ok(false);
    }
    fs::write(REUSE, ALWAYS)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_ports_may_be_used_again_and_the_machines_setting_stays() {
        let before = fs::read_to_string(REUSE).unwrap();
        let inside = || {
            // SAFETY: only this thread's network namespace changes; it shares no other state that unshare would touch.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
            let begun = fs::read_to_string(REUSE).unwrap();
            let changed = allow_reuse().unwrap();
            assert!(!allow_reuse().unwrap(), "what has been said need not be said again");
            (begun, changed, fs::read_to_string(REUSE).unwrap())
        };
        let (begun, changed, after) = std::thread::scope(|scope| scope.spawn(inside).join().unwrap());
        assert_eq!(
            (changed, after.trim()),
            (
                begun.trim() == LOOPBACK_ONLY,
                if changed { ALWAYS } else { begun.trim() }
            )
        );
        assert_eq!(
            fs::read_to_string(REUSE).unwrap(),
            before,
            "only the pod's namespace may be told"
        );
    }
}
