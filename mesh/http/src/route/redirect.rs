//! Redirects.

use culvert_envoy::pb::envoy::config::route::v3::RedirectAction;
use culvert_envoy::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use super::path::PathRewrite;
use crate::error::{CompileError, Within as _, take};
use crate::matching::path::Path;
use crate::request::{host, scheme};

/// Sends the client elsewhere. The answer has no body.
#[derive(Debug)]
pub struct Redirect {
    status: StatusCode,
    scheme: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    path: Option<NewPath>,
    strip_query: bool,
}

#[derive(Debug)]
enum NewPath {
    Whole(String),
    Rewrite(PathRewrite),
}

impl Redirect {
    pub(super) fn compile(action: &RedirectAction, path: &Path) -> Result<Self, CompileError> {
        take!(action => RedirectAction {
            host_redirect, port_redirect, response_code, strip_query, scheme_rewrite_specifier, path_rewrite_specifier,
        } unserved {});
        let status = match RedirectResponseCode::try_from(*response_code) {
            Ok(RedirectResponseCode::MovedPermanently) => StatusCode::MOVED_PERMANENTLY,
            Ok(RedirectResponseCode::Found) => StatusCode::FOUND,
            Ok(RedirectResponseCode::SeeOther) => StatusCode::SEE_OTHER,
            Ok(RedirectResponseCode::TemporaryRedirect) => StatusCode::TEMPORARY_REDIRECT,
            Ok(RedirectResponseCode::PermanentRedirect) => StatusCode::PERMANENT_REDIRECT,
            Err(_) => {
                return Err(CompileError::invalid(
                    "response_code",
                    format_args!("there is no {response_code}"),
                ));
            }
        };
        let port = u16::try_from(*port_redirect)
            .map_err(|_| CompileError::invalid("port_redirect", format_args!("{port_redirect} is no port")))?;
        let new_path = match path_rewrite_specifier {
            None => None,
            Some(PathRewriteSpecifier::PathRedirect(path)) => {
                Some(NewPath::Whole(path.clone())).filter(|_| !path.is_empty())
            }
            Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
                PathRewrite::compile(prefix, &None, path)?.map(NewPath::Rewrite)
            }
            Some(PathRewriteSpecifier::RegexRewrite(regex)) => Some(NewPath::Rewrite(
                PathRewrite::compile_regex(regex).within(|| "regex_rewrite".into())?,
            )),
            Some(PathRewriteSpecifier::PathRewrite(_)) => return Err(CompileError::unserved("path_rewrite")),
        };
        Ok(Self {
            status,
            scheme: match scheme_rewrite_specifier {
                Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".to_owned()),
                Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
                Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(scheme.to_ascii_lowercase()),
            },
            host: Some(host_redirect.clone()).filter(|host| !host.is_empty()),
            port: Some(port).filter(|port| *port != 0),
            path: new_path,
            strip_query: *strip_query,
        })
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The value of `location`. None where what the request brings in makes it no value of a field: the answer is 400 then.
    pub fn location(&self, request: &Parts) -> Option<HeaderValue> {
        let before = scheme(request);
        let new_scheme = self.scheme.as_deref().unwrap_or(before);
        let mut out = format!("{new_scheme}://").into_bytes();
        let asked = host(request);
        let (name, port) = match asked.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(port)),
            _ => (asked, None),
        };
        // A default port of the scheme that was is none in front of the one that will be.
        let default = |scheme: &str, port: &str| matches!((scheme, port), ("http", "80") | ("https", "443"));
        let port = port.filter(|port| self.scheme.is_none() || !default(before, port));
        out.extend_from_slice(self.host.as_deref().unwrap_or(name).as_bytes());
        match (self.port, port) {
            (Some(port), _) => out.extend_from_slice(format!(":{port}").as_bytes()),
            (None, Some(port)) if self.host.is_none() => out.extend_from_slice(format!(":{port}").as_bytes()),
            (None, _) => {}
        }
        let (path, query) = (request.uri.path(), request.uri.query().filter(|_| !self.strip_query));
        match &self.path {
            // Its own query replaces the request's.
            Some(NewPath::Whole(path)) if path.contains('?') => out.extend_from_slice(path.as_bytes()),
            Some(NewPath::Whole(path)) => add_query(&mut out, path.as_bytes(), query),
            Some(NewPath::Rewrite(rewrite)) => add_query(&mut out, &rewrite.path(path), query),
            None => add_query(&mut out, path.as_bytes(), query),
        }
        HeaderValue::try_from(out).ok()
    }
}

fn add_query(out: &mut Vec<u8>, path: &[u8], query: Option<&str>) {
    out.extend_from_slice(path);
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
}
