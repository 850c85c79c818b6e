//! VirtualService as a whole.

use serde::Deserialize;
use serde_json::Value;

use super::super::super::model::{Named, Rule, Split};
use super::super::notes::Notes;
use super::super::values::{self, list};
use super::destination::Destinations;
use super::matches::MESH;
use super::{delegate, http, tcp, tls};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(rename = "hosts", default, deserialize_with = "list")]
    _hosts: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    gateways: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    http: Vec<Value>,
    #[serde(default, deserialize_with = "list")]
    tcp: Vec<Value>,
    #[serde(default, deserialize_with = "list")]
    tls: Vec<Value>,
    #[serde(rename = "exportTo", default, deserialize_with = "list")]
    _export_to: Vec<String>,
}

/// What a VirtualService says of a port.
#[derive(Clone, Debug, Default)]
pub(crate) struct Virtual {
    /// Its rules for requests, in order; none where it says nothing of requests.
    pub(crate) rules: Option<Vec<Rule>>,
    /// Where connections go that are not HTTP; none where it does not say.
    pub(crate) split: Option<Split>,
    /// Where connections of TLS go, by name; empty where it says nothing of TLS.
    pub(crate) named: Vec<Named>,
}

/// Reads what a VirtualService says of a port; `object` is what its rules are called by. None where it is not for the mesh or cannot be
/// read as a whole, which is noted.
pub(crate) fn at_port(
    object: &str,
    spec: &Value,
    port: u16,
    destinations: &dyn Destinations,
    notes: &mut Notes,
) -> Option<Virtual> {
    let spec: Spec = match values::read(spec) {
        Ok(spec) => spec,
        Err(bad) => {
            let bad = bad.below("spec");
            notes.refuse(bad.field, format!("{}: the VirtualService is for nothing", bad.message));
            return None;
        }
    };
    if !spec.gateways.is_empty() && !spec.gateways.iter().any(|gateway| gateway == MESH) {
        notes.refuse(
            "spec.gateways",
            "it is for gateways alone, and Culvert runs none: it is not in force",
        );
        return None;
    }
    let rules = |(index, value): (usize, &Value)| {
        let name = format!("{object}[{index}]");
        let field = format!("spec.http[{index}]");
        match value["delegate"].is_null() {
            true => http::rules(&name, value, port, &field, destinations, notes),
            false => delegate::rules(&name, value, port, &field, destinations, notes),
        }
    };
    let rules: Vec<Rule> = spec.http.iter().enumerate().flat_map(rules).collect();
    Some(Virtual {
        rules: (!spec.http.is_empty()).then_some(rules),
        split: tcp::split(&spec.tcp, port, destinations, notes),
        named: tls::rules(&spec.tls, port, destinations, notes),
    })
}
