//! The fields of BackendTLSPolicy, and what holds for each. Those of v1alpha2, which had others, are unknown: without `validation` requests
//! are refused.

use super::entry::{Field, State, field, served};

use State::{Ignored, Refused, Served};

const AUTHORITY: State = Refused(
    "is no ConfigMap, and nothing else is read: the reference is as if it led nowhere, and where none leads anywhere requests are answered \
     with 503",
);
const OPTIONS: State = Ignored("names nothing that Culvert knows: TLS is as without it");
const TARGET: State = Ignored("is nothing that endpoints stand behind: nothing follows from it");
const WELL_KNOWN: State = Refused("names no certificates that Culvert knows: requests are answered with 503");

/// `gateway.networking.k8s.io` BackendTLSPolicy.
pub(super) const BACKEND_TLS_POLICY: &[Field] = &[
    served("spec"),
    field("spec.options", OPTIONS),
    field("spec.options.*", OPTIONS),
    served("spec.targetRefs"),
    served("spec.targetRefs[].group"),
    Field {
        values: &[("Service", Served)],
        other_values: Some(TARGET),
        ..served("spec.targetRefs[].kind")
    },
    served("spec.targetRefs[].name"),
    served("spec.targetRefs[].sectionName"),
    served("spec.validation"),
    served("spec.validation.caCertificateRefs"),
    served("spec.validation.caCertificateRefs[].group"),
    Field {
        values: &[("ConfigMap", Served)],
        other_values: Some(AUTHORITY),
        ..served("spec.validation.caCertificateRefs[].kind")
    },
    served("spec.validation.caCertificateRefs[].name"),
    served("spec.validation.hostname"),
    served("spec.validation.subjectAltNames"),
    served("spec.validation.subjectAltNames[].hostname"),
    Field {
        values: &[("Hostname", Served), ("URI", Served)],
        other_values: Some(Refused("is unknown: requests are answered with 503")),
        ..served("spec.validation.subjectAltNames[].type")
    },
    served("spec.validation.subjectAltNames[].uri"),
    Field {
        values: &[("System", Served)],
        other_values: Some(WELL_KNOWN),
        ..served("spec.validation.wellKnownCACertificates")
    },
];
