//! One fetch of keys, bounded in time and size.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use culvert_http::filters::jwt::Keys;
use http::header::{ACCEPT, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};

use super::client::Client;
use culvert_resources::keys::Source;

/// How long a fetch may take, with the OpenID configuration in front of it.
const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of a document. Issuers have a few keys.
const MOST: usize = 256 << 10;

/// The keys of a source, as the document has them.
///
/// # Errors
/// Why there are none, for people: neither the document nor anything that it says is part of it.
pub(super) async fn keys(client: &Client, source: &Source) -> Result<Arc<str>, String> {
    let fetching = async {
        let uri = match source {
            Source::Uri(uri) => uri.to_string(),
            Source::Issuer(issuer) => named_by(client, issuer).await?,
        };
        let text = get(client, &uri).await?;
        Keys::parse(&text).map_err(|error| format!("{uri}: {error}"))?;
        let text = String::from_utf8(text).map_err(|_| format!("{uri}: not a text"))?;
        Ok(text.into())
    };
    tokio::time::timeout(DEADLINE, fetching)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}")))
}

/// The URI that the configuration of an issuer names.
async fn named_by(client: &Client, issuer: &str) -> Result<String, String> {
    let uri = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let text = get(client, &uri).await?;
    let configuration: serde_json::Value = serde_json::from_slice(&text).map_err(|error| format!("{uri}: {error}"))?;
    let named = configuration["jwks_uri"].as_str();
    named
        .map(str::to_owned)
        .ok_or_else(|| format!("{uri}: it has no jwks_uri"))
}

async fn get(client: &Client, uri: &str) -> Result<Vec<u8>, String> {
    let bad = |why: String| format!("{uri}: {why}");
    let parsed: Uri = uri.parse().map_err(|_| bad("no URI".to_owned()))?;
    if parsed.authority().is_none() || !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Err(bad("neither http nor https".to_owned()));
    }
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = parsed;
    request
        .headers_mut()
        .insert(ACCEPT, HeaderValue::from_static("application/json"));
    let response = client.request(request).await.map_err(|error| bad(causes(&error)))?;
    // Redirects are not followed: who writes the object says where the keys are.
    if response.status() != StatusCode::OK {
        return Err(bad(format!("it answers {}", response.status())));
    }
    let body = Limited::new(response.into_body(), MOST).collect().await;
    body.map(|body| body.to_bytes().to_vec())
        .map_err(|error| bad(format!("more than {MOST} bytes, or broken off: {error}")))
}

/// The whole chain in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
