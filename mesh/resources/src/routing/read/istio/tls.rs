//! The rules of a VirtualService for connections of TLS, which are told apart by the name that clients ask for.

use serde_json::Value;

use super::super::super::model::Named;
use super::super::notes::Notes;
use super::super::values::{self, Bad};
use super::connections::{List, RuleSpec};
use super::destination::Destinations;

/// Where connections of TLS to a port go, rule by rule. Those that a rule may mean which cannot be read are closed.
pub(super) fn rules(rules: &[Value], port: u16, destinations: &dyn Destinations, notes: &mut Notes) -> Vec<Named> {
    let mut found = Vec::new();
    for (index, value) in rules.iter().enumerate() {
        let field = format!("spec.tls[{index}]");
        match RuleSpec::read(value, List::Tls).and_then(|rule| Ok((names(&rule, port)?, rule))) {
            Ok((names, _)) if names.is_empty() => {}
            Ok((names, rule)) => found.push(Named {
                names,
                split: rule.targets(&field, destinations, notes),
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
        let hosts = matched.sni_hosts.as_deref().unwrap_or_default();
        if hosts.is_empty() {
            return Err(Bad::at(at, "names no host"));
        }
        for (place, name) in hosts.iter().enumerate() {
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
