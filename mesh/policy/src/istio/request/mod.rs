//! AuthorizationPolicy as a waypoint enforces it: about requests, or about connections that are not HTTP.
//!
//! What nobody can decide is decided for the worst, as [the module above](super) says for node proxies.
//!
//! | module | what |
//! |---|---|
//! | [`test`](mod@test) | what a request is or is not |
//! | `fields` | sources and operations |
//! | `conditions` | what `when` asks for |
//! | `reading` | lists, objects and doubts that both have |

mod conditions;
mod fields;
mod reading;
pub mod test;

use serde_json::Value;

use super::notes::{Note, Notes};
use super::side::Side;
use crate::Purpose;
use reading::Reading;
pub use test::{Layer, Pattern, Rule, Segment, Test};

/// What a waypoint is to do by an AuthorizationPolicy.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestPolicy {
    /// Which side it is on: [`Side::Under`] allows what a rule matches, [`Side::Over`] denies it.
    pub side: Side,
    /// Those that can match at all.
    pub rules: Vec<Rule>,
    /// Whether it decides, or is only tried out or audits.
    pub purpose: Purpose,
    /// The provider that is asked about what a rule matches, rather than denying that. Where nobody can be asked, it is denied:
    /// the policy is on [`Side::Over`].
    pub asks: Option<String>,
}

/// What becomes of a policy at a waypoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// None where it decides nothing.
    pub policy: Option<RequestPolicy>,
    /// Where that is not what is written.
    pub notes: Vec<Note>,
    /// Whether a rule has conditions that need requests, and what is read are connections.
    pub needs_requests: bool,
}

/// Reads a policy of `namespace` for a waypoint, by its `spec` and the value of its annotation `istio.io/dry-run`.
pub fn requests(namespace: &str, spec: &Value, dry_run: Option<&str>, layer: Layer) -> Reached {
    let mut notes = Notes::default();
    let empty = serde_json::Map::new();
    let fields = match spec {
        Value::Null => &empty,
        Value::Object(fields) => fields,
        _ => {
            notes.add("spec", "not an object: what it binds nobody may reach");
            return everybody(Purpose::Enforced, notes);
        }
    };
    let mut purpose = Purpose::Enforced;
    match dry_run {
        Some("true") if fields.get("action").and_then(Value::as_str) == Some("CUSTOM") => {
            notes.add(
                "metadata.annotations[istio.io/dry-run]",
                "the policy decides nothing, and nobody is asked whether it would",
            );
            return Reached {
                policy: None,
                notes: notes.into_vec(),
                needs_requests: false,
            };
        }
        Some("true") => purpose = Purpose::DryRun,
        None | Some("false") => {}
        Some(other) => notes.add(
            "metadata.annotations[istio.io/dry-run]",
            format_args!("{other:?} is neither \"true\" nor \"false\": the policy is enforced"),
        ),
    }
    let mut asks = None;
    let side = match fields.get("action").map_or(Some("ALLOW"), Value::as_str) {
        Some("" | "ALLOW") => Side::Under,
        Some("DENY") => Side::Over,
        Some("CUSTOM") => {
            asks = fields
                .get("provider")
                .and_then(|provider| provider["name"].as_str())
                .filter(|name| !name.is_empty())
                .map(str::to_owned);
            if asks.is_none() {
                notes.add(
                    "spec.provider.name",
                    "it is missing: what the policy matches is denied, since nobody can be asked",
                );
            }
            Side::Over
        }
        Some("AUDIT") => {
            purpose = Purpose::Audit;
            Side::Under
        }
        _ if fields.get("action").is_some_and(Value::is_null) => Side::Under,
        other => {
            let action = other.unwrap_or("what is no text");
            notes.add(
                "spec.action",
                format_args!("{action:?} is unknown: the policy denies everybody"),
            );
            return everybody(purpose, notes);
        }
    };
    const KNOWN: [&str; 6] = ["selector", "targetRef", "targetRefs", "rules", "action", "provider"];
    let unknown: Vec<&String> = fields.keys().filter(|name| !KNOWN.contains(&name.as_str())).collect();
    if !unknown.is_empty() {
        for name in unknown {
            let message = match side {
                Side::Under if purpose == Purpose::Audit => "it is unknown: the policy audits nothing",
                Side::Under => "it is unknown: the policy allows nobody",
                Side::Over => "it is unknown: the policy denies everybody",
            };
            notes.add(&format!("spec.{name}"), message);
        }
        return match side {
            Side::Over => everybody(purpose, notes),
            Side::Under => Reached {
                policy: Some(RequestPolicy {
                    side,
                    rules: Vec::new(),
                    purpose,
                    asks: None,
                }),
                notes: notes.into_vec(),
                needs_requests: false,
            },
        };
    }
    let mut reading = Reading {
        side,
        layer,
        namespace,
        notes,
        // Nobody is asked about connections.
        needs_requests: asks.is_some() && layer == Layer::Connections,
    };
    let rules = reading.rules(fields.get("rules"));
    Reached {
        policy: Some(RequestPolicy {
            side,
            rules,
            purpose,
            asks,
        }),
        notes: reading.notes.into_vec(),
        needs_requests: reading.needs_requests,
    }
}

/// Whom it binds nobody may reach.
fn everybody(purpose: Purpose, notes: Notes) -> Reached {
    let rule = Rule {
        index: 0,
        operation: Vec::new(),
        source: Vec::new(),
    };
    Reached {
        policy: Some(RequestPolicy {
            side: Side::Over,
            rules: vec![rule],
            purpose,
            asks: None,
        }),
        notes: notes.into_vec(),
        needs_requests: false,
    }
}

#[cfg(test)]
mod tests;
