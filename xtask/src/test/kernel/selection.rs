//! Which tests run on another kernel: what depends on the kernel, and no more, because each takes many times as long there.
//!
//! None of `fallback`: the one that was tried failed on a busy machine at a count of direct connections, after the proxy was back. A
//! proxy that is silent for a second counts as gone, which a guest without KVM may well be; that this is the cause is not shown.

use super::{super::options::Options, package::Version};

/// Filters of nextest, each with what it shows of a kernel.
const SELECTED: &[(&str, &str)] = &[
    (
        "package(culvert-agent) & binary(kernel)",
        "every program is loaded and attached, and does what it should, hook by hook",
    ),
    (
        "package(culvert-tests) & test(/^capture::(an_ipv4_connect|an_ipv6_connect|a_v4_mapped_connect)/)",
        "connections of both families through the mesh, between two nodes",
    ),
    (
        "package(culvert-tests) & test(/^capture::(an_mptcp_connect_is|an_mptcp_listener|a_fast_open_send_is|an_io_uring_connect)/)",
        "ways to connect that kernels treat in different ways",
    ),
    (
        "package(culvert-tests) & test(/^guard::/)",
        "the guard, end to end: by clsact where there is no tcx",
    ),
    (
        "package(culvert-tests) & test(/^policies::(strict_lets_in|an_allow_policy)/)",
        "policies, with the true client's address",
    ),
    (
        "package(culvert-tests) & test(=handover::agent_and_proxy_may_both_die)",
        "what is pinned outlives those who made it",
    ),
    (
        "package(culvert-tests) & test(/^inside::(the_worker_holds_no_privilege|nothing_is_written_to_netfilter)/)",
        "seccomp and capabilities; no rule",
    ),
    (
        "package(culvert-tests) & test(/^dns::a_service_is_found_by_its_name/)",
        "names, over UDP",
    ),
];

/// The short form, which every run of all tests includes: that the programs are loaded and attached there, and carry both families.
const SHORT: &[(&str, &str)] = &[
    (
        "package(culvert-agent) & binary(kernel) & (test(captures_a_connect_between_two_namespaces) | test(takes_a_client_address))",
        "the hooks of both directions",
    ),
    (
        "package(culvert-agent) & binary(kernel) & (test(a_hook_that_the_kernel_lacks) | test(only_the_tunnel_reaches))",
        "the guard by clsact, and the refusal of what there is not",
    ),
    (
        "package(culvert-agent) & binary(kernel) & test(capture_outlives_the_agent)",
        "what is pinned is adopted",
    ),
    (
        "package(culvert-tests) & test(/^capture::(an_ipv4_connect|an_ipv6_connect)/)",
        "connections of both families through the mesh, between two nodes",
    ),
];

/// The filter of the short form.
pub(super) fn short(version: &Version) -> String {
    without(version, &of(SHORT))
}

/// One filter for all: those above, or what was asked for by words or a filter; without what does not apply to the version.
pub(super) fn filter(options: &Options, version: &Version) -> String {
    let asked = options.filter.clone().unwrap_or_else(|| of(SELECTED));
    let words: Vec<String> = options.words.iter().map(|word| format!("test({word})")).collect();
    match words.is_empty() {
        true => without(version, &asked),
        false => without(version, &format!("({asked}) & ({})", any(&words))),
    }
}

fn without(version: &Version, filter: &str) -> String {
    let left_out = version.left_out.iter();
    left_out.fold(format!("({filter})"), |filter, (test, _)| {
        format!("{filter} - test({test})")
    })
}

fn of(list: &[(&str, &str)]) -> String {
    any(list.iter().map(|(filter, _)| *filter))
}

fn any<T: AsRef<str>>(filters: impl IntoIterator<Item = T>) -> String {
    let each = filters.into_iter().map(|filter| format!("({})", filter.as_ref()));
    each.collect::<Vec<_>>().join(" | ")
}
