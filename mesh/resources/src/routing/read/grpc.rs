//! GRPCRoute: calls are requests whose path is `/SERVICE/METHOD`.

use serde::Deserialize;
use serde_json::Value;

use super::super::model::{Action, Match, Parent, Path, Route};
use super::filters;
use super::matches::{self, TextKind, TextSpec};
use super::notes::{Notes, Resolve};
use super::route::{self, Place, Requests};
use super::session::SessionSpec;
use super::values::{self, Bad, list};

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
    route::requests::<Calls>(object, spec, resolve, notes)
}

/// What a GRPCRoute is for, as [`super::http::parents`].
pub(crate) fn parents(spec: &Value, notes: &mut Notes) -> Vec<Parent> {
    route::parents(spec, notes)
}

/// How GRPCRoutes differ from other routes for requests.
struct Calls;

impl Requests for Calls {
    type Rule = RuleSpec;

    fn name(rule: &RuleSpec) -> Option<String> {
        rule.name.clone()
    }

    fn matches(written: &[Value], field: &str, notes: &mut Notes) -> (Vec<Match>, bool) {
        matched(written, field, notes)
    }

    fn action(spec: RuleSpec, _: &[Match], place: &Place<'_>, notes: &mut Notes) -> Result<Action, Bad> {
        let field = format!("{}.filters", place.field);
        let filters = filters::of_rule(&spec.filters, &field, place.resolve, notes)?;
        if filters.redirect.is_some() || filters.path.is_some() || filters.cors.is_some() || filters.auth.is_some() {
            return Err(Bad::at(field, "a filter that a GRPCRoute does not have"));
        }
        let session = route::session(spec.session_persistence, place)?;
        let forward = route::forward(filters, &spec.backend_refs, session, place, notes);
        Ok(forward.map_or(Action::Fail(500), |forward| Action::Forward(Box::new(forward))))
    }
}

/// The matches of a rule, as [`matches::matches`].
fn matched(written: &[Value], field: &str, notes: &mut Notes) -> (Vec<Match>, bool) {
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
