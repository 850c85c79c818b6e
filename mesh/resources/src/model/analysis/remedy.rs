//! What to do about a finding, by the field that it is about.

use culvert_objects::{Finding, Severity};

use super::super::refused::STAYS;
use super::problem::Problem;

/// The beginnings of fields, and what to do about what is wrong there. The first that fits counts.
const BY_FIELD: &[(&str, &str)] = &[
    ("kind", "remove the object, or leave it to others that serve its kind"),
    (
        "spec.rateLimit.global.provider",
        "name a provider of the mesh's configuration (ConfigMap culvert-mesh, extensionProviders) whose service is there",
    ),
    (
        "spec.validation.caCertificateRefs",
        "name a ConfigMap of the policy's namespace that has certificates under ca.crt",
    ),
    (
        "spec.parentRefs",
        "name a Service that is behind a waypoint, and a port of it (`culvert waypoint status` shows who asks for one)",
    ),
    (
        "spec.targetRefs",
        "name a Service of the same namespace that is behind a waypoint, or that waypoint's Gateway",
    ),
    (
        "spec.hosts",
        "name a Service or a host of a ServiceEntry of the same namespace, in one VirtualService alone",
    ),
    (
        "spec.host",
        "name a Service or a host of a ServiceEntry, in one DestinationRule alone",
    ),
    (
        "spec.gatewayClassName",
        "use the class culvert-waypoint or culvert-envoy if it is to be a waypoint",
    ),
    (
        "metadata.labels",
        "use a value that Culvert knows, or take the label away",
    ),
    (
        "metadata.annotations",
        "use a value that Culvert knows, or take the annotation away",
    ),
    ("metadata.namespace", "make the Namespace, or name one that is there"),
    ("metadata.name", "remove one of the two"),
];

/// A finding, and what to do about it.
pub(super) fn of_finding(finding: &Finding) -> Problem {
    let field = finding.field.clone().unwrap_or_default();
    let place = match (finding.file.as_os_str().is_empty(), finding.line) {
        (true, _) => String::new(),
        (false, Some(line)) => format!("{}:{line}", finding.file.display()),
        (false, None) => finding.file.display().to_string(),
    };
    Problem {
        severity: finding.severity,
        object: finding.object.clone().unwrap_or_default(),
        remedy: remedy(finding, &field).to_owned(),
        field,
        message: finding.message.clone(),
        place,
    }
}

fn remedy(finding: &Finding, field: &str) -> &'static str {
    if finding.severity == Severity::Info {
        return "nothing, if that is meant";
    }
    if finding.message.ends_with(STAYS) {
        return "change what the proxy's message names; if nothing is wrong with that, the proxy and the controller are of versions that do not fit";
    }
    if finding.object.is_none() {
        return "mend the file";
    }
    if finding.message.starts_with("there is no provider") {
        return "name a provider of the mesh's configuration (ConfigMap culvert-mesh, extensionProviders), or add it there";
    }
    if field == "metadata.name" && finding.message.contains("is not a name") {
        return "give the object a name that Kubernetes takes";
    }
    if finding.message.contains("no ReferenceGrant") {
        return "make a ReferenceGrant in the namespace of the Service, or name one of the route's own namespace";
    }
    if finding.message.contains("holds instead") || finding.message.contains("comes before") {
        return "put the rules into one object, and remove the other";
    }
    if field.contains("backendRefs") || field.contains("backendRef") || field.contains("destination") {
        return "name a Service and a port that are there";
    }
    let known = BY_FIELD.iter().find(|(start, _)| field.starts_with(start));
    match (known, finding.severity) {
        (Some((_, remedy)), _) => remedy,
        (None, Severity::Warning) => "take the field away, or keep it for others that obey it (docs/objects.md)",
        (None, _) => "change the field to what is served (docs/objects.md)",
    }
}
