//! What is wrong with an object that stays in force.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::balancer::{self, BALANCER_ANNOTATION};
use crate::enrolment;
use crate::kinds::{Object, Objects};
use crate::known;
use crate::name::ObjectName;
use crate::network::{self, NETWORK_LABEL};
use crate::outbound::{OUTBOUND_ANNOTATION, OutboundPolicy};
use crate::severity::Severity;
use crate::traffic;

/// What is wrong with an object beside others that stays: the field, what in words, and how much it matters.
pub(crate) fn complaint(object: &Object, objects: &Objects) -> Vec<(String, String, Severity)> {
    if let Some(known) = object.kind().descriptor().unserved {
        let restricts = object.binding().is_some();
        let severity = if restricts { Severity::Error } else { Severity::Warning };
        return vec![("kind".to_owned(), known.not_served(restricts), severity)];
    }
    if let Some((known, spec)) = object.written() {
        return known::unserved_states(known, &json!({"spec": spec}))
            .into_iter()
            .filter_map(|(field, state)| Some((field, state.instead()?.to_owned(), state.severity())))
            .collect();
    }
    let found = of_labels_and_accounts(object, objects).into_iter();
    let found = found.map(|(field, message)| (field, message, Severity::Error));
    found.chain(of_network(object)).collect()
}

/// That a label names a network, of which nothing follows here.
fn of_network(object: &Object) -> Option<(String, String, Severity)> {
    if !matches!(object, Object::Namespace(_) | Object::Pod(_)) {
        return None;
    }
    let network = object.label(NETWORK_LABEL).filter(|network| !network.is_empty())?;
    let field = format!("metadata.labels[{NETWORK_LABEL}]");
    Some((field, network::of_pods(network), Severity::Info))
}

/// What is wrong with objects of Kubernetes' own kinds and with entries.
fn of_labels_and_accounts(object: &Object, objects: &Objects) -> Vec<(String, String)> {
    let unknown = match object {
        Object::Namespace(_) => enrolment::decided_by(|key| object.label(key), true).err(),
        Object::Pod(_) => enrolment::decided_by(|key| object.label(key), false).err(),
        _ => None,
    };
    let unknown = unknown.map(|unknown| (format!("metadata.labels[{}]", unknown.label), unknown.to_string()));
    let mut found: Vec<_> = unknown.into_iter().collect();
    let close = match object {
        Object::Namespace(namespace) => {
            let value = annotation(&namespace.metadata, enrolment::CLOSE_ANNOTATION);
            value.and_then(|value| enrolment::close_annotation_problem(value, true))
        }
        Object::Pod(pod) => {
            let value = pod.annotations.get(enrolment::CLOSE_ANNOTATION);
            value.and_then(|value| enrolment::close_annotation_problem(value, false))
        }
        _ => None,
    };
    let field = format!("metadata.annotations[{}]", enrolment::CLOSE_ANNOTATION);
    found.extend(close.map(|problem| (field, problem)));
    let problems = match object {
        Object::ServiceEntry(entry) => entry.problems(),
        Object::WorkloadEntry(entry) => entry.problems(),
        _ => &[],
    };
    found.extend(
        problems
            .iter()
            .map(|problem| (problem.field.clone().unwrap_or_default(), problem.message.clone())),
    );
    if let Object::Namespace(namespace) = object
        && let Err(unknown) = OutboundPolicy::of(annotation(&namespace.metadata, OUTBOUND_ANNOTATION))
    {
        found.push((
            format!("metadata.annotations[{OUTBOUND_ANNOTATION}]"),
            unknown.to_string(),
        ));
    }
    if let Object::Service(service) = object {
        found.extend(annotation(&service.metadata, BALANCER_ANNOTATION).and_then(balancer::problem));
    }
    found.extend(match object {
        Object::Namespace(namespace) => traffic::problems(None, |key| annotation(&namespace.metadata, key)),
        Object::Service(service) => traffic::problems(service.spec.as_ref(), |key| annotation(&service.metadata, key)),
        Object::ServiceEntry(entry) => traffic::problems(None, |key| entry.annotations.get(key)),
        _ => Vec::new(),
    });
    if let Object::Pod(pod) = object {
        let account = ObjectName::new(object.name().namespace, enrolment::service_account(pod));
        if !objects.service_accounts.contains_key(&account) {
            let message = format!("there is no ServiceAccount {account}: the pod gets no certificate");
            found.push(("spec.serviceAccountName".to_owned(), message));
        }
    }
    found
}

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Assembly;

    /// Sidecar injection writes it on every pod of a mesh that has networks: it must not look like something that denies.
    #[test]
    fn a_network_that_a_pod_or_its_namespace_names_informs_and_an_empty_one_says_nothing() {
        let pod = |name: &str, network: &str| {
            format!(
                "---\napiVersion: v1\nkind: Pod\n\
                 metadata: {{name: {name}, namespace: shop, labels: {{{NETWORK_LABEL}: '{network}'}}}}\nspec: {{nodeName: n1}}\n"
            )
        };
        let namespace =
            format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{NETWORK_LABEL}: far}}}}\n");
        let text = namespace + &pod("far", "far") + &pod("near", "");
        let mut assembly = Assembly::default();
        for document in crate::parse(&text, false).documents {
            assembly.apply(document.object);
        }
        let findings = assembly.settle().1.clone();
        let of_network = findings
            .keys()
            .filter(|finding| finding.message.contains("one network"));
        let found: Vec<_> = of_network
            .map(|finding| (finding.object.as_deref().unwrap_or_default(), finding.severity))
            .collect();
        assert_eq!(
            found,
            [("Namespace shop", Severity::Info), ("Pod shop/far", Severity::Info)]
        );
    }
}
