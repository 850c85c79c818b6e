//! A rule of a VirtualService for requests.

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;

use super::super::super::model::{Action, Direct, Forward, Mirror, NewPath, Path, Redirect, Retry, Rule, Target};
use super::super::notes::Notes;
use super::super::values::{self, Bad, list};
use super::destination::{DestinationSpec, Destinations};
use super::matches;
use super::parts::{CorsSpec, FaultSpec, HeadersSpec, RetriesSpec};
use super::values::{Percent, optional};

/// Stands for the prefix that matched, in the path of a redirect.
const PREFIX: &str = "%PREFIX()%";
const MOST: u32 = 1_000_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleSpec {
    name: Option<String>,
    /// They are read one by one.
    #[serde(rename = "match")]
    _matches: Option<Value>,
    #[serde(default, deserialize_with = "list")]
    route: Vec<RouteSpec>,
    redirect: Option<RedirectSpec>,
    direct_response: Option<DirectSpec>,
    rewrite: Option<RewriteSpec>,
    timeout: Option<String>,
    retries: Option<RetriesSpec>,
    fault: Option<FaultSpec>,
    mirror: Option<DestinationSpec>,
    #[serde(alias = "mirror_percent")]
    mirror_percent: Option<f64>,
    mirror_percentage: Option<Percent>,
    #[serde(default, deserialize_with = "list")]
    mirrors: Vec<MirrorSpec>,
    cors_policy: Option<CorsSpec>,
    #[serde(default)]
    headers: HeadersSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteSpec {
    destination: DestinationSpec,
    weight: Option<u32>,
    #[serde(default)]
    headers: HeadersSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MirrorSpec {
    destination: DestinationSpec,
    percentage: Option<Percent>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RedirectSpec {
    uri: Option<String>,
    prefix_rewrite: Option<String>,
    authority: Option<String>,
    port: Option<u16>,
    derive_port: Option<DerivePort>,
    scheme: Option<String>,
    redirect_code: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum DerivePort {
    FromProtocolDefault,
    FromRequestPort,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectSpec {
    status: u16,
    body: Option<BodySpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodySpec {
    string: Option<String>,
    bytes: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RewriteSpec {
    uri: Option<String>,
    authority: Option<String>,
    uri_regex_rewrite: Option<RegexRewriteSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegexRewriteSpec {
    #[serde(rename = "match")]
    pattern: String,
    rewrite: String,
}

/// The rules at a port that one of the object's becomes: one for each of its matches.
pub(super) fn rules(
    name: &str,
    value: &Value,
    port: u16,
    field: &str,
    destinations: &dyn Destinations,
    notes: &mut Notes,
) -> Vec<Rule> {
    let empty = Vec::new();
    let written = value["match"].as_array().unwrap_or(&empty);
    let (matched, all_good) = matches::matches(written, port, &format!("{field}.match"), notes);
    let spec = values::read::<RuleSpec>(value);
    let own = spec.as_ref().ok().and_then(|spec| spec.name.clone());
    let made = spec.and_then(|spec| action(&spec, port, field, destinations, notes));
    let action = made.unwrap_or_else(|bad| {
        let bad = bad.below(field);
        let message = format!("{}: what the rule matches is answered with 500", bad.message);
        notes.refuse(bad.field, message);
        Action::Fail(500)
    });
    let action = if all_good { action } else { Action::Fail(500) };
    let name = own.map_or_else(|| name.to_owned(), |own| format!("{name}/{own}"));
    let rule = |matched| Rule {
        name: name.clone(),
        action: rewritten(&action, &matched),
        matched,
        policy: None,
    };
    matched.into_iter().map(rule).collect()
}

/// Where a regular expression matched there is no prefix to replace: it is the whole path.
fn rewritten(action: &Action, matched: &super::super::super::model::Match) -> Action {
    let mut action = action.clone();
    let path = match &mut action {
        Action::Forward(forward) => &mut forward.path,
        Action::Redirect(redirect) => &mut redirect.path,
        Action::Fail(_) | Action::Direct(_) => return action,
    };
    if matches!(matched.path, Path::Regex(_))
        && let Some(NewPath::Plain(new)) = path
    {
        *path = Some(NewPath::Full(new.clone()));
    }
    action
}

fn action(
    spec: &RuleSpec,
    port: u16,
    field: &str,
    destinations: &dyn Destinations,
    notes: &mut Notes,
) -> Result<Action, Bad> {
    let (request, host) = spec
        .headers
        .request
        .changes()
        .map_err(|bad| bad.below("headers.request"))?;
    let (response, no_host) = spec
        .headers
        .response
        .changes()
        .map_err(|bad| bad.below("headers.response"))?;
    if no_host.is_some() {
        return Err(Bad::at("headers.response.set", "an answer has no host"));
    }
    let cors = spec.cors_policy.as_ref().map(CorsSpec::cors).transpose();
    let cors = cors.map_err(|bad| bad.below("corsPolicy"))?;
    let fault = spec.fault.as_ref().map(FaultSpec::fault).transpose();
    let fault = fault.map_err(|bad| bad.below("fault"))?;
    let kinds = [
        !spec.route.is_empty(),
        spec.redirect.is_some(),
        spec.direct_response.is_some(),
    ];
    if kinds.iter().filter(|is_there| **is_there).count() != 1 {
        return Err(Bad::at("", "it must have one of route, redirect and directResponse"));
    }
    if spec.route.is_empty() && (fault.is_some() || spec.rewrite.is_some()) {
        return Err(Bad::at("", "only a rule with a route has a fault or a rewrite"));
    }
    if let Some(redirect) = &spec.redirect {
        let redirect = redirected(redirect, port).map_err(|bad| bad.below("redirect"))?;
        return Ok(Action::Redirect(Box::new(Redirect {
            response,
            cors,
            ..redirect
        })));
    }
    if let Some(direct) = &spec.direct_response {
        let direct = answered(direct).map_err(|bad| bad.below("directResponse"))?;
        return Ok(Action::Direct(Box::new(Direct {
            response,
            cors,
            ..direct
        })));
    }
    let targets = targets(&spec.route, field, destinations, notes)?;
    if targets.iter().all(|target| target.backend.is_none()) {
        return Ok(Action::Fail(500));
    }
    let (path, authority) = rewrite(spec.rewrite.as_ref()).map_err(|bad| bad.below("rewrite"))?;
    let retry = spec.retries.as_ref().map(RetriesSpec::retry).transpose();
    Ok(Action::Forward(Box::new(Forward {
        auth: None,
        targets,
        request,
        response,
        host: authority.or(host),
        path,
        mirrors: mirrors(spec, field, destinations, notes)?,
        timeout: optional(spec.timeout.as_ref(), "timeout")?.filter(|time| !time.is_zero()),
        retry: retry
            .map_err(|bad| bad.below("retries"))?
            .unwrap_or_else(Retry::default),
        cors,
        fault,
        hash: Vec::new(),
        session: None,
    })))
}

/// Where requests go. A destination that is not there keeps its share, which is answered with 500.
fn targets(
    specs: &[RouteSpec],
    field: &str,
    destinations: &dyn Destinations,
    notes: &mut Notes,
) -> Result<Vec<Target>, Bad> {
    let mut targets = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let at = format!("route[{index}]");
        let weight = match (spec.weight, specs.len()) {
            (None | Some(0), 1) => 1,
            (weight, _) => weight.unwrap_or(0),
        };
        if weight > MOST {
            return Err(Bad::at(format!("{at}.weight"), format!("more than {MOST}")));
        }
        if weight == 0 {
            continue;
        }
        let bad = |part: &str, bad: Bad| bad.below(&format!("{at}.headers.{part}"));
        let (request, host) = spec.headers.request.changes().map_err(|found| bad("request", found))?;
        let (response, no_host) = spec
            .headers
            .response
            .changes()
            .map_err(|found| bad("response", found))?;
        if host.is_some() || no_host.is_some() {
            return Err(Bad::at(
                format!("{at}.headers"),
                "the host is set for a rule as a whole alone",
            ));
        }
        let backend = spec.destination.resolve(destinations).map_err(|why| {
            let at = format!("{field}.{at}.destination");
            notes.unresolved(at, &why, "its share of requests is answered with 500");
        });
        targets.push(Target {
            backend: backend.ok(),
            weight,
            request,
            response,
        });
    }
    if targets.is_empty() {
        return Err(Bad::at("route", "no destination has a weight"));
    }
    Ok(targets)
}

/// A mirror that leads nowhere is left out, and noted.
fn mirrors(
    spec: &RuleSpec,
    field: &str,
    destinations: &dyn Destinations,
    notes: &mut Notes,
) -> Result<Vec<Mirror>, Bad> {
    let of_one = spec.mirror_percentage.or(spec.mirror_percent.map(Percent::of));
    let one = spec.mirror.iter().map(|mirror| ("mirror".to_owned(), mirror, of_one));
    let several = spec.mirrors.iter().enumerate();
    let several = several.map(|(index, mirror)| {
        (
            format!("mirrors[{index}].destination"),
            &mirror.destination,
            mirror.percentage,
        )
    });
    let mut found = Vec::new();
    for (at, destination, percentage) in one.chain(several) {
        let share = percentage
            .map_or(Ok(MOST), Percent::share)
            .map_err(|bad| bad.below(&at))?;
        match destination.resolve(destinations) {
            Ok(backend) => found.extend((share > 0).then_some(Mirror { backend, share })),
            Err(why) => notes.unresolved(format!("{field}.{at}"), &why, "nothing is mirrored there"),
        }
    }
    Ok(found)
}

fn rewrite(spec: Option<&RewriteSpec>) -> Result<(Option<NewPath>, Option<String>), Bad> {
    let Some(spec) = spec else { return Ok((None, None)) };
    let authority = spec.authority.as_ref().filter(|authority| !authority.is_empty());
    let authority = authority.map(|authority| host(authority)).transpose()?;
    let path = match (&spec.uri, &spec.uri_regex_rewrite) {
        (Some(_), Some(_)) => return Err(Bad::at("", "uri and uriRegexRewrite exclude one another")),
        (Some(uri), None) if uri.is_empty() => None,
        (Some(uri), None) => Some(NewPath::Plain(new_path(uri, "uri")?)),
        (None, Some(regex)) => {
            let bad = |message| Bad::at("uriRegexRewrite.match", message);
            let pattern = values::regex(&regex.pattern).map_err(bad)?;
            values::substitution(&pattern, &regex.rewrite)
                .map_err(|message| Bad::at("uriRegexRewrite.rewrite", message))?;
            Some(NewPath::Regex(pattern, regex.rewrite.clone()))
        }
        (None, None) => None,
    };
    Ok((path, authority))
}

fn redirected(spec: &RedirectSpec, port: u16) -> Result<Redirect, Bad> {
    let status = spec.redirect_code.unwrap_or(301);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        let message = format!("{status} is none of 301, 302, 303, 307, 308");
        return Err(Bad::at("redirectCode", message));
    }
    let scheme = spec.scheme.as_ref().filter(|scheme| !scheme.is_empty());
    if let Some(other) = scheme.filter(|scheme| !matches!(scheme.as_str(), "http" | "https")) {
        return Err(Bad::at("scheme", format!("{other:?} is neither http nor https")));
    }
    let path = match (spec.uri.as_deref(), &spec.prefix_rewrite) {
        (Some(_), Some(_)) => return Err(Bad::at("", "uri and prefixRewrite exclude one another")),
        (None | Some(""), None) => None,
        (Some(uri), None) => Some(match uri.strip_prefix(PREFIX) {
            Some(rest) => NewPath::Plain(new_path(rest, "uri")?),
            None => NewPath::Full(new_path(uri, "uri")?),
        }),
        (None, Some(prefix)) => Some(NewPath::Plain(new_path(prefix, "prefixRewrite")?)),
    };
    let authority = spec.authority.as_ref().filter(|authority| !authority.is_empty());
    Ok(Redirect {
        scheme: scheme.cloned(),
        host: authority.map(|authority| host(authority)).transpose()?,
        port: match spec.derive_port {
            Some(DerivePort::FromRequestPort) => Some(port),
            _ => spec.port.filter(|port| *port > 0),
        },
        path,
        status,
        ..Redirect::default()
    })
}

fn answered(spec: &DirectSpec) -> Result<Direct, Bad> {
    if !(200..600).contains(&spec.status) {
        return Err(Bad::at("status", format!("{} is not from 200 to 599", spec.status)));
    }
    let body = match &spec.body {
        None => Vec::new(),
        Some(BodySpec {
            string: Some(text),
            bytes: None,
        }) => text.clone().into_bytes(),
        Some(BodySpec {
            string: None,
            bytes: Some(text),
        }) => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|error| Bad::at("body.bytes", format!("is no base64: {error}")))?,
        Some(_) => return Err(Bad::at("body", "it must have one of string and bytes")),
    };
    if body.len() > 4096 {
        return Err(Bad::at("body", "is longer than 4096 bytes"));
    }
    Ok(Direct {
        status: spec.status,
        body,
        ..Direct::default()
    })
}

fn new_path(path: &str, field: &str) -> Result<String, Bad> {
    let (before, _) = path.split_once('?').unwrap_or((path, ""));
    let is_text = path.bytes().all(|byte| byte.is_ascii_graphic());
    match values::path(before) {
        Ok(_) if is_text => Ok(path.to_owned()),
        Ok(_) => Err(Bad::at(field, format!("{path:?} is no path"))),
        Err(message) => Err(Bad::at(field, message)),
    }
}

/// A host, perhaps with a port.
fn host(authority: &str) -> Result<String, Bad> {
    let (name, port) = authority.split_once(':').unwrap_or((authority, "1"));
    let is_port = port.parse::<u16>().is_ok();
    match values::hostname(name, false) {
        Ok(_) if is_port => Ok(authority.to_owned()),
        Ok(_) => Err(Bad::at("authority", format!("{port:?} is no port"))),
        Err(message) => Err(Bad::at("authority", message)),
    }
}
