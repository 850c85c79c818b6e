//! HTTPRoute.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::super::model::{Action, Forward, Match, NewPath, Parent, Path, Retry, Route};
use super::filters;
use super::matches;
use super::notes::{Notes, Resolve};
use super::route::{self, Place, Requests};
use super::session::SessionSpec;
use super::values::{self, Bad, list};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleSpec {
    name: Option<String>,
    /// They are read one by one.
    #[serde(rename = "matches")]
    _matches: Option<Value>,
    #[serde(default, deserialize_with = "list")]
    filters: Vec<Value>,
    #[serde(default, deserialize_with = "list")]
    backend_refs: Vec<Value>,
    timeouts: Option<TimeoutsSpec>,
    retry: Option<RetrySpec>,
    session_persistence: Option<SessionSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TimeoutsSpec {
    request: Option<String>,
    backend_request: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetrySpec {
    #[serde(default, deserialize_with = "list")]
    codes: Vec<u32>,
    attempts: Option<u32>,
    backoff: Option<String>,
}

/// What an HTTPRoute is for, and its rules; `object` is what its rules are called by if they have no names. None where it cannot be
/// read as a whole, which is noted.
pub(crate) fn route(
    object: &str,
    spec: &Value,
    resolve: &dyn Resolve,
    notes: &mut Notes,
) -> Option<(Vec<Parent>, Route)> {
    route::requests::<Requested>(object, spec, resolve, notes)
}

/// Whether an HTTPRoute can be read as a whole, so that each of its rules holds or answers with 500.
pub(crate) fn is_read(spec: &Value) -> bool {
    route::is_read(spec)
}

/// What an HTTPRoute is for; nothing where it cannot be read as a whole, which is noted.
pub(crate) fn parents(spec: &Value, notes: &mut Notes) -> Vec<Parent> {
    route::parents(spec, notes)
}

/// How HTTPRoutes differ from other routes for requests.
struct Requested;

impl Requests for Requested {
    type Rule = RuleSpec;

    fn name(rule: &RuleSpec) -> Option<String> {
        rule.name.clone()
    }

    fn matches(written: &[Value], field: &str, notes: &mut Notes) -> (Vec<Match>, bool) {
        matches::matches(written, field, notes)
    }

    fn action(spec: RuleSpec, matched: &[Match], place: &Place<'_>, notes: &mut Notes) -> Result<Action, Bad> {
        let made = action(spec, place, notes)?;
        // A prefix can be replaced where one matched.
        let replaces_prefix = match &made {
            Action::Redirect(redirect) => matches!(redirect.path, Some(NewPath::Prefix(_))),
            Action::Forward(forward) => matches!(forward.path, Some(NewPath::Prefix(_))),
            Action::Fail(_) | Action::Direct(_) => false,
        };
        let has_prefixes = matched.iter().all(|matched| matches!(matched.path, Path::Prefix(_)));
        if replaces_prefix && !has_prefixes {
            let message = "ReplacePrefixMatch needs matches of type PathPrefix";
            return Err(Bad::at(format!("{}.filters", place.field), message));
        }
        Ok(made)
    }
}

fn action(spec: RuleSpec, place: &Place<'_>, notes: &mut Notes) -> Result<Action, Bad> {
    let field = format!("{}.filters", place.field);
    let mut filters = filters::of_rule(&spec.filters, &field, place.resolve, notes)?;
    let timing = timing(spec.timeouts.unwrap_or_default(), spec.retry);
    let (timeout, retry) = timing.map_err(|bad| bad.below(place.field))?;
    let session = route::session(spec.session_persistence, place)?;
    if let Some(mut redirect) = filters.redirect.take() {
        if !spec.backend_refs.is_empty() {
            let field = format!("{}.backendRefs", place.field);
            return Err(Bad::at(field, "a rule that redirects has no backends"));
        }
        redirect.response = filters.response;
        redirect.cors = filters.cors;
        redirect.auth = filters.auth;
        return Ok(Action::Redirect(Box::new(redirect)));
    }
    let forward = route::forward(filters, &spec.backend_refs, session, place, notes);
    Ok(forward.map_or(Action::Fail(500), |forward| {
        Action::Forward(Box::new(Forward {
            timeout,
            retry,
            ..forward
        }))
    }))
}

/// How long all of it may take, and when it is tried again. The time for one try counts for all where nothing is tried again by the
/// rule itself.
fn timing(timeouts: TimeoutsSpec, retry: Option<RetrySpec>) -> Result<(Option<Duration>, Retry), Bad> {
    let read = |text: Option<String>, field: &str| -> Result<Option<Duration>, Bad> {
        let read = text.map(|text| values::duration(&text)).transpose();
        let found = read.map_err(|message| Bad::at(field, message))?;
        Ok(found)
    };
    let set = |duration: Duration| (!duration.is_zero()).then_some(duration);
    let request = read(timeouts.request, "timeouts.request")?;
    let backend = read(timeouts.backend_request, "timeouts.backendRequest")?;
    if let (Some(request), Some(backend)) = (request.and_then(set), backend)
        && backend > request
    {
        let message = "one try may not take longer than the whole (timeouts.request)";
        return Err(Bad::at("timeouts.backendRequest", message));
    }
    let (request, backend) = (request.and_then(set), backend.and_then(set));
    let Some(spec) = retry else {
        return Ok((backend.or(request), Retry::default()));
    };
    if let Some(index) = spec.codes.iter().position(|code| !(400..=599).contains(code)) {
        return Err(Bad::at(
            format!("retry.codes[{index}]"),
            "codes are those from 400 to 599",
        ));
    }
    let retry = Retry {
        attempts: spec.attempts.unwrap_or(2),
        codes: spec.codes,
        backoff: read(spec.backoff, "retry.backoff")?.and_then(set),
        per_try: backend,
        resets: true,
        ..Retry::default()
    };
    Ok((request, retry))
}
