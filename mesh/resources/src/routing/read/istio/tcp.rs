//! The rules of a VirtualService for connections.

use serde_json::Value;

use super::super::super::model::Split;
use super::super::notes::Notes;
use super::connections::{List, RuleSpec};
use super::destination::Destinations;

/// Where the connections to a port go, by the first rule that is for it. None where no rule is; one that cannot be read closes them.
pub(super) fn split(rules: &[Value], port: u16, destinations: &dyn Destinations, notes: &mut Notes) -> Option<Split> {
    for (index, value) in rules.iter().enumerate() {
        let field = format!("spec.tcp[{index}]");
        let rule = match RuleSpec::read(value, List::Tcp) {
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
            return Some(rule.targets(&field, destinations, notes));
        }
    }
    None
}
