//! The rules of a VirtualService for connections of TLS, which are told apart by the name that clients ask for.

use serde::Deserialize;
use serde_json::Value;

use super::super::super::model::Named;
use super::super::notes::Notes;
use super::super::values::{self, Bad, list};
use super::destination::Destinations;
use super::matches::MESH;
use super::tcp::{self, RouteSpec};

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
    #[serde(default, deserialize_with = "list")]
    sni_hosts: Vec<String>,
    port: Option<u16>,
    #[serde(default, deserialize_with = "list")]
    gateways: Vec<String>,
    destination_subnets: Option<Value>,
    source_labels: Option<Value>,
    source_namespace: Option<Value>,
}

/// Where connections of TLS to a port go, rule by rule. Those that a rule may mean which cannot be read are closed.
pub(super) fn rules(rules: &[Value], port: u16, destinations: &dyn Destinations, notes: &mut Notes) -> Vec<Named> {
    let mut found = Vec::new();
    for (index, value) in rules.iter().enumerate() {
        let field = format!("spec.tls[{index}]");
        match values::read::<RuleSpec>(value).and_then(|rule| Ok((names(&rule, port)?, rule))) {
            Ok((names, _)) if names.is_empty() => {}
            Ok((names, rule)) => found.push(Named {
                names,
                split: tcp::targets(&rule.route, &field, destinations, notes),
            }),
            Err(bad) => {
                let bad = bad.below(&field);
                let message = format!("{}: connections of TLS that may be meant are closed", bad.message);
                notes.refuse(bad.field, message);
                found.push(Named {
                    names: vec!["*".to_owned()],
                    split: Vec::new(),
                });
            }
        }
    }
    found
}

/// The names that a rule is for at a port; none where it is not for that.
fn names(rule: &RuleSpec, port: u16) -> Result<Vec<String>, Bad> {
    if rule.matches.is_empty() {
        return Err(Bad::at(
            "match",
            "is missing: only the name tells connections of TLS apart",
        ));
    }
    let mut names = Vec::new();
    for (index, matched) in rule.matches.iter().enumerate() {
        let at = format!("match[{index}].sniHosts");
        if matched.sni_hosts.is_empty() {
            return Err(Bad::at(at, "names no host"));
        }
        for (place, name) in matched.sni_hosts.iter().enumerate() {
            let checked = match name.as_str() {
                "*" => Ok(name.clone()),
                name => values::hostname(name, true),
            };
            let name = checked.map_err(|message| Bad::at(format!("{at}[{place}]"), message))?;
            if matched.is_for(port) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

impl MatchSpec {
    fn is_for(&self, port: u16) -> bool {
        // What cannot be told of a connection is for none; the table of fields says so.
        let is_unserved =
            self.destination_subnets.is_some() || self.source_labels.is_some() || self.source_namespace.is_some();
        let is_mesh = self.gateways.is_empty() || self.gateways.iter().any(|gateway| gateway == MESH);
        !is_unserved && is_mesh && self.port.is_none_or(|asked| asked == port)
    }
}
