//! BackendTLSPolicy: what it is for, and which TLS endpoints speak.
//!
//! Whatever is wrong with it, nothing goes to its targets in clear: where there is no TLS to be made of it, there is none to speak.

use serde::Deserialize;
use serde_json::Value;

use super::super::backend_tls::{AltName, BackendTls, Trust};
use super::notes::{Notes, Unresolved};
use super::values::{self, Bad, hostname, list};

/// What happens where no TLS can be made of it.
const REFUSED: &str = "requests are answered with 503";

/// What it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    /// The name of a port; none for all of them.
    pub(crate) section: Option<String>,
}

/// What it says.
#[derive(Debug)]
pub(crate) struct Reading {
    /// None where no TLS can be made of it.
    pub(crate) tls: Option<BackendTls>,
    /// Whether the reason is that no reference to certificates leads anywhere.
    pub(crate) has_no_authority: bool,
}

/// Looks up the certificates in a ConfigMap of the policy's namespace.
pub(crate) type Authorities<'a> = &'a dyn Fn(&str) -> Result<String, String>;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Validation {
    #[serde(default, deserialize_with = "list")]
    ca_certificate_refs: Vec<Reference>,
    #[serde(rename = "wellKnownCACertificates")]
    well_known: Option<String>,
    hostname: Option<String>,
    #[serde(default, deserialize_with = "list")]
    subject_alt_names: Vec<AltNameSpec>,
}

#[derive(Debug, Deserialize)]
struct Reference {
    #[serde(default)]
    group: String,
    kind: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct AltNameSpec {
    #[serde(rename = "type")]
    kind: String,
    hostname: Option<String>,
    uri: Option<String>,
}

/// What it is for, by the places in `targetRefs`; what has no name is nothing.
pub(crate) fn targets(spec: &Value) -> Vec<(usize, Target)> {
    let targets = spec["targetRefs"].as_array().into_iter().flatten().enumerate();
    let read = targets.filter_map(|(index, value)| {
        let text = |field: &str| value[field].as_str().map(str::to_owned);
        let target = Target {
            group: text("group").unwrap_or_default(),
            kind: text("kind").unwrap_or_default(),
            name: text("name")?,
            section: text("sectionName"),
        };
        Some((index, target))
    });
    read.collect()
}

/// Reads what it says of TLS.
pub(crate) fn read(spec: &Value, authorities: Authorities<'_>, notes: &mut Notes) -> Reading {
    let validation = match values::read::<Validation>(&spec["validation"]) {
        Ok(validation) => validation,
        Err(bad) => return refused(notes, bad),
    };
    let (names, server_name) = match (names(&validation), server_name(&validation)) {
        (Ok(names), Ok(server_name)) => (names, server_name),
        (Err(bad), _) | (_, Err(bad)) => return refused(notes, bad),
    };
    let trust = match (
        validation.ca_certificate_refs.is_empty(),
        validation.well_known.as_deref().filter(|name| !name.is_empty()),
    ) {
        (true, Some("System")) => Trust::System,
        (true, Some(other)) => {
            let message = format!("{other:?} names no certificates that Culvert knows");
            return refused(notes, Bad::at("wellKnownCACertificates", message));
        }
        (true, None) => {
            let message = "it must have one of caCertificateRefs and wellKnownCACertificates";
            return refused(notes, Bad::at("", message));
        }
        (false, Some(_)) => {
            let message = "excludes caCertificateRefs";
            return refused(notes, Bad::at("wellKnownCACertificates", message));
        }
        (false, None) => match bundle(&validation.ca_certificate_refs, authorities, notes) {
            Some(trust) => trust,
            None => {
                return Reading {
                    tls: None,
                    has_no_authority: true,
                };
            }
        },
    };
    Reading {
        tls: Some(BackendTls {
            server_name: Some(server_name),
            trust,
            names,
        }),
        has_no_authority: false,
    }
}

fn refused(notes: &mut Notes, bad: Bad) -> Reading {
    let bad = bad.below("spec.validation");
    notes.refuse(bad.field, format!("{}: {REFUSED}", bad.message));
    Reading {
        tls: None,
        has_no_authority: false,
    }
}

fn server_name(validation: &Validation) -> Result<String, Bad> {
    let name = validation.hostname.as_deref();
    let name = name.ok_or_else(|| Bad::at("hostname", "is missing"))?;
    values::server_name(name).map_err(|message| Bad::at("hostname", message))
}

fn names(validation: &Validation) -> Result<Vec<AltName>, Bad> {
    let one = |(index, spec): (usize, &AltNameSpec)| {
        let at = |field: &str, message: String| Bad::at(format!("subjectAltNames[{index}].{field}"), message);
        match (spec.kind.as_str(), &spec.hostname, &spec.uri) {
            ("Hostname", Some(name), None) => {
                let read = match name.starts_with("*.") {
                    true => hostname(name, true),
                    false => values::server_name(name),
                };
                read.map(AltName::Dns).map_err(|message| at("hostname", message))
            }
            ("URI", None, Some(uri)) if uri.contains(':') => Ok(AltName::Uri(uri.clone())),
            ("URI", None, Some(uri)) => Err(at("uri", format!("{uri:?} is no URI"))),
            _ => Err(at(
                "type",
                "it must have the field of its type, and no other".to_owned(),
            )),
        }
    };
    validation.subject_alt_names.iter().enumerate().map(one).collect()
}

/// The certificates that references lead to; those that lead nowhere are noted.
fn bundle(references: &[Reference], authorities: Authorities<'_>, notes: &mut Notes) -> Option<Trust> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for (index, reference) in references.iter().enumerate() {
        match authority(reference, authorities) {
            Ok(pem) => found.push(pem),
            Err(why) => missing.push((format!("spec.validation.caCertificateRefs[{index}]"), why)),
        }
    }
    let instead = if found.is_empty() {
        REFUSED
    } else {
        "the others are trusted"
    };
    for (field, why) in &missing {
        notes.unresolved(field, why, instead);
    }
    (!found.is_empty()).then(|| Trust::Bundle(found.concat().into()))
}

fn authority(reference: &Reference, authorities: Authorities<'_>) -> Result<String, Unresolved> {
    let Reference { group, kind, name } = reference;
    if kind != "ConfigMap" || !group.is_empty() {
        return Err(Unresolved {
            reason: "InvalidKind",
            message: format!("{kind} of group {group:?} is not read: certificates are in ConfigMaps"),
        });
    }
    authorities(name).map_err(|message| Unresolved {
        reason: "InvalidCACertificateRef",
        message,
    })
}

#[cfg(test)]
mod tests;
