//! A token: JSON web signature in its compact form (RFC 7515).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::status::JwtStatus;

/// What Envoy verifies.
const ALGORITHMS: [&str; 13] = [
    "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA",
];

/// A token that is read and not verified yet.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) algorithm: String,
    pub(super) key_id: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// The payload as it is written.
    pub(super) payload: &'a str,
    /// What the signature is of.
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, JwtStatus> {
        let (signed, signature) = text.rsplit_once('.').ok_or(JwtStatus::Malformed)?;
        if signature.is_empty() {
            return Err(JwtStatus::Malformed);
        }
        let (header, payload) = signed.split_once('.').ok_or(JwtStatus::Malformed)?;
        let object = |part: &str| -> Option<Map<String, Value>> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let header = object(header).ok_or(JwtStatus::Malformed)?;
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(JwtStatus::Malformed)?;
        // What is critical must be understood (RFC 7515, section 4.1.11), and nothing is.
        if !ALGORITHMS.contains(&algorithm) || header.contains_key("crit") {
            return Err(JwtStatus::Algorithm);
        }
        Ok(Self {
            algorithm: algorithm.to_owned(),
            key_id: match header.get("kid") {
                None => None,
                Some(id) => Some(id.as_str().ok_or(JwtStatus::Malformed)?.to_owned()),
            },
            claims: object(payload).ok_or(JwtStatus::Malformed)?,
            payload,
            signed: signed.as_bytes(),
            signature: URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtStatus::Malformed)?,
        })
    }

    /// A claim that is a time, in seconds since 1970. An error where it is there and is none.
    pub(super) fn time(&self, claim: &str) -> Result<Option<f64>, JwtStatus> {
        match self.claims.get(claim) {
            None => Ok(None),
            Some(value) => value
                .as_f64()
                .filter(|time| *time >= 0.0)
                .map(Some)
                .ok_or(JwtStatus::Malformed),
        }
    }

    /// The audiences: one text or a list of them.
    pub(super) fn audiences(&self) -> Result<Vec<&str>, JwtStatus> {
        match self.claims.get("aud") {
            None => Ok(Vec::new()),
            Some(Value::String(one)) => Ok(vec![one]),
            Some(Value::Array(list)) => list
                .iter()
                .map(|one| one.as_str().ok_or(JwtStatus::Malformed))
                .collect(),
            Some(_) => Err(JwtStatus::Malformed),
        }
    }
}
