//! GRPCRoute: calls are requests whose path is `/SERVICE/METHOD`.

use serde::Deserialize;
use serde_json::Value;

use super::super::model::{Action, Forward, Match, Parent, Path, Route, Rule};
use super::backends;
use super::filters;
use super::http::{hostnames, refuse_whole};
use super::matches::{self, TextKind, TextSpec};
use super::notes::{Notes, Resolve};
use super::references::ParentSpec;
use super::session::{self, SessionSpec};
use super::values::{self, Bad, list};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(default, deserialize_with = "list")]
    parent_refs: Vec<ParentSpec>,
    #[serde(default, deserialize_with = "list")]
    hostnames: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    rules: Vec<Value>,
    #[serde(rename = "useDefaultGateways")]
    _use_default_gateways: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleSpec {
    name: Option<String>,
    #[serde(rename = "matches")]
    _matches: Option<Value>,
    #[serde(default, deserialize_with = "list")]
    filters: Vec<Value>,
    #[serde(default, deserialize_with = "list")]
    backend_refs: Vec<Value>,
    session_persistence: Option<SessionSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MatchSpec {
    method: Option<MethodSpec>,
    #[serde(default, deserialize_with = "list")]
    headers: Vec<TextSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MethodSpec {
    #[serde(default, rename = "type")]
    kind: TextKind,
    service: Option<String>,
    method: Option<String>,
}

/// What a GRPCRoute is for, and its rules, as [`super::http::route`].
pub(crate) fn route(
    object: &str,
    spec: &Value,
    resolve: &dyn Resolve,
    notes: &mut Notes,
) -> Option<(Vec<Parent>, Route)> {
    let spec: Spec = values::read(spec).map_err(|bad| refuse_whole(bad, notes)).ok()?;
    let hostnames = hostnames(spec.hostnames).map_err(|bad| refuse_whole(bad, notes)).ok()?;
    let parents = spec.parent_refs.into_iter().map(ParentSpec::parent).collect();
    let mut rules = Vec::new();
    for (index, value) in spec.rules.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        let (matched, all_good) = matched(&value["matches"], &format!("{field}.matches"), notes);
        let spec = values::read::<RuleSpec>(value);
        let name = spec.as_ref().ok().and_then(|spec| spec.name.clone());
        let action = spec
            .map_err(|bad| bad.below(&field))
            .and_then(|spec| action(spec, &format!("{object}[{index}]"), &field, resolve, notes));
        let action = action.unwrap_or_else(|bad| {
            notes.refuse(
                bad.field,
                format!("{}: what the rule matches is answered with 500", bad.message),
            );
            Action::Fail(500)
        });
        let action = if all_good { action } else { Action::Fail(500) };
        let name = name.map_or_else(|| format!("{object}[{index}]"), |name| format!("{object}/{name}"));
        rules.extend(matched.into_iter().map(|matched| Rule {
            name: name.clone(),
            matched,
            action: action.clone(),
            policy: None,
        }));
    }
    Some((parents, Route { hostnames, rules }))
}

/// What a route is for; nothing where it cannot be read as a whole, which is noted.
pub(crate) fn parents(spec: &Value, notes: &mut Notes) -> Vec<Parent> {
    match values::read::<Spec>(spec) {
        Ok(spec) => spec.parent_refs.into_iter().map(ParentSpec::parent).collect(),
        Err(bad) => {
            refuse_whole(bad, notes);
            Vec::new()
        }
    }
}

fn action(spec: RuleSpec, rule: &str, field: &str, resolve: &dyn Resolve, notes: &mut Notes) -> Result<Action, Bad> {
    let filters = filters::of_rule(&spec.filters, &format!("{field}.filters"), resolve, notes)?;
    if filters.redirect.is_some() || filters.path.is_some() || filters.cors.is_some() {
        return Err(Bad::at(
            format!("{field}.filters"),
            "a filter that a GRPCRoute does not have",
        ));
    }
    let session = spec.session_persistence.map(|spec| session::read(spec, rule));
    let session = session.transpose().map_err(|bad| bad.below(field))?;
    let targets = backends::targets(&spec.backend_refs, &format!("{field}.backendRefs"), resolve, notes);
    if targets.iter().all(|target| target.backend.is_none()) {
        return Ok(Action::Fail(500));
    }
    Ok(Action::Forward(Box::new(Forward {
        targets,
        request: filters.request,
        response: filters.response,
        host: filters.host,
        mirrors: filters.mirrors,
        session,
        ..Forward::default()
    })))
}

/// The matches of a rule, as [`matches::matches`].
fn matched(value: &Value, field: &str, notes: &mut Notes) -> (Vec<Match>, bool) {
    let written = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if written.is_empty() {
        return (vec![Match::any()], true);
    }
    let mut all_good = true;
    let one = |(index, value): (usize, &Value)| {
        let read = values::read::<MatchSpec>(value).and_then(|spec| {
            Ok(Match {
                path: path(spec.method.unwrap_or_default())?,
                headers: matches::headers(spec.headers, "headers")?,
                ..Match::any()
            })
        });
        read.unwrap_or_else(|bad| {
            all_good = false;
            let bad = bad.below(&format!("{field}[{index}]"));
            notes.refuse(
                bad.field,
                format!("{}: calls that may be meant are answered with 500", bad.message),
            );
            Match::any()
        })
    };
    let found = written.iter().enumerate().map(one).collect();
    (found, all_good)
}

fn path(spec: MethodSpec) -> Result<Path, Bad> {
    let name = |field: &str, text: &str| {
        let is_name = !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        match is_name {
            true => Ok(text.to_owned()),
            false => Err(Bad::at(
                format!("method.{field}"),
                format!("{text:?} is no name of a {field}"),
            )),
        }
    };
    let whole = |service: &str, method: &str| {
        values::regex(&format!("/{service}/{method}"))
            .map(Path::Regex)
            .map_err(|message| Bad::at("method", message))
    };
    match (spec.kind, spec.service.as_deref(), spec.method.as_deref()) {
        (_, None, None) => Ok(Path::Prefix(String::new())),
        (TextKind::Exact, Some(service), Some(method)) => Ok(Path::Exact(format!(
            "/{}/{}",
            name("service", service)?,
            name("method", method)?
        ))),
        (TextKind::Exact, Some(service), None) => Ok(Path::Prefix(format!("/{}", name("service", service)?))),
        (TextKind::Exact, None, Some(method)) => whole("[^/]+", &regex::escape(&name("method", method)?)),
        (TextKind::RegularExpression, service, method) => {
            let group = |part: Option<&str>| part.map_or_else(|| "[^/]+".to_owned(), |part| format!("(?:{part})"));
            whole(&group(service), &group(method))
        }
    }
}
