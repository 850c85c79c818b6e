//! AuthorizationPolicy.

use culvert_proto::{
    security::{Action, Authorization, Rule, Scope},
    workload::Extension,
};
use serde_json::Value;

use super::notes::{Note, Notes};
use super::rule::Reading;
use super::side::Side;
use crate::AUDIT;

/// An AuthorizationPolicy as it is written.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its namespace, which is that of service accounts without one.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Which workloads it binds. What is wrong with its selector is the caller's to say.
    pub scope: Scope,
    /// Its annotation `istio.io/dry-run`.
    pub dry_run: Option<&'a str>,
    /// Its `spec`.
    pub spec: &'a Value,
}

/// What becomes of an AuthorizationPolicy.
#[derive(Clone, Debug, PartialEq)]
pub struct Translation {
    /// What node proxies enforce; none if it is not for them.
    pub policy: Option<Authorization>,
    /// Where that is not what is written.
    pub notes: Vec<Note>,
}

/// What the object asks for.
enum Wish {
    Allow,
    Deny,
    /// Somebody else is to be asked about what it matches.
    Custom,
    /// What it matches is to be written down.
    Audit,
    Unknown,
}

/// Translates a policy. What it says that cannot be decided at layer 4 is decided for the worst; see [the module](super).
pub fn authorization(source: &Source<'_>) -> Translation {
    let mut notes = Notes::default();
    let empty = serde_json::Map::new();
    let fields = match source.spec {
        Value::Null => &empty,
        Value::Object(fields) => fields,
        _ => {
            notes.add("spec", "not an object: whom it binds nobody may reach");
            return whole(
                source,
                Action::Deny,
                vec![Rule::default()],
                false,
                &Wish::Unknown,
                notes,
            );
        }
    };
    let dry_run = dry_run(source.dry_run, &mut notes);
    let wish = wish(fields.get("action"), &mut notes);
    for field in ["targetRef", "targetRefs"] {
        if fields.get(field).is_some_and(is_something) {
            let message = "it is a waypoint's to enforce: nobody may reach the pods of the Services that it names and that have none";
            notes.add(&format!("spec.{field}"), message);
            return none(notes);
        }
    }
    let known = ["selector", "targetRef", "targetRefs", "rules", "action", "provider"];
    let unknown: Vec<&String> = fields.keys().filter(|name| !known.contains(&name.as_str())).collect();
    for name in &unknown {
        let message = match wish {
            Wish::Allow => "it is unknown: the policy allows nobody",
            Wish::Audit => "it is unknown: the policy audits nothing",
            _ => "it is unknown: the policy denies everybody",
        };
        notes.add(&format!("spec.{name}"), message);
    }
    let (action, side) = match wish {
        Wish::Allow => (Action::Allow, Side::Under),
        // What it says of a connection is true, whatever layer 4 cannot see.
        Wish::Audit => (Action::Deny, Side::Under),
        _ => (Action::Deny, Side::Over),
    };
    if !unknown.is_empty() || matches!(wish, Wish::Unknown) {
        let rules = match side {
            Side::Under => Vec::new(),
            Side::Over => vec![Rule::default()],
        };
        return whole(source, action, rules, dry_run, &wish, notes);
    }
    let mut reading = Reading {
        side,
        namespace: source.namespace,
        notes,
    };
    let rules = reading.rules(fields.get("rules"));
    whole(source, action, rules, dry_run, &wish, reading.notes)
}

/// Whether a policy with this `spec` is for node proxies, so that workloads that it selects name it.
pub fn is_for_node_proxies(spec: &Value) -> bool {
    let targets = ["targetRef", "targetRefs"];
    !targets.iter().any(|field| spec.get(field).is_some_and(is_something))
}

fn wish(action: Option<&Value>, notes: &mut Notes) -> Wish {
    match action.map(|action| action.as_str().ok_or(action)) {
        None | Some(Ok("" | "ALLOW") | Err(Value::Null)) => Wish::Allow,
        Some(Ok("DENY")) => Wish::Deny,
        Some(Ok("AUDIT")) => Wish::Audit,
        Some(Ok("CUSTOM")) => {
            let message = "CUSTOM is served by waypoints alone, for policies with targetRefs: what it matches is denied, since a node's proxy asks nobody about it";
            notes.add("spec.action", message);
            Wish::Custom
        }
        Some(other) => {
            let (Ok(text) | Err(text)) = other.map(|text| format!("{text:?}")).map_err(|other| other.to_string());
            notes.add("spec.action", format!("{text} is unknown: the policy denies everybody"));
            Wish::Unknown
        }
    }
}

fn dry_run(annotation: Option<&str>, notes: &mut Notes) -> bool {
    match annotation {
        Some("true") => true,
        None | Some("false") => false,
        Some(other) => {
            let message = format!("{other:?} is neither \"true\" nor \"false\": the policy is enforced");
            notes.add("metadata.annotations[istio.io/dry-run]", message);
            false
        }
    }
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => true,
    }
}

fn none(notes: Notes) -> Translation {
    Translation {
        policy: None,
        notes: notes.into_vec(),
    }
}

fn whole(
    source: &Source<'_>,
    action: Action,
    rules: Vec<Rule>,
    dry_run: bool,
    wish: &Wish,
    notes: Notes,
) -> Translation {
    let audits = matches!(wish, Wish::Audit);
    let extension = Extension {
        name: AUDIT.to_owned(),
        ..Extension::default()
    };
    Translation {
        policy: Some(Authorization {
            name: source.name.to_owned(),
            namespace: source.namespace.to_owned(),
            scope: source.scope.into(),
            action: action.into(),
            rules,
            dry_run: dry_run || audits,
            extensions: audits.then_some(extension).into_iter().collect(),
        }),
        notes: notes.into_vec(),
    }
}
