//! Keys that tokens are verified with: a JSON web key set (RFC 7517), read key by key so that one that is odd does not spoil the rest.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::status::JwtStatus;
use super::token::Token;

/// A set of keys. RSA keys below 2048 bits are none.
#[derive(Clone, Debug)]
pub struct Keys(Vec<Key>);

/// Text that is no set of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It is no JSON, or has no list `keys`.
    #[error("this is not a JSON web key set")]
    Malformed,
    /// There is no key in it that could verify anything.
    #[error("there is no key in the JSON web key set that could verify a token")]
    Empty,
}

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    Ec {
        curve: Curve,
        point: Vec<u8>,
    },
    Ed25519(Vec<u8>),
    Secret(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Keys {
    /// Reads a set.
    ///
    /// # Errors
    /// Where it is none, or has no key of use.
    pub fn parse(text: &[u8]) -> Result<Self, KeysError> {
        let set: Value = serde_json::from_slice(text).map_err(|_| KeysError::Malformed)?;
        let list = set.get("keys").and_then(Value::as_array).ok_or(KeysError::Malformed)?;
        let keys: Vec<Key> = list.iter().filter_map(Key::parse).collect();
        if keys.is_empty() {
            Err(KeysError::Empty)
        } else {
            Ok(Self(keys))
        }
    }

    /// Whether one of the keys has signed a token: one of the same id and for the same algorithm, as far as either says.
    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), JwtStatus> {
        let mut status = JwtStatus::NoKey;
        for key in &self.0 {
            let other_id = matches!((&key.id, &token.key_id), (Some(key), Some(wanted)) if key != wanted);
            let other_algorithm = key
                .algorithm
                .as_ref()
                .is_some_and(|algorithm| *algorithm != token.algorithm);
            if other_id || other_algorithm {
                continue;
            }
            match key.material.verify(&token.algorithm, token.signed, &token.signature) {
                Some(true) => return Ok(()),
                Some(false) => status = JwtStatus::Signature,
                None => {}
            }
        }
        Err(status)
    }
}

impl Key {
    /// None for a key that is of no use here.
    fn parse(key: &Value) -> Option<Self> {
        let text = |name: &str| match key.get(name) {
            None => Some(None),
            Some(Value::String(text)) => Some(Some(text.clone())),
            // Present and no text: the key is not to be trusted.
            Some(_) => None,
        };
        if text("use")?.is_some_and(|usage| usage != "sig") {
            return None;
        }
        if let Some(operations) = key.get("key_ops") {
            operations
                .as_array()?
                .iter()
                .find(|operation| **operation == "verify")?;
        }
        let bytes = |name: &str| {
            let text = key.get(name)?.as_str()?;
            URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
        };
        let material = match key.get("kty")?.as_str()? {
            "RSA" => Material::Rsa {
                n: without_zeros(bytes("n")?),
                e: without_zeros(bytes("e")?),
            },
            "EC" => {
                let (curve, length) = match key.get("crv")?.as_str()? {
                    "P-256" => (Curve::P256, 32),
                    "P-384" => (Curve::P384, 48),
                    "P-521" => (Curve::P521, 66),
                    _ => return None,
                };
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != length || y.len() != length {
                    return None;
                }
                Material::Ec {
                    curve,
                    point: [&[4], x.as_slice(), y.as_slice()].concat(),
                }
            }
            "OKP" if key.get("crv")?.as_str()? == "Ed25519" => Material::Ed25519(bytes("x")?),
            "oct" => Material::Secret(bytes("k").filter(|secret| !secret.is_empty())?),
            _ => return None,
        };
        Some(Self {
            id: text("kid")?,
            algorithm: text("alg")?,
            material,
        })
    }
}

impl Material {
    /// None where the key is not one for the algorithm.
    fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> Option<bool> {
        match self {
            Self::Rsa { n, e } => {
                let parameters: &RsaParameters = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return None,
                };
                Some(
                    RsaPublicKeyComponents { n, e }
                        .verify(parameters, message, signature)
                        .is_ok(),
                )
            }
            Self::Ec { curve, point } => {
                let verification: &'static dyn VerificationAlgorithm = match (algorithm, curve) {
                    ("ES256", Curve::P256) => &signature::ECDSA_P256_SHA256_FIXED,
                    ("ES384", Curve::P384) => &signature::ECDSA_P384_SHA384_FIXED,
                    ("ES512", Curve::P521) => &signature::ECDSA_P521_SHA512_FIXED,
                    _ => return None,
                };
                Some(
                    UnparsedPublicKey::new(verification, point)
                        .verify(message, signature)
                        .is_ok(),
                )
            }
            Self::Ed25519(key) if algorithm == "EdDSA" => Some(
                UnparsedPublicKey::new(&signature::ED25519, key)
                    .verify(message, signature)
                    .is_ok(),
            ),
            Self::Secret(secret) => {
                let digest = match algorithm {
                    "HS256" => hmac::HMAC_SHA256,
                    "HS384" => hmac::HMAC_SHA384,
                    "HS512" => hmac::HMAC_SHA512,
                    _ => return None,
                };
                Some(hmac::verify(&hmac::Key::new(digest, secret), message, signature).is_ok())
            }
            Self::Ed25519(_) => None,
        }
    }
}

/// A number without zeros in front, which some sets have and no library takes.
fn without_zeros(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}
