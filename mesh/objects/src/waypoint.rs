//! Labels that ask for a waypoint.

/// On a namespace, a Service or a pod, whose own counts before its namespace's: the name of a waypoint, or `none`.
pub const USE_WAYPOINT: [&str; 2] = ["culvert.dev/use-waypoint", "istio.io/use-waypoint"];
/// Beside it: the waypoint's namespace, if that is another.
const NAMESPACE: &str = "istio.io/use-waypoint-namespace";
/// On what belongs to a waypoint or gateway itself.
const OWN: [&str; 2] = ["gateway.istio.io/managed", GATEWAY];
/// On the pods of a gateway or waypoint: the Gateway's name.
pub(crate) const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";

/// The labels above, which are kept of whatever they may be on.
pub(crate) const LABELS: [&str; 5] = [USE_WAYPOINT[0], USE_WAYPOINT[1], NAMESPACE, OWN[0], OWN[1]];

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

#[cfg(test)]
mod tests {
    use super::*;

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
