//! Counting, and holding back log lines.

use crate::maps::{COUNTS, LAST_LOG};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use culvert_abi::Counter;

/// Adds one.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTS.get_ptr_mut(counter as u32) {
        // SAFETY: the element belongs to this CPU, and programs of a kind that can interrupt each other count
        // different things; a lost increment would be harmless.
        unsafe { *value += 1 }
    }
}

/// Whether a line may be logged now: at most ten a second on each CPU, so that an application that tries again and
/// again cannot flood the agent's log. The counters tell the whole number.
#[inline(always)]
pub fn may_log() -> bool {
    const INTERVAL_NS: u64 = 100_000_000;
    let Some(last) = LAST_LOG.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the element belongs to this CPU.
    unsafe {
        if now.wrapping_sub(*last) < INTERVAL_NS {
            return false;
        }
        *last = now;
    }
    true
}
