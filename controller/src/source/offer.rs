//! Which of the kinds that a cluster need not have it has, and in which versions: one question for all of them, instead of one
//! for each.
//!
//! The question is that of aggregated discovery, which Kubernetes answers since 1.27, and with a tag, so that an answer that is
//! the same as before takes no more than saying so. Where it is not answered so, every kind is looked for by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use culvert_objects::{Descriptor, Kind, Presence, known};
use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{Request, StatusCode};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use tokio::sync::watch;

/// Aggregated discovery, as it is called since Kubernetes 1.30 and was before.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// How soon it is asked again after the API server did not answer: those who wait know nothing yet.
const RETRY: Duration = Duration::from_secs(1);

/// What the cluster offers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Offer {
    /// The API server has not answered yet.
    #[default]
    Unasked,
    /// It does not answer this question.
    Unknown,
    /// These kinds.
    Kinds(Arc<Kinds>),
}

/// Versions by API group and plural name, in the API server's order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Kinds(BTreeMap<(String, String), Vec<Arc<str>>>);

impl Kinds {
    /// The version of a kind to ask for: ours, or whatever there is, so that no object is passed over.
    pub(crate) fn version(&self, descriptor: &Descriptor) -> Option<Arc<str>> {
        let offered = self
            .0
            .get(&(descriptor.group.to_owned(), descriptor.plural.to_owned()))?;
        let mut ours = descriptor.versions.iter();
        let ours = ours.find_map(|version| offered.iter().find(|offered| ***offered == **version));
        ours.or(offered.first()).cloned()
    }
}

/// Asks again and again, so often, until nobody wants to know any more.
pub(crate) fn follow(client: Client, often: Duration) -> watch::Receiver<Offer> {
    let (publish, receiver) = watch::channel(Offer::default());
    let task = async move {
        let mut tag: Option<HeaderValue> = None;
        loop {
            let asked = tokio::time::timeout(DEADLINE, ask(&client, &mut tag)).await;
            let pause = match asked {
                Ok(Ok(Some(offer))) => {
                    publish.send_if_modified(|before| {
                        let changed = *before != offer;
                        *before = offer;
                        changed
                    });
                    often
                }
                Ok(Ok(None)) => often,
                // What is known stays.
                Ok(Err(_)) | Err(_) => RETRY.min(often),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = publish.closed() => return,
            }
        }
    };
    tokio::spawn(task);
    receiver
}

/// What is offered; none if that is what it was.
async fn ask(client: &Client, tag: &mut Option<HeaderValue>) -> kube::Result<Option<Offer>> {
    let mut request = Request::get("/apis").header(ACCEPT, AGGREGATED);
    if let Some(tag) = tag.as_ref() {
        request = request.header(IF_NONE_MATCH, tag);
    }
    let request = request.body(Body::empty()).map_err(kube::Error::HttpError)?;
    let answer = client.send(request).await?;
    let status = answer.status();
    if status == StatusCode::NOT_MODIFIED {
        return Ok(None);
    }
    let new = answer.headers().get(ETAG).cloned();
    let body = answer.into_body().collect_bytes().await?;
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        let error = kube::core::Status::failure("the API server is busy", "ServiceUnavailable");
        return Err(kube::Error::Api(Box::new(error)));
    }
    let offer = match serde_json::from_slice::<Groups>(&body) {
        Ok(groups) if status.is_success() && groups.kind == "APIGroupDiscoveryList" => {
            *tag = new;
            Offer::Kinds(Arc::new(groups.kinds()))
        }
        _ => Offer::Unknown,
    };
    Ok(Some(offer))
}

/// An APIGroupDiscoveryList: what is read of it.
#[derive(Deserialize)]
struct Groups {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    metadata: Name,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Name {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    resource: String,
}

impl Groups {
    /// The kinds of groups that anybody follows a kind of.
    fn kinds(self) -> Kinds {
        let optional = |kind: &Kind| kind.descriptor().presence == Presence::Optional;
        let ours: Vec<&Descriptor> = Kind::followed().filter(optional).map(Kind::descriptor).collect();
        let mut kinds = Kinds::default();
        for group in self.items {
            let name = group.metadata.name;
            if !ours.iter().any(|descriptor| descriptor.group == name) {
                continue;
            }
            for Version { version, resources } in group.versions {
                let version: Arc<str> = version.into();
                for Resource { resource } in resources {
                    let is_known = ours.iter().any(|ours| ours.group == name && ours.plural == resource);
                    if !is_known && known::ALL.iter().any(|known| known.group == name) {
                        tracing::warn!(
                            group = name,
                            resource,
                            "Culvert does not know this kind, and reads none of its objects"
                        );
                    }
                    kinds
                        .0
                        .entry((name.clone(), resource))
                        .or_default()
                        .push(Arc::clone(&version));
                }
            }
        }
        kinds
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kinds(versions: &[&str]) -> Kinds {
        let version = |version: &&str| json!({"version": version, "resources": [{"resource": "tcproutes"}]});
        let versions: Vec<_> = versions.iter().map(version).collect();
        let group = json!({"metadata": {"name": "gateway.networking.k8s.io"}, "versions": versions});
        let other =
            json!({"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [{"resource": "x"}]}]});
        let all = json!({"kind": "APIGroupDiscoveryList", "items": [other, group]});
        serde_json::from_value::<Groups>(all).unwrap().kinds()
    }

    #[test]
    fn the_newest_version_that_both_know_is_asked_for_and_else_whatever_there_is() {
        let descriptor = Kind::TCPRoute.descriptor();
        let asked = |versions: &[&str]| kinds(versions).version(descriptor).map(|version| version.to_string());
        assert_eq!(asked(&["v1alpha2", "v1"]).as_deref(), Some("v1"));
        assert_eq!(asked(&["v2", "v1alpha2"]).as_deref(), Some("v1alpha2"));
        assert_eq!(asked(&["v3", "v2"]).as_deref(), Some("v3"));
        assert_eq!(kinds(&["v1"]).version(Kind::UDPRoute.descriptor()), None);
        assert_eq!(kinds(&["v1"]).0.len(), 1, "nobody asks for what apps has");
    }
}
