//! Telling the proxy, and the node's own processes, from everybody else.

use crate::maps::CONFIG;
use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use culvert_abi::Config;

/// Deeper than any cgroup that a container runtime makes.
const LEVELS: i32 = 16;

/// Whether the current task runs in a proxy's cgroup or below it. A cgroup cannot be forged by an application, and needs
/// no cooperation from the proxy.
#[inline(always)]
pub fn is_current(config: &Config) -> bool {
    let [first, second, third, fourth] = config.proxies;
    runs_below(|id| id == first || id == second || id == third || id == fourth)
}

/// Whether the current task, which has a socket in the network namespace with this cookie, is one of the node's own: there,
/// and in no pod.
#[inline(always)]
pub fn is_node(config: &Config, cookie: u64) -> bool {
    config.node != 0 && config.node == cookie && !runs_below(|id| id == config.pods)
}

/// Whether the current task runs in a cgroup that is looked for, or below it.
#[inline(always)]
fn runs_below(is_wanted: impl Fn(u64) -> bool) -> bool {
    // Level by level rather than at a known one: inside a cgroup namespace, the agent cannot tell how deep it is.
    let mut level = 1;
    while level < LEVELS {
        // SAFETY: no preconditions; 0 when the task's cgroup is not that deep.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            return false;
        }
        if is_wanted(id) {
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
