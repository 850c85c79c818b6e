//! Who makes tokens, and what of a token is handed on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use culvert_envoy::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use culvert_envoy::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtClaimToHeader, JwtProvider, jwt_provider::JwksSourceSpecifier,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::keys::Keys;
use super::places::{self, Place};
use super::proven::Proven;
use super::status::JwtStatus;
use super::token::Token;
use crate::error::{CompileError, Within as _, take};
use crate::matching::text::Text;

/// Clocks may differ so much where nothing else is said.
const SKEW: u32 = 60;

/// A provider.
#[derive(Debug)]
pub(super) struct Provider {
    issuer: Option<String>,
    audiences: Vec<String>,
    subject: Option<Text>,
    needs_expiration: bool,
    skew: Duration,
    places: Vec<Place>,
    forward: bool,
    payload_header: Option<(HeaderName, bool)>,
    claim_headers: Vec<(HeaderName, Vec<String>)>,
    metadata: Option<String>,
    space_delimited: Vec<String>,
    keys: Keys,
    /// What these keys have verified.
    proven: Proven,
}

/// What a token that was verified leaves behind.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    remove: Vec<Place>,
    set: Vec<(HeaderName, HeaderValue)>,
    pub(super) metadata: Map<String, Value>,
}

impl Provider {
    pub(super) fn compile(message: &JwtProvider) -> Result<Self, CompileError> {
        take!(message => JwtProvider {
            issuer, audiences, subjects, require_expiration, forward, from_headers, from_params, from_cookies,
            forward_payload_header, pad_forward_payload_header, payload_in_metadata, normalize_payload_in_metadata,
            clock_skew_seconds, jwt_cache_config, claim_to_headers, clear_route_cache, jwks_source_specifier,
        } unserved { max_lifetime, header_in_metadata, failed_status_in_metadata });
        // That signatures were good is always remembered, and how many is bounded; routes are looked for after the filters.
        let _ = (jwt_cache_config, clear_route_cache);
        let name = |field: &str, text: &str| {
            HeaderName::from_bytes(text.as_bytes())
                .map_err(|_| CompileError::invalid(field, format_args!("{text:?} is no header field's name")))
        };
        let claim = |claim: &JwtClaimToHeader| {
            take!(claim => JwtClaimToHeader { header_name, claim_name } unserved { claim_path });
            let path = claim_name.split('.').map(str::to_owned).collect();
            Ok((name("claim_to_headers", header_name)?, path))
        };
        let keys = match jwks_source_specifier {
            Some(JwksSourceSpecifier::LocalJwks(source)) => inline(source).within(|| "local_jwks".into())?,
            Some(JwksSourceSpecifier::RemoteJwks(_)) => return Err(CompileError::unserved("remote_jwks")),
            None => return Err(CompileError::missing("jwks_source_specifier")),
        };
        Ok(Self {
            issuer: Some(issuer.clone()).filter(|issuer| !issuer.is_empty()),
            audiences: audiences.iter().map(|audience| bare(audience).to_owned()).collect(),
            subject: subjects
                .as_ref()
                .map(Text::compile)
                .transpose()
                .within(|| "subjects".into())?,
            needs_expiration: *require_expiration,
            skew: Duration::from_secs(u64::from(if *clock_skew_seconds == 0 {
                SKEW
            } else {
                *clock_skew_seconds
            })),
            places: places::compile(from_headers, from_params, from_cookies)?,
            forward: *forward,
            payload_header: match forward_payload_header.as_str() {
                "" => None,
                text => Some((name("forward_payload_header", text)?, *pad_forward_payload_header)),
            },
            claim_headers: claim_to_headers
                .iter()
                .map(claim)
                .collect::<Result<_, CompileError>>()?,
            metadata: Some(payload_in_metadata.clone()).filter(|name| !name.is_empty()),
            space_delimited: normalize_payload_in_metadata
                .as_ref()
                .map_or(Vec::new(), |how| how.space_delimited_claims.clone()),
            keys: Keys::parse(&keys).map_err(|error| CompileError::invalid("local_jwks", error))?,
            proven: Proven::default(),
        })
    }

    /// Takes out fields that only this provider may set.
    pub(super) fn sanitize(&self, request: &mut Parts) {
        let claims = self.claim_headers.iter().map(|(name, _)| name);
        for name in claims.chain(self.payload_header.iter().map(|(name, _)| name)) {
            request.headers.remove(name);
        }
    }

    /// Verifies every token of this provider in a request. `audiences`, if any, are those that count in place of its own.
    pub(super) fn verify(
        &self,
        request: &Parts,
        audiences: Option<&[String]>,
        now: SystemTime,
    ) -> Result<Accepted, JwtStatus> {
        let mut accepted = Accepted::default();
        let mut found = false;
        for place in &self.places {
            for text in place.tokens(request) {
                found = true;
                let token = Token::parse(&text)?;
                self.check(&token, audiences, now)?;
                self.proven.or(&text, || self.keys.verify(&token))?;
                if !self.forward {
                    accepted.remove.push(place.clone());
                }
                self.hand_on(&token, &mut accepted);
            }
        }
        if found { Ok(accepted) } else { Err(JwtStatus::Missing) }
    }

    /// Everything but the signature.
    fn check(&self, token: &Token<'_>, audiences: Option<&[String]>, now: SystemTime) -> Result<(), JwtStatus> {
        let issuer = token.claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        if self.issuer.as_ref().is_some_and(|wanted| wanted != issuer) {
            return Err(JwtStatus::UnknownIssuer);
        }
        let subject = token.claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        if self
            .subject
            .as_ref()
            .is_some_and(|wanted| !wanted.matches(subject.as_bytes()))
        {
            return Err(JwtStatus::Subject);
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let skew = self.skew.as_secs_f64();
        if token.time("nbf")?.is_some_and(|from| now + skew < from) {
            return Err(JwtStatus::NotYetValid);
        }
        match token.time("exp")? {
            Some(end) if now > end + skew => return Err(JwtStatus::Expired),
            None if self.needs_expiration => return Err(JwtStatus::NoExpiration),
            _ => {}
        }
        let wanted = audiences.unwrap_or(&self.audiences);
        let for_us = |audience: &&str| wanted.iter().any(|wanted| wanted == bare(audience));
        if !wanted.is_empty() && !token.audiences()?.iter().any(for_us) {
            return Err(JwtStatus::Audience);
        }
        Ok(())
    }

    fn hand_on(&self, token: &Token<'_>, accepted: &mut Accepted) {
        if let Some((name, padded)) = &self.payload_header {
            let missing = if *padded { (4 - token.payload.len() % 4) % 4 } else { 0 };
            let text = format!("{}{}", token.payload, "=".repeat(missing));
            accepted
                .set
                .extend(HeaderValue::try_from(text).ok().map(|value| (name.clone(), value)));
        }
        for (name, path) in &self.claim_headers {
            let mut at = token.claims.get(&path[0]);
            for key in &path[1..] {
                at = at.and_then(|value| value.get(key));
            }
            let value = at
                .and_then(claim_text)
                .and_then(|text| HeaderValue::try_from(text).ok());
            accepted.set.extend(value.map(|value| (name.clone(), value)));
        }
        if let Some(name) = &self.metadata {
            let mut claims = token.claims.clone();
            for claim in &self.space_delimited {
                if let Some(Value::String(text)) = claims.get(claim) {
                    let words: Vec<Value> = text.split_ascii_whitespace().map(Value::from).collect();
                    claims.insert(claim.clone(), Value::Array(words));
                }
            }
            accepted.metadata.insert(name.clone(), Value::Object(claims));
        }
    }
}

/// An audience as Envoy compares it: without a scheme in front and one slash behind.
pub(super) fn bare(audience: &str) -> &str {
    let rest = audience
        .strip_prefix("https://")
        .or_else(|| audience.strip_prefix("http://"))
        .unwrap_or(audience);
    rest.strip_suffix('/').unwrap_or(rest)
}

impl Accepted {
    /// Everything of two.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.remove.extend(other.remove);
        self.set.extend(other.set);
        self.metadata.extend(other.metadata);
        self
    }

    /// Changes a request: tokens go, fields come.
    pub(super) fn apply(&self, request: &mut Parts) {
        for place in &self.remove {
            place.remove(request);
        }
        for (name, value) in &self.set {
            request.headers.insert(name.clone(), value.clone());
        }
    }
}

/// A claim in a field: plain where it is text, a whole number or a truth value; other numbers with six digits, lists and objects in base64.
fn claim_text(claim: &Value) -> Option<String> {
    Some(match claim {
        Value::Null => return None,
        Value::Bool(truth) => truth.to_string(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:.6}", number.as_f64()?),
        Value::Number(number) => number.to_string(),
        // Envoy's JSON has `<` and `>` as escapes.
        other => STANDARD.encode(other.to_string().replace('<', r"\u003c").replace('>', r"\u003e")),
    })
}

fn inline(source: &DataSource) -> Result<Vec<u8>, CompileError> {
    take!(source => DataSource { specifier } unserved { watched_directory });
    match specifier {
        Some(Specifier::InlineString(text)) => Ok(text.clone().into_bytes()),
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes.clone()),
        Some(Specifier::Filename(_)) => Err(CompileError::unserved("filename")),
        Some(Specifier::EnvironmentVariable(_)) => Err(CompileError::unserved("environment_variable")),
        None => Err(CompileError::missing("specifier")),
    }
}
