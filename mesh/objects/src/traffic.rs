//! How near to its clients an endpoint should be: words of Kubernetes and Istio on a Service, and what is wrong with them.

use k8s_openapi::api::core::v1::ServiceSpec;

/// Istio's annotation on a Service, a ServiceEntry or a namespace. A Service's own field counts before it.
pub const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// Which endpoints are preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficDistribution {
    /// None.
    Any,
    /// Those in the same zone, or else region.
    SameZone,
    /// Those on the same node, or else as near as possible.
    SameNode,
}

/// A word that nobody defined: no endpoint is preferred.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no traffic distribution that Culvert knows (known: PreferClose, PreferSameZone, PreferSameNode): no endpoint is \
     preferred"
)]
pub struct UnknownTrafficDistribution(String);

impl TrafficDistribution {
    /// What a word means.
    ///
    /// # Errors
    /// Where nobody defined it.
    pub fn parse(word: &str) -> Result<Self, UnknownTrafficDistribution> {
        match word {
            "Any" => Ok(Self::Any),
            "PreferClose" | "PreferSameZone" => Ok(Self::SameZone),
            "PreferSameNode" => Ok(Self::SameNode),
            other => Err(UnknownTrafficDistribution(other.to_owned())),
        }
    }
}

/// What is wrong with what an object says of distances, by its field.
pub(crate) fn problems<'a>(
    spec: Option<&ServiceSpec>,
    annotation: impl Fn(&str) -> Option<&'a str>,
) -> Vec<(String, String)> {
    let problem = |field: String, word: &str| {
        let unknown = TrafficDistribution::parse(word).err()?;
        Some((field, unknown.to_string()))
    };
    let own = spec.and_then(|spec| spec.traffic_distribution.as_deref());
    let own = own.and_then(|word| problem("spec.trafficDistribution".to_owned(), word));
    let annotated = annotation(TRAFFIC_DISTRIBUTION);
    let annotated = annotated.and_then(|word| problem(format!("metadata.annotations[{TRAFFIC_DISTRIBUTION}]"), word));
    let policy = spec.and_then(|spec| spec.internal_traffic_policy.as_deref());
    let policy = policy.filter(|word| !matches!(*word, "Cluster" | "Local")).map(|word| {
        let message = format!("{word:?} is neither Cluster nor Local: endpoints of all nodes take part");
        ("spec.internalTrafficPolicy".to_owned(), message)
    });
    own.into_iter().chain(annotated).chain(policy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_nobody_defined_is_named_with_its_field_and_prefers_nothing() {
        let spec = ServiceSpec {
            traffic_distribution: Some("PreferNear".to_owned()),
            internal_traffic_policy: Some("Node".to_owned()),
            ..ServiceSpec::default()
        };
        let fields = |spec: &ServiceSpec, word: &'static str| -> Vec<String> {
            let found = problems(Some(spec), |key| (key == TRAFFIC_DISTRIBUTION).then_some(word));
            found.into_iter().map(|(field, _)| field).collect()
        };
        let annotation = format!("metadata.annotations[{TRAFFIC_DISTRIBUTION}]");
        assert_eq!(
            fields(&spec, "close"),
            ["spec.trafficDistribution", &annotation, "spec.internalTrafficPolicy"]
        );
        for word in ["Any", "PreferClose", "PreferSameZone", "PreferSameNode"] {
            assert!(fields(&ServiceSpec::default(), word).is_empty(), "{word}");
        }
    }
}
