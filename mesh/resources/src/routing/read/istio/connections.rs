//! What rules of a VirtualService for connections have in common, whether names tell these apart (`tls`) or not (`tcp`).

use serde::Deserialize;
use serde_json::Value;

use super::super::super::model::{Split, Target};
use super::super::notes::Notes;
use super::super::values::{self, Bad, list};
use super::destination::{DestinationSpec, Destinations};
use super::matches::MESH;

/// A rule, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleSpec {
    #[serde(default, rename = "match", deserialize_with = "list")]
    pub(super) matches: Vec<MatchSpec>,
    #[serde(default, deserialize_with = "list")]
    route: Vec<RouteSpec>,
}

/// Which connections, in the fields of both.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MatchSpec {
    /// In `tls` alone.
    pub(super) sni_hosts: Option<Vec<String>>,
    port: Option<u16>,
    #[serde(default, deserialize_with = "list")]
    gateways: Vec<String>,
    destination_subnets: Option<Value>,
    source_labels: Option<Value>,
    source_namespace: Option<Value>,
    /// In `tcp` alone.
    source_subnet: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteSpec {
    destination: DestinationSpec,
    weight: Option<u32>,
}

/// Which of both a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Tcp,
    Tls,
}

impl RuleSpec {
    /// Reads a rule of a list.
    ///
    /// # Errors
    /// Where a field is unknown there.
    pub(super) fn read(value: &Value, list: List) -> Result<Self, Bad> {
        let spec: Self = values::read(value)?;
        for (index, matched) in spec.matches.iter().enumerate() {
            let foreign = match list {
                List::Tcp => matched.sni_hosts.is_some().then_some("sniHosts"),
                List::Tls => matched.source_subnet.is_some().then_some("sourceSubnet"),
            };
            if let Some(field) = foreign {
                return Err(Bad::at(format!("match[{index}].{field}"), "is no field of this rule"));
            }
        }
        Ok(spec)
    }

    /// The shares of its destinations. That of one that is not there is closed.
    pub(super) fn targets(&self, field: &str, destinations: &dyn Destinations, notes: &mut Notes) -> Split {
        let mut targets = Vec::new();
        for (index, spec) in self.route.iter().enumerate() {
            let weight = match (spec.weight, self.route.len()) {
                (None | Some(0), 1) => 1,
                (weight, _) => weight.unwrap_or(0).min(1_000_000),
            };
            if weight == 0 {
                continue;
            }
            let backend = spec.destination.resolve(destinations).map_err(|why| {
                let at = format!("{field}.route[{index}].destination");
                notes.unresolved(at, &why, "its share of connections is closed");
            });
            targets.push(Target {
                weight,
                backend: backend.ok(),
                request: Default::default(),
                response: Default::default(),
            });
        }
        targets
    }
}

impl MatchSpec {
    /// Whether it is for connections to a port.
    pub(super) fn is_for(&self, port: u16) -> bool {
        // What cannot be told of a connection is for none; the table of fields says so.
        let is_unserved = self.destination_subnets.is_some()
            || self.source_labels.is_some()
            || self.source_namespace.is_some()
            || self.source_subnet.is_some();
        let is_mesh = self.gateways.is_empty() || self.gateways.iter().any(|gateway| gateway == MESH);
        !is_unserved && is_mesh && self.port.is_none_or(|asked| asked == port)
    }
}
