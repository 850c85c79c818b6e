//! A proxy's report, its page `/status`: the ranges that it goes by, the addresses that it asked the controller for, and what it
//! is short of. The same for a node of a cluster and for a machine without one.

use crate::line::Line;
use serde_json::Value;

/// How many addresses the controller tells one proxy of; it refuses more.
const MOST_ADDRESSES: u64 = 50_000;
/// From which part of its room on something is reported as nearly full.
pub(super) const NEARLY_FULL: f64 = 0.9;
/// How many ranges are shown.
const SHOWN: usize = 4;

/// A line for each thing that it reports. A proxy that has no such page (an older one, Istio's) has none.
pub(crate) fn judged(place: &str, page: &Value) -> Vec<Line> {
    let lines = [
        ranges(place, page),
        registry_only(place, page),
        subscriptions(place, page),
        descriptors(place, page),
    ];
    lines.into_iter().flatten().collect()
}

/// Without ranges, the proxy cannot tell an address of the mesh that it does not know yet from one that has nothing to do with it.
fn ranges(place: &str, page: &Value) -> Option<Line> {
    const WHAT: &str = "ranges";
    let all: Vec<&str> = page["ranges"]["list"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let first = all.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    let shown = match all.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{first} and {more} more"),
        _ => first,
    };
    if page["ranges"]["from_controller"] == true {
        return Some(match all.is_empty() {
            false => Line::ok(place, WHAT, format!("{shown} (from the controller)")),
            true => Line::warn(
                place,
                WHAT,
                "the controller knows no range of pods and services: connections to private addresses that nobody is known to \
                 have are refused",
                "`culvert install --mesh-cidr` sets them where nodes have no podCIDRs",
            ),
        });
    }
    if page["synced"] != true {
        // No controller has answered yet, which has lines of its own.
        return None;
    }
    let by_flag = match all.is_empty() {
        true => "connections to private addresses that nobody is known to have are refused".to_owned(),
        false => format!("those of its flag --mesh-cidr hold: {shown}"),
    };
    Some(Line::warn(
        place,
        WHAT,
        format!("the controller has not told the proxy the ranges of pods and services; {by_flag}"),
        "see that the controller is of this version, and its findings about nodes and ServiceCIDRs",
    ))
}

/// Where connections that leave the mesh are refused, whoever looks for one should find that.
fn registry_only(place: &str, page: &Value) -> Option<Line> {
    let namespaces: Vec<&str> = page["registry_only"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let names = namespaces.join(", ");
    let found = format!("pods of {names} reach nothing but what the mesh knows: culvert.dev/outbound-traffic-policy");
    (!namespaces.is_empty()).then(|| Line::ok(place, "outbound policy", found))
}

/// A node's proxy asks for what its pods use. One that asks for nearly all that it may has a pod that scans.
fn subscriptions(place: &str, page: &Value) -> Option<Line> {
    const WHAT: &str = "subscriptions";
    let count = page["subscribed_addresses"].as_u64()?;
    let found = format!("{count} of at most {MOST_ADDRESSES} addresses are asked of the controller");
    Some(if count as f64 >= MOST_ADDRESSES as f64 * NEARLY_FULL {
        let remedy =
            "find the pod that connects to so many addresses: culvert connections. Those beyond the limit are refused";
        Line::warn(place, WHAT, found, remedy)
    } else {
        Line::ok(place, WHAT, found)
    })
}

/// Out of file descriptors: what arrives is not accepted until some are free.
fn descriptors(place: &str, page: &Value) -> Option<Line> {
    (page["descriptors_short"] == true).then(|| descriptors_short(place))
}

/// The line of a proxy that has no file descriptors for new connections.
pub(super) fn descriptors_short(place: &str) -> Line {
    Line::fail(
        place,
        "limits",
        "the proxy has hardly any file descriptors left: new connections of the node wait",
        "raise the limit of open files of the container runtime, or find the pod with the most connections: culvert connections",
    )
}

#[cfg(test)]
mod tests {
    use super::judged;
    use crate::line::Level;
    use serde_json::{Value, json};

    /// As a proxy's page is.
    fn page(ranges: Value, subscribed: u64, short: bool) -> Value {
        json!({ "generation": 7, "synced": true, "ranges": ranges, "subscribed_addresses": subscribed,
            "descriptors_short": short })
    }

    fn levels(page: &Value) -> Vec<(&'static str, Level)> {
        judged("n", page)
            .into_iter()
            .map(|line| (line.what, line.level))
            .collect()
    }

    #[test]
    fn ranges_that_the_controller_has_not_told_are_named_with_what_holds() {
        let told = json!({ "list": ["198.18.0.0/16", "fd00:c01e::/48"], "from_controller": true });
        let by_flag = json!({ "list": ["198.18.0.0/16"], "from_controller": false });
        let none = json!({ "list": [], "from_controller": true });
        assert_eq!(
            levels(&page(told, 3, false)),
            [("ranges", Level::Ok), ("subscriptions", Level::Ok)]
        );
        let lines = judged("n", &page(by_flag.clone(), 3, false));
        assert!(
            lines[0].level == Level::Warn && lines[0].found.contains("--mesh-cidr hold: 198.18.0.0/16"),
            "{}",
            lines[0]
        );
        assert!(judged("n", &page(none, 3, false))[0].found.contains("are refused"));
        let mut early = page(by_flag, 3, false);
        early["synced"] = false.into();
        assert_eq!(
            levels(&early),
            [("subscriptions", Level::Ok)],
            "the controller's line says it"
        );
    }

    #[test]
    fn a_proxy_that_is_short_of_something_is_named() {
        let told = || json!({ "list": ["198.18.0.0/16"], "from_controller": true });
        let lines = levels(&page(told(), 45_000, true));
        assert_eq!(lines[1..], [("subscriptions", Level::Warn), ("limits", Level::Fail)]);
        assert_eq!(
            levels(&page(told(), 44_999, false))[1..],
            [("subscriptions", Level::Ok)]
        );
    }

    #[test]
    fn namespaces_that_reach_nothing_unknown_are_named_where_there_are_any() {
        let told = json!({ "list": ["198.18.0.0/16"], "from_controller": true });
        let mut page = page(told, 3, false);
        page["registry_only"] = json!([]);
        assert_eq!(levels(&page).len(), 2);
        page["registry_only"] = json!(["bank", "shop"]);
        let lines = judged("n", &page);
        assert!(
            lines[1].level == Level::Ok && lines[1].found.contains("bank, shop"),
            "{}",
            lines[1]
        );
    }

    #[test]
    fn a_proxy_without_this_page_has_no_lines() {
        assert!(judged("n", &json!({ "error": "down" })).is_empty());
    }
}
