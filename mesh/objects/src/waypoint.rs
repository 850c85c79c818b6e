//! Labels that ask for a waypoint.

/// On a namespace, a Service or a pod, whose own counts before its namespace's: the name of a waypoint, or `none`.
pub const USE_WAYPOINT: [&str; 2] = ["culvert.dev/use-waypoint", "istio.io/use-waypoint"];
/// Beside it: the waypoint's namespace, if that is another.
const NAMESPACE: &str = "istio.io/use-waypoint-namespace";
/// Beside these, on a namespace, a Service or a ServiceEntry: the name of a second waypoint that gets a part of the connections, or `none`.
pub const USE_WAYPOINT_CANARY: [&str; 2] = ["culvert.dev/use-waypoint-canary", "istio.io/use-waypoint-canary"];
/// Beside that: its namespace, if that is another.
const CANARY_NAMESPACE: &str = "istio.io/use-waypoint-canary-namespace";
/// Annotations beside it: how many of a hundred connections the canary gets. Without any it gets none.
pub const USE_WAYPOINT_CANARY_WEIGHT: [&str; 2] = [
    "culvert.dev/use-waypoint-canary-weight",
    "istio.io/use-waypoint-canary-weight",
];
/// On a Gateway that is a waypoint, or else on its class: what goes through it of what asks for it, `service` (also where nothing is said),
/// `workload`, `all` or `none`.
pub const WAYPOINT_FOR: &str = "istio.io/waypoint-for";
/// On what belongs to a waypoint or gateway itself.
const OWN: [&str; 2] = ["gateway.istio.io/managed", GATEWAY];
/// On the pods of a gateway or waypoint: the Gateway's name.
pub(crate) const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";

/// The labels above, which are kept of whatever they may be on.
pub(crate) const LABELS: [&str; 8] = [
    USE_WAYPOINT[0],
    USE_WAYPOINT[1],
    NAMESPACE,
    USE_WAYPOINT_CANARY[0],
    USE_WAYPOINT_CANARY[1],
    CANARY_NAMESPACE,
    OWN[0],
    OWN[1],
];

/// The waypoint that an object's own labels ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// They say nothing: its namespace's count.
    Nothing,
    /// They ask for none, or it is a waypoint's own.
    None,
    /// This one.
    Waypoint {
        /// The label.
        label: &'static str,
        /// The name.
        name: &'a str,
        /// The namespace, if it is said.
        namespace: Option<&'a str>,
    },
}

/// The canary of a waypoint that an object asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedCanary<'a> {
    /// It says nothing.
    Nothing,
    /// It asks for none.
    None,
    /// This one.
    Waypoint {
        /// The label.
        label: &'static str,
        /// The name.
        name: &'a str,
        /// The namespace, if it is said.
        namespace: Option<&'a str>,
        /// How many of a hundred connections it gets.
        weight: Result<u32, BadWeight<'a>>,
    },
}

/// A weight that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no whole number from 0 to 100")]
pub struct BadWeight<'a> {
    /// The annotation.
    pub annotation: &'static str,
    /// What it says.
    pub value: &'a str,
}

/// Whether an object's labels are those of what belongs to a waypoint or gateway itself.
pub fn is_gateways_own<'a>(label: impl Fn(&str) -> Option<&'a str>) -> bool {
    OWN.iter().any(|own| label(own).is_some())
}

/// Which waypoint the labels of an object ask for.
pub fn waypoint<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Asked<'a> {
    if is_gateways_own(&label) {
        return Asked::None;
    }
    let asked = USE_WAYPOINT.iter().find_map(|name| Some((*name, label(name)?)));
    match asked {
        None => Asked::Nothing,
        Some((_, "none")) => Asked::None,
        Some((key, name)) => Asked::Waypoint {
            label: key,
            name,
            namespace: label(NAMESPACE),
        },
    }
}

/// Which canary the labels and annotations of an object ask for.
pub fn waypoint_canary<'a>(
    label: impl Fn(&str) -> Option<&'a str>,
    annotation: impl Fn(&str) -> Option<&'a str>,
) -> AskedCanary<'a> {
    let asked = USE_WAYPOINT_CANARY.iter().find_map(|name| Some((*name, label(name)?)));
    match asked {
        None => AskedCanary::Nothing,
        Some((_, "none")) => AskedCanary::None,
        Some((key, name)) => AskedCanary::Waypoint {
            label: key,
            name,
            namespace: label(CANARY_NAMESPACE),
            weight: canary_weight(annotation).map_or(Ok(0), |(annotation, value)| {
                let weight = value.parse().ok().filter(|weight| *weight <= 100);
                weight.ok_or(BadWeight { annotation, value })
            }),
        },
    }
}

/// The annotation that says how much a canary gets, and what it says.
pub fn canary_weight<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Option<(&'static str, &'a str)> {
    USE_WAYPOINT_CANARY_WEIGHT
        .iter()
        .find_map(|name| Some((*name, annotation(name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_named_by_labels_and_gets_what_an_annotation_says_of_a_hundred() {
        let weight = |text: &'static str| {
            let found = waypoint_canary(
                |key| (key == "istio.io/use-waypoint-canary").then_some("wp2"),
                |key| (key == "istio.io/use-waypoint-canary-weight" && !text.is_empty()).then_some(text),
            );
            let AskedCanary::Waypoint { name, weight, .. } = found else {
                panic!("{found:?}")
            };
            assert_eq!(name, "wp2");
            weight.map_err(|bad| bad.to_string())
        };
        for (text, expected) in [("", 0), ("0", 0), ("5", 5), ("100", 100)] {
            assert_eq!(weight(text), Ok(expected));
        }
        for bad in ["101", "-1", "5%", "half", "0.5"] {
            assert_eq!(weight(bad), Err(format!("{bad:?} is no whole number from 0 to 100")));
        }
        let ours = |key: &str| match key {
            "culvert.dev/use-waypoint-canary" => Some("none"),
            "istio.io/use-waypoint-canary" => Some("wp2"),
            _ => None,
        };
        assert_eq!(waypoint_canary(ours, |_| None), AskedCanary::None);
        assert_eq!(waypoint_canary(|_| None, |_| Some("5")), AskedCanary::Nothing);
    }

    #[test]
    fn the_meshs_own_label_counts_first_and_a_waypoint_needs_none_itself() {
        let asked = |labels: &[(&str, &'static str)]| {
            let labels = labels.to_vec();
            waypoint(|key| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
        };
        assert_eq!(asked(&[]), Asked::Nothing);
        assert_eq!(asked(&[("istio.io/use-waypoint", "none")]), Asked::None);
        assert_eq!(
            asked(&[("istio.io/use-waypoint", "wp"), ("gateway.istio.io/managed", "x")]),
            Asked::None
        );
        let both = asked(&[
            ("istio.io/use-waypoint", "istios"),
            ("culvert.dev/use-waypoint", "ours"),
            ("istio.io/use-waypoint-namespace", "infra"),
        ]);
        let (label, name) = ("culvert.dev/use-waypoint", "ours");
        assert_eq!(
            both,
            Asked::Waypoint {
                label,
                name,
                namespace: Some("infra")
            }
        );
    }
}
