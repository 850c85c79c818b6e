//! What a service account token says of itself.
//!
//! Nothing here is believed: the API server checks the signature. The claims serve to say in plain words why a token was
//! refused, and until when a verdict of the API server can hold at most.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use time::OffsetDateTime;

/// Real ones have less than 2 KiB.
const LONGEST: usize = 16 * 1024;

/// What the subject of a service account's token begins with.
pub(super) const ACCOUNT: &str = "system:serviceaccount:";

/// How much of a stranger's text may enter a log line or a status.
const QUOTED: usize = 120;

/// Claims of a JSON web token, unchecked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Unix seconds.
    pub(crate) expires: Option<i64>,
    /// Unix seconds.
    pub(crate) not_before: Option<i64>,
    pub(crate) audiences: Vec<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) subject: Option<String>,
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoToken {
    #[error("it is longer than any service account token")]
    Long,
    #[error("it is no JSON web token")]
    Form,
}

impl Claims {
    /// Reads `header.claims.signature`.
    ///
    /// # Errors
    /// When the text has another form.
    pub(crate) fn parse(token: &str) -> Result<Self, NoToken> {
        if token.len() > LONGEST {
            return Err(NoToken::Long);
        }
        let mut parts = token.split('.');
        let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(NoToken::Form);
        };
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).map_err(|_| NoToken::Form)?;
        let claims: Value = serde_json::from_slice(&claims).map_err(|_| NoToken::Form)?;
        if !claims.is_object() {
            return Err(NoToken::Form);
        }
        let texts = |value: &Value| -> Vec<String> {
            let one = value.as_str().map(str::to_owned);
            let many = value.as_array().into_iter().flatten();
            one.into_iter()
                .chain(many.filter_map(|text| text.as_str().map(str::to_owned)))
                .collect()
        };
        Ok(Self {
            expires: seconds(&claims["exp"]),
            not_before: seconds(&claims["nbf"]),
            audiences: texts(&claims["aud"]),
            issuer: claims["iss"].as_str().map(str::to_owned),
            subject: claims["sub"].as_str().map(str::to_owned),
        })
    }

    /// Whether the token cannot be accepted, whoever signed it: it is over, meant for others, or no service account's. Such a
    /// token is not worth the API server's time.
    pub(crate) fn is_hopeless(&self, audience: &str, now: i64) -> bool {
        let is_over = self.expires.is_none_or(|at| at <= now);
        let is_ours = self.audiences.iter().any(|own| own == audience);
        let has_issuer = self.issuer.as_ref().is_some_and(|issuer| !issuer.is_empty());
        let subject = self.subject.as_deref().unwrap_or_default();
        is_over || !is_ours || !has_issuer || !subject.starts_with(ACCOUNT)
    }

    /// Why the API server does not accept the token, as far as the claims tell; its own words otherwise.
    pub(crate) fn explain(&self, audience: &str, now: i64, said: &str) -> String {
        if let Some(expires) = self.expires.filter(|&at| at <= now) {
            return format!("it expired at {}; the clock here says {}", date(expires), date(now));
        }
        if let Some(begin) = self.not_before.filter(|&at| at > now) {
            return format!(
                "it is not yet valid: it begins at {}, and the clock here says {}; one of the clocks is wrong",
                date(begin),
                date(now)
            );
        }
        if !self.audiences.iter().any(|own| own == audience) {
            let own = quoted(&self.audiences.join(", "));
            return format!("it is meant for the audience {own}, not for `{audience}`");
        }
        if !self.subject.as_deref().unwrap_or_default().starts_with(ACCOUNT) {
            let own = quoted(self.subject.as_deref().unwrap_or_default());
            return format!("its subject is {own}, which is no service account");
        }
        let said = match said {
            "" => "it gives no reason",
            said => said,
        };
        let issuer = quoted(self.issuer.as_deref().unwrap_or_default());
        format!("the API server refuses it, issued by {issuer}: {}", shortened(said))
    }
}

fn seconds(value: &Value) -> Option<i64> {
    // Fractions are allowed by RFC 7519, section 2.
    value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))
}

fn date(seconds: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) => at.to_string(),
        Err(_) => format!("{seconds} (unix seconds)"),
    }
}

fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
