//! A token that holds, and the key that proves it: RS256, as most issuers sign.

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize, SigningKey as _};
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

/// Who signs.
pub(super) const ISSUER: &str = "https://id.bench.example";

/// Both, as they are handed over.
pub(super) struct Token {
    pub(super) token: String,
    /// A JWKS.
    pub(super) keys: String,
}

/// A new key of 2,048 bits, and a token for a day.
pub(super) fn make() -> Result<Token> {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    let [modulus, exponent] = public_numbers(key.der_bytes())?.map(|number| URL_SAFE_NO_PAD.encode(number));
    let keys =
        json!({ "keys": [{ "kty": "RSA", "kid": "one", "alg": "RS256", "use": "sig", "n": modulus, "e": exponent }] });
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let head = json!({ "alg": "RS256", "kid": "one", "typ": "JWT" });
    let claims = json!({ "iss": ISSUER, "sub": "bench", "group": "bench", "iat": now, "exp": now + 86_400 });
    let [head, claims] = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = format!("{head}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())?);
    Ok(Token {
        token: format!("{signed}.{signature}"),
        keys: keys.to_string(),
    })
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017 appendix A.1.1): a sequence of two integers.
fn public_numbers(der: &[u8]) -> Result<[&[u8]; 2]> {
    let (sequence, _) = element(der, 0x30)?;
    let (modulus, rest) = element(sequence, 0x02)?;
    let (exponent, _) = element(rest, 0x02)?;
    // Integers whose first bit is set have a zero before it.
    Ok([modulus, exponent].map(|number| number.strip_prefix(&[0]).unwrap_or(number)))
}

/// The content of a DER element with this tag, and what is behind it.
fn element(der: &[u8], tag: u8) -> Result<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk().context("DER that is cut off")?;
    ensure!(found == tag, "DER tag {found}, not {tag}");
    let (length, rest) = match first {
        0x81 => (usize::from(*rest.first().context("no length")?), &rest[1..]),
        0x82 => {
            let (length, rest) = rest.split_first_chunk().context("no length")?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        short => (usize::from(short), rest),
    };
    rest.split_at_checked(length).context("DER that is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_token_has_its_numbers() {
        let made = make().unwrap();
        assert_eq!(made.token.split('.').count(), 3);
        let keys: serde_json::Value = serde_json::from_str(&made.keys).unwrap();
        assert_eq!(keys["keys"][0]["e"], "AQAB");
        let modulus = keys["keys"][0]["n"].as_str().unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(modulus).unwrap().len(), 256);
    }
}
