//! Telling the proxy from everybody else.

use crate::maps::CONFIG;
use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use culvert_abi::Config;

/// Deeper than any cgroup that a container runtime makes.
const LEVELS: i32 = 16;

/// Whether the current task runs in a proxy's cgroup or below it. A cgroup cannot be forged by an application, and needs
/// no cooperation from the proxy.
#[inline(always)]
pub fn is_current(config: &Config) -> bool {
    // Level by level rather than at a known one: inside a cgroup namespace, the agent cannot tell how deep it is.
    let mut level = 1;
    while level < LEVELS {
        // SAFETY: no preconditions; 0 when the task's cgroup is not that deep.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            return false;
        }
        if id == config.proxies[0] || id == config.proxies[1] || id == config.proxies[2] || id == config.proxies[3] {
            return true;
        }
        level += 1;
    }
    false
}

/// The configuration. Always there, but the verifier wants to see the question.
#[inline(always)]
pub fn config<'a>() -> Option<&'a Config> {
    CONFIG.get(0)
}
