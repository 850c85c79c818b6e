//! What a rule does with requests before they go to a backend, or instead.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::super::external_auth::ExternalAuth;
use super::super::model::{Cors, Headers, Mirror, NewPath, Origin, Redirect};
use super::external_auth::{self, ExternalAuthSpec};
use super::notes::{Notes, Resolve};
use super::references::BackendSpec;
use super::values::{self, Bad, list};

/// What the filters of a rule come to.
#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) request: Headers,
    pub(super) response: Headers,
    pub(super) host: Option<String>,
    pub(super) path: Option<NewPath>,
    pub(super) redirect: Option<Redirect>,
    pub(super) mirrors: Vec<Mirror>,
    pub(super) cors: Option<Cors>,
    pub(super) auth: Option<ExternalAuth>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FilterSpec {
    #[serde(rename = "type")]
    kind: Kind,
    request_header_modifier: Option<HeadersSpec>,
    response_header_modifier: Option<HeadersSpec>,
    request_mirror: Option<MirrorSpec>,
    request_redirect: Option<RedirectSpec>,
    url_rewrite: Option<RewriteSpec>,
    cors: Option<CorsSpec>,
    external_auth: Option<ExternalAuthSpec>,
    extension_ref: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum Kind {
    RequestHeaderModifier,
    ResponseHeaderModifier,
    RequestMirror,
    RequestRedirect,
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    #[serde(rename = "CORS")]
    Cors,
    ExternalAuth,
    ExtensionRef,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HeadersSpec {
    #[serde(default, deserialize_with = "list")]
    set: Vec<HeaderSpec>,
    #[serde(default, deserialize_with = "list")]
    add: Vec<HeaderSpec>,
    #[serde(default, deserialize_with = "list")]
    remove: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderSpec {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MirrorSpec {
    backend_ref: BackendSpec,
    percent: Option<u32>,
    fraction: Option<FractionSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FractionSpec {
    numerator: u32,
    denominator: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RedirectSpec {
    scheme: Option<Scheme>,
    hostname: Option<String>,
    path: Option<PathSpec>,
    port: Option<u16>,
    status_code: Option<u16>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scheme {
    Http,
    Https,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RewriteSpec {
    hostname: Option<String>,
    path: Option<PathSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PathSpec {
    #[serde(rename = "type")]
    kind: PathKind,
    replace_full_path: Option<String>,
    replace_prefix_match: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum PathKind {
    ReplaceFullPath,
    ReplacePrefixMatch,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CorsSpec {
    #[serde(default, deserialize_with = "list")]
    allow_origins: Vec<String>,
    allow_credentials: Option<bool>,
    #[serde(default, deserialize_with = "list")]
    allow_methods: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    allow_headers: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    expose_headers: Vec<String>,
    max_age: Option<u32>,
}

/// The filters of a rule. A mirror that leads nowhere is left out, and noted.
///
/// # Errors
/// The first filter that cannot be served: without it requests would be treated as nobody asked for.
pub(super) fn of_rule(specs: &[Value], field: &str, resolve: &dyn Resolve, notes: &mut Notes) -> Result<Filters, Bad> {
    let mut found = Filters::default();
    let mut seen = BTreeSet::new();
    for (index, value) in specs.iter().enumerate() {
        let at = format!("{field}[{index}]");
        one(value, &at, &mut seen, &mut found, resolve, notes).map_err(|bad| bad.below(&at))?;
    }
    if found.redirect.is_some() && (found.host.is_some() || found.path.is_some()) {
        return Err(Bad::at(field, "RequestRedirect and URLRewrite exclude one another"));
    }
    Ok(found)
}

/// The filters of one backend, which may change headers and no more.
pub(super) fn of_backend(
    specs: &[Value],
    field: &str,
    resolve: &dyn Resolve,
    notes: &mut Notes,
) -> Result<Filters, Bad> {
    let found = of_rule(specs, field, resolve, notes)?;
    let is_for_rules = found.redirect.is_some()
        || found.host.is_some()
        || found.path.is_some()
        || found.cors.is_some()
        || found.auth.is_some()
        || !found.mirrors.is_empty();
    if is_for_rules {
        return Err(Bad::at(
            field,
            "only filters that change headers are served for one backend",
        ));
    }
    Ok(found)
}

fn one(
    value: &Value,
    field: &str,
    seen: &mut BTreeSet<Kind>,
    found: &mut Filters,
    resolve: &dyn Resolve,
    notes: &mut Notes,
) -> Result<(), Bad> {
    let spec: FilterSpec = values::read(value)?;
    if !seen.insert(spec.kind) && spec.kind != Kind::RequestMirror {
        return Err(Bad::at("type", format!("{:?} is there twice", spec.kind)));
    }
    match (&spec.kind, parts(&spec)) {
        (_, 1) => {}
        (kind, _) => {
            return Err(Bad::at(
                "",
                format!("it must have what {kind:?} says, and nothing else"),
            ));
        }
    }
    let missing = || Bad::at("", "it must have what its type says, and nothing else");
    match spec.kind {
        Kind::RequestHeaderModifier => {
            let spec = spec.request_header_modifier.ok_or_else(missing)?;
            found.host = host_header(&spec, "requestHeaderModifier")?.or(found.host.take());
            found.request = headers(spec, "requestHeaderModifier")?;
        }
        Kind::ResponseHeaderModifier => {
            let spec = spec.response_header_modifier.ok_or_else(missing)?;
            found.response = headers(spec, "responseHeaderModifier")?;
        }
        Kind::RequestMirror => {
            let spec = spec.request_mirror.ok_or_else(missing)?;
            let share = share(&spec)?;
            match resolve.backend(&spec.backend_ref.reference()) {
                Ok(backend) => found.mirrors.extend((share > 0).then_some(Mirror { backend, share })),
                Err(why) => notes.unresolved(
                    format!("{field}.requestMirror.backendRef"),
                    &why,
                    "nothing is mirrored there",
                ),
            }
        }
        Kind::RequestRedirect => {
            let spec = spec.request_redirect.ok_or_else(missing)?;
            found.redirect = Some(redirect(spec).map_err(|bad| bad.below("requestRedirect"))?);
        }
        Kind::UrlRewrite => {
            let spec = spec.url_rewrite.ok_or_else(missing)?;
            let bad = |message| Bad::at("urlRewrite.hostname", message);
            let host = spec.hostname.map(|name| values::hostname(&name, false).map_err(bad));
            found.host = host.transpose()?.or(found.host.take());
            found.path = spec
                .path
                .map(new_path)
                .transpose()
                .map_err(|bad| bad.below("urlRewrite"))?;
        }
        Kind::Cors => found.cors = Some(cors(spec.cors.ok_or_else(missing)?)?),
        Kind::ExternalAuth => {
            let spec = spec.external_auth.ok_or_else(missing)?;
            let auth = external_auth::read(spec, field, resolve, notes);
            found.auth = Some(auth.map_err(|bad| bad.below("externalAuth"))?);
        }
        Kind::ExtensionRef => {
            return Err(Bad::at(
                "type",
                "ExtensionRef names a filter that Culvert does not have",
            ));
        }
    }
    Ok(())
}

/// How many of its kinds a filter has something of.
fn parts(spec: &FilterSpec) -> usize {
    [
        spec.request_header_modifier.is_some(),
        spec.response_header_modifier.is_some(),
        spec.request_mirror.is_some(),
        spec.request_redirect.is_some(),
        spec.url_rewrite.is_some(),
        spec.cors.is_some(),
        spec.external_auth.is_some(),
        spec.extension_ref.is_some(),
    ]
    .into_iter()
    .filter(|is_there| *is_there)
    .count()
}

/// The host of a request is no header to the proxies, but many set it as one.
fn host_header(spec: &HeadersSpec, field: &str) -> Result<Option<String>, Bad> {
    let is_host = |name: &str| name.eq_ignore_ascii_case("host");
    if let Some(index) = spec.add.iter().position(|header| is_host(&header.name)) {
        return Err(Bad::at(format!("{field}.add[{index}].name"), "a request has one host"));
    }
    if let Some(index) = spec.remove.iter().position(|name| is_host(name)) {
        return Err(Bad::at(format!("{field}.remove[{index}]"), "a request has a host"));
    }
    let found = spec.set.iter().find(|header| is_host(&header.name));
    found
        .map(|header| values::header_value(&header.value))
        .transpose()
        .map_err(|message| Bad::at(field, message))
}

fn headers(spec: HeadersSpec, field: &str) -> Result<Headers, Bad> {
    let pairs = |specs: Vec<HeaderSpec>, list: &str| {
        let specs = specs.into_iter().enumerate();
        let specs = specs.filter(|(_, header)| !header.name.eq_ignore_ascii_case("host"));
        let pair = |(index, header): (usize, HeaderSpec)| {
            let bad = |part: &str, message| Bad::at(format!("{field}.{list}[{index}].{part}"), message);
            Ok((
                values::header_name(&header.name).map_err(|message| bad("name", message))?,
                values::header_value(&header.value).map_err(|message| bad("value", message))?,
            ))
        };
        specs.map(pair).collect::<Result<Vec<_>, Bad>>()
    };
    let name = |(index, name): (usize, &String)| {
        values::header_name(name).map_err(|message| Bad::at(format!("{field}.remove[{index}]"), message))
    };
    Ok(Headers {
        set: pairs(spec.set, "set")?,
        add: pairs(spec.add, "add")?,
        remove: spec.remove.iter().enumerate().map(name).collect::<Result<_, _>>()?,
    })
}

/// Of a million.
fn share(spec: &MirrorSpec) -> Result<u32, Bad> {
    let bad = |message: &str| Bad::at("requestMirror", message);
    let (numerator, denominator) = match (spec.percent, &spec.fraction) {
        (Some(_), Some(_)) => return Err(bad("percent and fraction exclude one another")),
        (Some(percent), None) => (percent, 100),
        (None, Some(fraction)) => (fraction.numerator, fraction.denominator.unwrap_or(100)),
        (None, None) => (1, 1),
    };
    if numerator > denominator || denominator == 0 {
        return Err(bad("a share must not be more than the whole"));
    }
    let share = u64::from(numerator) * 1_000_000 / u64::from(denominator);
    Ok(u32::try_from(share).unwrap_or(u32::MAX))
}

fn redirect(spec: RedirectSpec) -> Result<Redirect, Bad> {
    let host = spec.hostname.map(|name| values::hostname(&name, false)).transpose();
    let status = spec.status_code.unwrap_or(302);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Err(Bad::at(
            "statusCode",
            format!("{status} is none of 301, 302, 303, 307, 308"),
        ));
    }
    if spec.port == Some(0) {
        return Err(Bad::at("port", "0 is no port"));
    }
    Ok(Redirect {
        scheme: spec.scheme.map(|scheme| format!("{scheme:?}").to_ascii_lowercase()),
        host: host.map_err(|message| Bad::at("hostname", message))?,
        port: spec.port,
        path: spec.path.map(new_path).transpose()?,
        status,
        ..Redirect::default()
    })
}

fn new_path(spec: PathSpec) -> Result<NewPath, Bad> {
    let path = |value: Option<String>, field: &str| {
        let value = value.unwrap_or_else(|| "/".to_owned());
        values::path(&value).map_err(|message| Bad::at(format!("path.{field}"), message))
    };
    match (spec.kind, &spec.replace_full_path, &spec.replace_prefix_match) {
        (PathKind::ReplaceFullPath, _, None) => path(spec.replace_full_path, "replaceFullPath").map(NewPath::Full),
        (PathKind::ReplacePrefixMatch, None, Some(value)) if value.is_empty() => Ok(NewPath::Prefix(String::new())),
        (PathKind::ReplacePrefixMatch, None, _) => {
            let path = path(spec.replace_prefix_match, "replacePrefixMatch")?;
            Ok(NewPath::Prefix(path.trim_end_matches('/').to_owned()))
        }
        _ => Err(Bad::at("path", "it must have what its type says, and nothing else")),
    }
}

fn cors(spec: CorsSpec) -> Result<Cors, Bad> {
    let words = |list: &[String], field: &str| {
        let bad = |word: &String| word != "*" && values::header_name(word).is_err();
        match list.iter().position(bad) {
            Some(index) => Err(Bad::at(format!("cors.{field}[{index}]"), "neither a name nor *")),
            None => Ok(()),
        }
    };
    words(&spec.allow_methods, "allowMethods")?;
    words(&spec.allow_headers, "allowHeaders")?;
    words(&spec.expose_headers, "exposeHeaders")?;
    if let Some(index) = spec
        .allow_origins
        .iter()
        .position(|origin| values::header_value(origin).is_err())
    {
        return Err(Bad::at(format!("cors.allowOrigins[{index}]"), "no origin"));
    }
    Ok(Cors {
        origins: spec.allow_origins.into_iter().map(Origin::Glob).collect(),
        methods: spec.allow_methods,
        headers: spec.allow_headers,
        expose: spec.expose_headers,
        max_age: Some(spec.max_age.unwrap_or(5).into()),
        credentials: spec.allow_credentials.unwrap_or(false),
        forwards_others: false,
    })
}
