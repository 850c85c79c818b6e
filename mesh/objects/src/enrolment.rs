//! Which pods take part in the mesh, by their labels and their namespace's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};

/// Culvert's label on namespaces and pods; wins over [`ISTIO_LABEL`] on the same object.
const LABEL: &str = "culvert.dev/mesh";
/// Istio's label with the same meaning.
const ISTIO_LABEL: &str = "istio.io/dataplane-mode";
/// Set by Istio's injector on pods that carry a proxy of their own.
pub(crate) const SIDECAR_ANNOTATION: &str = "sidecar.istio.io/status";
/// Names the network namespace of a pod that no container runtime runs.
pub(crate) const NETNS_ANNOTATION: &str = "culvert.dev/netns";
/// On a namespace: what its pods had open before they joined the mesh is closed.
pub const CLOSE_ANNOTATION: &str = "culvert.dev/close-open-connections";

/// Whether a pod's traffic is captured and carried by the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// Captured by the node's agent.
    Ambient,
    /// Left alone.
    None,
}

/// A label that decides about enrolment has a value that nobody defined. It does not enrol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("label {label} has the unknown value {value:?} (known: \"ambient\", \"none\"): it does not enrol")]
pub struct UnknownLabelValue {
    /// The label's key.
    pub label: &'static str,
    /// Its value.
    pub value: String,
    /// Whether it is the namespace's label; else the pod's.
    pub on_namespace: bool,
}

/// A pod, by whatever type it is held: what decides whether it takes part, and as whom.
pub trait PodFacts {
    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str>;

    /// The value of an annotation, or of one that is read at least.
    fn annotation(&self, key: &str) -> Option<&str>;

    /// Whether it shares its node's network.
    fn is_host_network(&self) -> bool;

    /// Its addresses, the primary one first.
    fn addresses(&self) -> Vec<IpAddr>;

    /// The name of its service account, as it is written: it may be empty.
    fn service_account(&self) -> &str;
}

impl PodFacts for Pod {
    fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn is_host_network(&self) -> bool {
        self.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let Some(status) = &self.status else { return Vec::new() };
        let mut found: Vec<IpAddr> = Vec::new();
        let texts = status.pod_ips.iter().flatten().map(|ip| &ip.ip).chain(&status.pod_ip);
        for address in texts.filter_map(|text| text.parse().ok()) {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        found
    }

    fn service_account(&self) -> &str {
        let spec = self.spec.as_ref();
        spec.and_then(|spec| spec.service_account_name.as_deref())
            .unwrap_or_default()
    }
}

macro_rules! of_what_it_points_to {
    ($pointer:ty) => {
        impl<T: PodFacts> PodFacts for $pointer {
            fn label(&self, key: &str) -> Option<&str> {
                (**self).label(key)
            }

            fn annotation(&self, key: &str) -> Option<&str> {
                (**self).annotation(key)
            }

            fn is_host_network(&self) -> bool {
                (**self).is_host_network()
            }

            fn addresses(&self) -> Vec<IpAddr> {
                (**self).addresses()
            }

            fn service_account(&self) -> &str {
                (**self).service_account()
            }
        }
    };
}

of_what_it_points_to!(&T);
of_what_it_points_to!(Arc<T>);

/// Whether `pod` takes part, given the labels of its namespace. A pod's own label wins over the namespace's, on each
/// `culvert.dev/mesh` over `istio.io/dataplane-mode`. Never: pods on the host's network, whose socket traffic is the
/// node's, and pods with an Istio sidecar, which would be captured twice.
///
/// # Errors
/// [`UnknownLabelValue`] when the label that decides has a value other than `ambient` or `none`; treat it as not enrolled.
pub fn enrolment(
    namespace_labels: Option<&BTreeMap<String, String>>,
    pod: &impl PodFacts,
) -> Result<Enrolment, UnknownLabelValue> {
    let of_namespace = |key: &str| Some(namespace_labels?.get(key)?.as_str());
    let decided = match decided_by(|key| pod.label(key), false)? {
        Some(enrolment) => enrolment,
        None => decided_by(of_namespace, true)?.unwrap_or(Enrolment::None),
    };
    if pod.is_host_network() || pod.annotation(SIDECAR_ANNOTATION).is_some() {
        return Ok(Enrolment::None);
    }
    Ok(decided)
}

/// What the labels of one object say: nothing, in, or out.
pub(crate) fn decided_by<'a>(
    labels: impl Fn(&str) -> Option<&'a str>,
    on_namespace: bool,
) -> Result<Option<Enrolment>, UnknownLabelValue> {
    for label in [LABEL, ISTIO_LABEL] {
        return match labels(label) {
            Option::None => continue,
            Some("ambient") => Ok(Some(Enrolment::Ambient)),
            Some("none") => Ok(Some(Enrolment::None)),
            Some(value) => Err(UnknownLabelValue {
                label,
                value: value.to_owned(),
                on_namespace,
            }),
        };
    }
    Ok(None)
}

/// Whether the label of a namespace itself enrols its pods.
pub fn enrols(namespace: &Namespace) -> bool {
    let label = |key: &str| namespace.metadata.labels.as_ref()?.get(key).map(String::as_str);
    decided_by(label, true) == Ok(Some(Enrolment::Ambient))
}

/// Whether the pod shares its node's network.
pub fn is_host_network(pod: &impl PodFacts) -> bool {
    pod.is_host_network()
}

/// The pod's addresses, the primary one first. Empty before it has one.
pub fn pod_addresses(pod: &impl PodFacts) -> Vec<IpAddr> {
    pod.addresses()
}

/// The name of the pod's service account.
pub fn service_account(pod: &impl PodFacts) -> &str {
    match pod.service_account() {
        "" => "default",
        name => name,
    }
}

/// The annotation `culvert.dev/netns`: a name below `/run/netns`, or an absolute path.
pub fn netns(pod: &impl PodFacts) -> Option<&str> {
    pod.annotation(NETNS_ANNOTATION)
}

/// Whether a namespace with these annotations asks for connections to be closed that its pods had open before they joined the
/// mesh: [`CLOSE_ANNOTATION`] is `"true"`.
pub fn closes_open_connections(annotations: Option<&BTreeMap<String, String>>) -> bool {
    annotations
        .and_then(|all| all.get(CLOSE_ANNOTATION))
        .is_some_and(|value| value == "true")
}

/// What is wrong with the value of a [`CLOSE_ANNOTATION`] of a namespace, or of another object, in words. Nothing that is
/// wrong closes a connection.
pub(crate) fn close_annotation_problem(value: &str, on_namespace: bool) -> Option<String> {
    if !on_namespace {
        return Some(format!(
            "annotation {CLOSE_ANNOTATION} means something on a Namespace alone: here nothing is closed for it"
        ));
    }
    (value != "true" && value != "false").then(|| {
        format!(
            "annotation {CLOSE_ANNOTATION} has the unknown value {value:?} (known: \"true\", \"false\"): connections from \
             before capture stay open, in plaintext"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn pod(pairs: &[(&str, &str)]) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.labels = Some(labels(pairs));
        pod
    }

    #[test]
    fn the_nearer_and_own_label_wins() {
        use Enrolment::{Ambient, None};
        let on = labels(&[(ISTIO_LABEL, "ambient")]);
        let cases: [(&[(&str, &str)], Enrolment); 4] = [
            (&[], Ambient),
            (&[(LABEL, "none")], None),
            (&[(ISTIO_LABEL, "none")], None),
            (&[(ISTIO_LABEL, "none"), (LABEL, "ambient")], Ambient),
        ];
        for (own, expected) in cases {
            assert_eq!(enrolment(Some(&on), &pod(own)), Ok(expected), "{own:?}");
        }
        assert_eq!(enrolment(Option::None, &pod(&[])), Ok(None));
    }

    #[test]
    fn unknown_values_do_not_enrol() {
        let error = enrolment(Some(&labels(&[(LABEL, "Ambient")])), &pod(&[])).unwrap_err();
        assert!(error.on_namespace && error.to_string().contains("culvert.dev/mesh"));
        assert!(enrolment(Some(&labels(&[(LABEL, "ambient")])), &pod(&[(LABEL, "")])).is_err());
    }

    #[test]
    fn host_network_and_sidecars_never() {
        let on = labels(&[(LABEL, "ambient")]);
        let mut host = pod(&[(LABEL, "ambient")]);
        host.spec.get_or_insert_default().host_network = Some(true);
        assert_eq!(enrolment(Some(&on), &host), Ok(Enrolment::None));
        let mut side = pod(&[]);
        side.metadata.annotations = Some(labels(&[(SIDECAR_ANNOTATION, "{}")]));
        assert_eq!(enrolment(Some(&on), &side), Ok(Enrolment::None));
    }
}
