//! The rules of a VirtualService for connections.

use serde::Deserialize;
use serde_json::Value;

use super::super::super::model::{Split, Target};
use super::super::notes::Notes;
use super::super::values::{self, list};
use super::destination::{DestinationSpec, Destinations};
use super::matches::MESH;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSpec {
    #[serde(default, rename = "match", deserialize_with = "list")]
    matches: Vec<MatchSpec>,
    #[serde(default, deserialize_with = "list")]
    route: Vec<RouteSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MatchSpec {
    port: Option<u16>,
    #[serde(default, deserialize_with = "list")]
    gateways: Vec<String>,
    destination_subnets: Option<Value>,
    source_labels: Option<Value>,
    source_namespace: Option<Value>,
    source_subnet: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteSpec {
    destination: DestinationSpec,
    weight: Option<u32>,
}

/// Where the connections to a port go, by the first rule that is for it. None where no rule is; one that cannot be read closes them.
pub(super) fn split(rules: &[Value], port: u16, destinations: &dyn Destinations, notes: &mut Notes) -> Option<Split> {
    for (index, value) in rules.iter().enumerate() {
        let field = format!("spec.tcp[{index}]");
        let rule: RuleSpec = match values::read(value) {
            Ok(rule) => rule,
            Err(bad) => {
                let bad = bad.below(&field);
                notes.refuse(
                    bad.field,
                    format!("{}: connections that may be meant are closed", bad.message),
                );
                return Some(Vec::new());
            }
        };
        if rule.matches.is_empty() || rule.matches.iter().any(|matched| matched.is_for(port)) {
            return Some(targets(&rule.route, &field, destinations, notes));
        }
    }
    None
}

impl MatchSpec {
    fn is_for(&self, port: u16) -> bool {
        // What cannot be told of a connection is for none; the table of fields says so.
        let is_unserved = self.destination_subnets.is_some()
            || self.source_labels.is_some()
            || self.source_namespace.is_some()
            || self.source_subnet.is_some();
        let is_mesh = self.gateways.is_empty() || self.gateways.iter().any(|gateway| gateway == MESH);
        !is_unserved && is_mesh && self.port.is_none_or(|asked| asked == port)
    }
}

/// The shares of destinations. That of one that is not there is closed.
pub(super) fn targets(specs: &[RouteSpec], field: &str, destinations: &dyn Destinations, notes: &mut Notes) -> Split {
    let mut targets = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let weight = match (spec.weight, specs.len()) {
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
