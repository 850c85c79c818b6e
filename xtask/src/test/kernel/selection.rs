//! Which tests run on another kernel: what depends on the kernel, and no more, because each takes many times as long there.

use super::{super::options::Options, package::Version};

/// Filters of nextest, each with what it shows of a kernel.
const SELECTED: &[(&str, &str)] = &[
    (
        "package(culvert-agent) & binary(kernel)",
        "every program is loaded and attached, and does what it should, hook by hook",
    ),
    (
        "package(culvert-tests) & binary(capture) & (test(an_ipv4_connect) | test(an_ipv6_connect) | test(a_v4_mapped_connect))",
        "connections of both families through the mesh, between two nodes",
    ),
    (
        "package(culvert-tests) & binary(capture) & (test(an_mptcp_connect_is) | test(an_mptcp_listener) | test(a_fast_open_send_is) | test(an_io_uring_connect))",
        "ways to connect that kernels treat in different ways",
    ),
    (
        "package(culvert-tests) & binary(guard)",
        "the guard, end to end: by clsact where there is no tcx",
    ),
    (
        "package(culvert-tests) & binary(policies) & (test(strict_lets_in) | test(an_allow_policy))",
        "policies, with the true client's address",
    ),
    (
        "package(culvert-tests) & binary(handover) & test(agent_and_proxy_may_both_die)",
        "what is pinned outlives those who made it",
    ),
    (
        "package(culvert-tests) & binary(fallback) & test(without_a_proxy_new_connections_go_direct)",
        "the kernel notices that a proxy is gone",
    ),
    (
        "package(culvert-tests) & binary(inside) & (test(the_worker_holds_no_privilege) | test(nothing_is_written_to_netfilter))",
        "seccomp and capabilities; no rule",
    ),
    (
        "package(culvert-tests) & binary(dns) & test(a_service_is_found_by_its_name)",
        "names, over UDP",
    ),
];

/// One filter for all: those above, or what was asked for by words or a filter; without what does not apply to the version.
pub(super) fn filter(options: &Options, version: &Version) -> String {
    let selected = || any(SELECTED.iter().map(|(filter, _)| *filter));
    let asked = options.filter.clone().unwrap_or_else(selected);
    let words: Vec<String> = options.words.iter().map(|word| format!("test({word})")).collect();
    let named = match words.is_empty() {
        true => asked,
        false => format!("({asked}) & ({})", any(&words)),
    };
    version.left_out.iter().fold(format!("({named})"), |filter, (test, _)| {
        format!("{filter} - test({test})")
    })
}

fn any<T: AsRef<str>>(filters: impl IntoIterator<Item = T>) -> String {
    let each = filters.into_iter().map(|filter| format!("({})", filter.as_ref()));
    each.collect::<Vec<_>>().join(" | ")
}
