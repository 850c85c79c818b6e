//! HTTPRoute.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::super::model::{Action, Forward, NewPath, Parent, Path, Retry, Route, Rule};
use super::backends;
use super::filters::{self, Filters};
use super::matches;
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
    let spec: Spec = values::read(spec).map_err(|bad| refuse_whole(bad, notes)).ok()?;
    let names = hostnames(spec.hostnames).map_err(|bad| refuse_whole(bad, notes)).ok()?;
    let parents = spec.parent_refs.into_iter().map(ParentSpec::parent).collect();
    let mut rules = Vec::new();
    for (index, value) in spec.rules.iter().enumerate() {
        let field = format!("spec.rules[{index}]");
        rule(object, index, value, &field, resolve, notes, &mut rules);
    }
    let route = Route {
        hostnames: names,
        rules,
    };
    Some((parents, route))
}

/// Notes that an object cannot be read as a whole.
pub(super) fn refuse_whole(bad: Bad, notes: &mut Notes) {
    let bad = bad.below("spec");
    notes.refuse(bad.field, format!("{}: the route is for nothing", bad.message));
}

/// Host names as routes have them.
pub(super) fn hostnames(names: Vec<String>) -> Result<Vec<String>, Bad> {
    let name = |(index, name): (usize, &String)| {
        values::hostname(name, true).map_err(|message| Bad::at(format!("hostnames[{index}]"), message))
    };
    names.iter().enumerate().map(name).collect()
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

fn rule(
    object: &str,
    index: usize,
    value: &Value,
    field: &str,
    resolve: &dyn Resolve,
    notes: &mut Notes,
    rules: &mut Vec<Rule>,
) {
    let spec = values::read::<RuleSpec>(value);
    let empty = Vec::new();
    let written = value["matches"].as_array().unwrap_or(&empty);
    let (matched, all_good) = matches::matches(written, &format!("{field}.matches"), notes);
    let name = spec.as_ref().ok().and_then(|spec| spec.name.clone());
    let action = spec
        .and_then(|spec| action(spec, &format!("{object}[{index}]"), field, resolve, notes))
        .unwrap_or_else(|bad| {
            let bad = bad.below(field);
            notes.refuse(
                bad.field,
                format!("{}: what the rule matches is answered with 500", bad.message),
            );
            Action::Fail(500)
        });
    // A prefix can be replaced where one matched.
    let replaces_prefix = match &action {
        Action::Redirect(redirect) => matches!(redirect.path, Some(NewPath::Prefix(_))),
        Action::Forward(forward) => matches!(forward.path, Some(NewPath::Prefix(_))),
        Action::Fail(_) | Action::Direct(_) => false,
    };
    let has_prefixes = matched.iter().all(|matched| matches!(matched.path, Path::Prefix(_)));
    let action = if replaces_prefix && !has_prefixes {
        let message = "ReplacePrefixMatch needs matches of type PathPrefix: what the rule matches is answered with 500";
        notes.refuse(format!("{field}.filters"), message);
        Action::Fail(500)
    } else {
        action
    };
    let action = if all_good { action } else { Action::Fail(500) };
    let name = name.map_or_else(|| format!("{object}[{index}]"), |name| format!("{object}/{name}"));
    rules.extend(matched.into_iter().map(|matched| Rule {
        name: name.clone(),
        matched,
        action: action.clone(),
        policy: None,
    }));
}

fn action(spec: RuleSpec, rule: &str, field: &str, resolve: &dyn Resolve, notes: &mut Notes) -> Result<Action, Bad> {
    let below = |bad: Bad| Bad {
        field: bad
            .field
            .strip_prefix(field)
            .unwrap_or(&bad.field)
            .trim_start_matches('.')
            .to_owned(),
        ..bad
    };
    let filters = filters::of_rule(&spec.filters, &format!("{field}.filters"), resolve, notes).map_err(below)?;
    let (timeout, retry) = timing(spec.timeouts.unwrap_or_default(), spec.retry)?;
    let session = spec.session_persistence.map(|spec| session::read(spec, rule));
    let session = session.transpose()?;
    let Filters {
        request,
        response,
        host,
        path,
        redirect,
        mirrors,
        cors,
    } = filters;
    if let Some(mut redirect) = redirect {
        if !spec.backend_refs.is_empty() {
            return Err(Bad::at("backendRefs", "a rule that redirects has no backends"));
        }
        redirect.response = response;
        redirect.cors = cors;
        return Ok(Action::Redirect(Box::new(redirect)));
    }
    let targets = backends::targets(&spec.backend_refs, &format!("{field}.backendRefs"), resolve, notes);
    if targets.iter().all(|target| target.backend.is_none()) {
        return Ok(Action::Fail(500));
    }
    Ok(Action::Forward(Box::new(Forward {
        targets,
        request,
        response,
        host,
        path,
        mirrors,
        timeout,
        retry,
        cors,
        session,
        ..Forward::default()
    })))
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
