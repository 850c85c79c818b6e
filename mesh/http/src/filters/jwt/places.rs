//! Where a provider's tokens are looked for, and how they are taken out.

use culvert_envoy::pb::envoy::extensions::filters::http::jwt_authn::v3::JwtHeader;
use http::request::Parts;
use http::{HeaderName, header};

use crate::error::{CompileError, take};
use crate::request::{FieldName, path_and_query, set_path_and_query};

/// A place.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// A field, behind a prefix.
    Header(HeaderName, String),
    /// A query parameter.
    Parameter(String),
    /// A cookie.
    Cookie(String),
}

/// The places of a provider: the usual two where it names none.
pub(super) fn compile(
    headers: &[JwtHeader],
    parameters: &[String],
    cookies: &[String],
) -> Result<Vec<Place>, CompileError> {
    if headers.is_empty() && parameters.is_empty() && cookies.is_empty() {
        return Ok(vec![
            Place::Header(header::AUTHORIZATION, "Bearer ".to_owned()),
            Place::Parameter("access_token".to_owned()),
        ]);
    }
    let mut places = Vec::new();
    for header in headers {
        take!(header => JwtHeader { name, value_prefix } unserved {});
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| CompileError::invalid("from_headers", format_args!("{name:?} is no header field's name")))?;
        places.push(Place::Header(name, value_prefix.clone()));
    }
    places.extend(parameters.iter().cloned().map(Place::Parameter));
    places.extend(cookies.iter().cloned().map(Place::Cookie));
    Ok(places)
}

impl Place {
    /// The tokens in this place.
    pub(super) fn tokens(&self, request: &Parts) -> Vec<String> {
        match self {
            Self::Header(name, prefix) => {
                // What has a fixed slot is one line: two of them are one bad token.
                let values = FieldName::Header(name.clone()).fields(&request.headers);
                let token = |value: std::borrow::Cow<'_, [u8]>| {
                    let text = str::from_utf8(&value).ok()?;
                    Some(text.strip_prefix(prefix.as_str())?.trim().to_owned())
                };
                values.filter_map(token).collect()
            }
            Self::Parameter(name) => {
                let pairs = request.uri.query().unwrap_or_default().split('&');
                let first = pairs
                    .filter_map(|pair| pair.split_once('='))
                    .find(|(key, _)| key == name);
                first.into_iter().map(|(_, value)| value.to_owned()).collect()
            }
            Self::Cookie(name) => {
                let lines = request
                    .headers
                    .get_all(header::COOKIE)
                    .iter()
                    .filter_map(|line| line.to_str().ok());
                let pairs = lines
                    .flat_map(|line| line.split(';'))
                    .filter_map(|pair| pair.trim().split_once('='));
                pairs
                    .filter(|(key, _)| key == name)
                    .map(|(_, value)| value.to_owned())
                    .collect()
            }
        }
    }

    /// Takes what is in this place out of a request. Cookies stay, as in Envoy.
    pub(super) fn remove(&self, request: &mut Parts) {
        match self {
            Self::Header(name, _) => {
                request.headers.remove(name);
            }
            Self::Parameter(name) => {
                let Some(query) = request.uri.query() else {
                    return;
                };
                let other = |pair: &&str| pair.split_once('=').map_or(*pair, |(key, _)| key) != name;
                let left: Vec<&str> = query.split('&').filter(other).collect();
                let path = path_and_query(request).split('?').next().unwrap_or_default();
                let new = if left.is_empty() {
                    path.to_owned()
                } else {
                    format!("{path}?{}", left.join("&"))
                };
                set_path_and_query(request, new.as_bytes());
            }
            Self::Cookie(_) => {}
        }
    }
}
