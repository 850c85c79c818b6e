//! A route object of the Gateway API, whatever its kind: whom it is for, for which names, and its rules. What tells kinds apart is given
//! to it: for requests [`Requests`], for connections whether names count.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::model::{Action, Forward, Match, Parent, Route, Rule, Session, Split};
use super::backends;
use super::filters::Filters;
use super::notes::{Notes, Resolve};
use super::references::ParentSpec;
use super::session::{self, SessionSpec};
use super::values::{self, Bad, list};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, bound = "R: DeserializeOwned")]
struct Spec<R> {
    #[serde(default, deserialize_with = "list")]
    parent_refs: Vec<ParentSpec>,
    hostnames: Option<Vec<String>>,
    #[serde(default, deserialize_with = "list")]
    rules: Vec<R>,
    #[serde(rename = "useDefaultGateways")]
    _use_default_gateways: Option<Value>,
}

/// What tells a kind of routes for requests from others.
pub(super) trait Requests {
    /// A rule, as it is written.
    type Rule: DeserializeOwned;

    /// The name that a rule has of its own.
    fn name(rule: &Self::Rule) -> Option<String>;

    /// The matches of a rule, which has one at least, and whether all of them could be read.
    fn matches(written: &[Value], field: &str, notes: &mut Notes) -> (Vec<Match>, bool);

    /// What becomes of what a rule matches.
    ///
    /// # Errors
    /// What cannot be served of it, by its whole path.
    fn action(rule: Self::Rule, matched: &[Match], place: &Place<'_>, notes: &mut Notes) -> Result<Action, Bad>;
}

/// Where a rule is.
pub(super) struct Place<'a> {
    /// Its path, like `spec.rules[0]`.
    pub(super) field: &'a str,
    /// What it is called by if it has no name of its own.
    pub(super) label: &'a str,
    pub(super) resolve: &'a dyn Resolve,
}

/// Whom a route for requests is for, and its rules; `object` is what its rules are called by if they have no names. None where it cannot
/// be read as a whole, which is noted.
pub(super) fn requests<K: Requests>(
    object: &str,
    spec: &Value,
    resolve: &dyn Resolve,
    notes: &mut Notes,
) -> Option<(Vec<Parent>, Route)> {
    let (parents, hostnames, written) = whole::<Value>(spec, true).map_err(|bad| refuse(bad, notes)).ok()?;
    let mut rules = Vec::new();
    for (index, value) in written.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        let label = format!("{object}[{index}]");
        let place = Place {
            field: &field,
            label: &label,
            resolve,
        };
        let matches = value["matches"].as_array().map(Vec::as_slice).unwrap_or_default();
        let (matched, all_good) = K::matches(matches, &format!("{field}.matches"), notes);
        let spec = values::read::<K::Rule>(value).map_err(|bad| bad.below(&field));
        let name = spec.as_ref().ok().and_then(K::name);
        let made = spec.and_then(|spec| K::action(spec, &matched, &place, notes));
        let action = made.unwrap_or_else(|bad| {
            let message = format!("{}: what the rule matches is answered with 500", bad.message);
            notes.refuse(bad.field, message);
            Action::Fail(500)
        });
        let action = if all_good { action } else { Action::Fail(500) };
        let name = name.map_or(label, |name| format!("{object}/{name}"));
        rules.extend(matched.into_iter().map(|matched| Rule {
            name: name.clone(),
            matched,
            action: action.clone(),
            policy: None,
        }));
    }
    Some((parents, Route { hostnames, rules }))
}

/// What a route for requests is for; nothing where it cannot be read as a whole, which is noted.
pub(super) fn parents(spec: &Value, notes: &mut Notes) -> Vec<Parent> {
    match whole::<Value>(spec, true) {
        Ok((parents, ..)) => parents,
        Err(bad) => {
            refuse(bad, notes);
            Vec::new()
        }
    }
}

/// Whether a route for requests can be read as a whole, so that each of its rules holds or answers with 500.
pub(super) fn is_read(spec: &Value) -> bool {
    whole::<Value>(spec, true).is_ok()
}

/// How clients get back to the endpoint that they had, if a rule says it.
pub(super) fn session(spec: Option<SessionSpec>, place: &Place<'_>) -> Result<Option<Session>, Bad> {
    let read = spec.map(|spec| session::read(spec, place.label)).transpose();
    read.map_err(|bad| bad.below(place.field))
}

/// What a rule leads to that sends requests on: the part that all kinds have. None where it leads nowhere.
pub(super) fn forward(
    filters: Filters,
    written: &[Value],
    session: Option<Session>,
    place: &Place<'_>,
    notes: &mut Notes,
) -> Option<Forward> {
    let field = format!("{}.backendRefs", place.field);
    let targets = backends::targets(written, &field, place.resolve, notes);
    if targets.iter().all(|target| target.backend.is_none()) {
        return None;
    }
    Some(Forward {
        targets,
        request: filters.request,
        response: filters.response,
        host: filters.host,
        path: filters.path,
        mirrors: filters.mirrors,
        cors: filters.cors,
        auth: filters.auth,
        session,
        ..Forward::default()
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConnectionsSpec {
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(default, deserialize_with = "list")]
    backend_refs: Vec<Value>,
}

/// Whom a route for connections is for, for which names, and where they go. None where it cannot be read as a whole, which is noted.
pub(super) fn connections(
    spec: &Value,
    has_names: bool,
    resolve: &dyn Resolve,
    notes: &mut Notes,
) -> Option<(Vec<Parent>, Vec<String>, Split)> {
    let whole = whole::<ConnectionsSpec>(spec, has_names);
    let (parents, names, rules) = whole.map_err(|bad| refuse(bad, notes)).ok()?;
    if rules.len() > 1 {
        notes.refuse("spec.rules", "nothing tells its rules apart: the first counts");
    }
    let first = rules.first();
    let split = first.map_or_else(Vec::new, |rule| {
        backends::targets(&rule.backend_refs, "spec.rules[0].backendRefs", resolve, notes)
    });
    Some((parents, names, split))
}

/// Whom an object is for, its host names, and its rules as they are written.
type Whole<R> = (Vec<Parent>, Vec<String>, Vec<R>);

fn whole<R: DeserializeOwned>(spec: &Value, has_names: bool) -> Result<Whole<R>, Bad> {
    let spec: Spec<R> = values::read(spec)?;
    if spec.hostnames.is_some() && !has_names {
        return Err(Bad::at("hostnames", "is no field of this kind"));
    }
    let names = spec.hostnames.unwrap_or_default();
    let name = |(index, name): (usize, &String)| {
        values::hostname(name, true).map_err(|message| Bad::at(format!("hostnames[{index}]"), message))
    };
    let names = names.iter().enumerate().map(name).collect::<Result<_, _>>()?;
    let parents = spec.parent_refs.into_iter().map(ParentSpec::parent).collect();
    Ok((parents, names, spec.rules))
}

/// Notes that an object cannot be read as a whole.
fn refuse(bad: Bad, notes: &mut Notes) {
    let bad = bad.below("spec");
    notes.refuse(bad.field, format!("{}: the route is for nothing", bad.message));
}
