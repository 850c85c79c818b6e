//! The admin endpoints of our pods, by way of the API server, so that this command needs no way into the pod network.

use super::{api::Cluster, forward, names};
use crate::http;
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long a page may take. A node that is dead shows as such after this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one may take that derives configuration anew.
const LONG_PATIENCE: Duration = Duration::from_secs(30);
/// The longest page that is believed, bytes.
const LONGEST: usize = 64 << 20;

/// What a page answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// HTTP status.
    pub(crate) status: u16,
    /// The text.
    pub(crate) body: String,
}

/// Why a page has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unanswered(pub(crate) String);

impl Page {
    /// The answer as JSON, when it is a good one.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Unanswered> {
        if self.status != 200 {
            let words = self.body.trim();
            return Err(Unanswered(format!("answered {}: {words}", self.status)));
        }
        serde_json::from_str(&self.body).map_err(|error| Unanswered(format!("answered what is not JSON: {error}")))
    }
}

impl Cluster {
    /// A page that listens on the pod's address, through the API server's proxy.
    pub(crate) async fn page(&self, pod: &str, port: u16, path: &str) -> Result<Page, Unanswered> {
        let uri = format!("/api/v1/namespaces/{}/pods/{pod}:{port}/proxy{path}", names::NAMESPACE);
        in_time(PATIENCE, async {
            let request = ::http::Request::get(uri).body(Body::empty()).map_err(unanswered)?;
            let response = self.client.send(request).await.map_err(unanswered)?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), LONGEST).collect().await;
            let body = body.map_err(|error| Unanswered(error.to_string()))?.to_bytes();
            told_by_api_server(Page {
                status,
                body: String::from_utf8_lossy(&body).into_owned(),
            })
        })
        .await
    }

    /// A page that listens on the pod's localhost, through a forwarded port.
    pub(crate) async fn admin_page(&self, pod: &str, port: u16, path: &str) -> Result<Page, Unanswered> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = in_time(PATIENCE, self.exchange(names::NAMESPACE, pod, port, request.as_bytes())).await?;
        let body = http::body(&answer).map_err(|error| Unanswered(format!("{error:#}")))?;
        Ok(Page { status: 200, body })
    }

    /// The same for a page that is sent something and may have to think about it.
    pub(crate) async fn post_admin_page(
        &self,
        pod: &str,
        port: u16,
        path: &str,
        body: &str,
    ) -> Result<Page, Unanswered> {
        self.post_admin_page_in(names::NAMESPACE, pod, port, path, body).await
    }

    /// The same of a pod in any namespace, such as a waypoint's.
    pub(crate) async fn post_admin_page_in(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
        path: &str,
        body: &str,
    ) -> Result<Page, Unanswered> {
        let request = http::post(path, "localhost", body);
        let answer = in_time(LONG_PATIENCE, self.exchange(namespace, pod, port, request.as_bytes())).await?;
        let (status, body) = http::answer(&answer).map_err(|error| Unanswered(format!("{error:#}")))?;
        Ok(Page { status, body })
    }

    async fn exchange(&self, namespace: &str, pod: &str, port: u16, request: &[u8]) -> Result<Vec<u8>, Unanswered> {
        let answer = forward::exchange(&self.client, namespace, pod, port, request, LONGEST).await;
        answer.map_err(unanswered)
    }
}

async fn in_time<T>(
    patience: Duration,
    question: impl Future<Output = Result<T, Unanswered>>,
) -> Result<T, Unanswered> {
    let late = || Unanswered(format!("no answer within {} s", patience.as_secs()));
    tokio::time::timeout(patience, question)
        .await
        .unwrap_or_else(|_| Err(late()))
}

fn unanswered(error: impl std::error::Error) -> Unanswered {
    let mut words = error.to_string();
    let mut inner = error.source();
    while let Some(next) = inner {
        words = next.to_string();
        inner = next.source();
    }
    Unanswered(words)
}

/// Tells the API server's own refusals, which are `Status` objects, from the pod's answers.
fn told_by_api_server(page: Page) -> Result<Page, Unanswered> {
    if page.status < 400 {
        return Ok(page);
    }
    let status: Option<serde_json::Value> = serde_json::from_str(&page.body).ok();
    match status.filter(|value| value["kind"] == "Status") {
        Some(status) => {
            let message = status["message"].as_str().unwrap_or(&page.body);
            Err(Unanswered(message.to_owned()))
        }
        None if page.body.starts_with("error trying to reach service") => Err(Unanswered(page.body.trim().to_owned())),
        None => Ok(page),
    }
}

#[cfg(test)]
mod tests {
    use super::{Page, told_by_api_server};

    fn page(status: u16, body: &str) -> Page {
        Page {
            status,
            body: body.to_owned(),
        }
    }

    #[test]
    fn a_pods_refusal_is_an_answer_but_the_api_servers_is_none() {
        let missing = page(503, "missing:\ncertificates\n");
        assert_eq!(told_by_api_server(missing.clone()), Ok(missing));
        let forbidden = page(403, r#"{"kind":"Status","message":"pods is forbidden"}"#);
        assert_eq!(told_by_api_server(forbidden).unwrap_err().0, "pods is forbidden");
        assert!(told_by_api_server(page(503, "error trying to reach service: dial tcp: refused")).is_err());
    }

    #[test]
    fn json_is_read_only_from_a_good_answer() {
        assert_eq!(page(200, "[1]").json::<Vec<u8>>(), Ok(vec![1]));
        assert!(page(503, "[1]").json::<Vec<u8>>().is_err());
        assert!(page(200, "<html>").json::<Vec<u8>>().is_err());
    }
}
