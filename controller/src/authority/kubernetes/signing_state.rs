//! The Secret in which the leader keeps what signs at the moment, and since when each root is known.
//!
//! A controller that starts takes up signing where it was left, also in the middle of a rotation: without this, it would
//! sign under a root at once that nobody may have heard of yet. The key of the root before goes from here when the overlap
//! is over.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{review::chain, secret};
use crate::authority::SigningState;

/// The Secret's name.
const NAME: &str = "culvert-ca-signing";

/// On it: since when each root is known, by its digest, as JSON.
const KNOWN_SINCE: &str = "culvert.dev/known-since";

/// Who applies it.
const MANAGER: &str = "culvert-controller";

pub(super) struct SigningStateSecret {
    secrets: Api<Secret>,
}

impl SigningStateSecret {
    pub(super) fn new(client: &Client, namespace: &str) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
        }
    }

    /// What was kept, if anything was.
    pub(super) async fn load(&self) -> Result<Option<SigningState>, kube::Error> {
        let found = self.secrets.get_opt(NAME).await?;
        Ok(found.map(|secret| SigningState {
            material: secret::material(&secret),
            known_since: known_since(&secret),
        }))
    }

    pub(super) async fn save(&self, state: &SigningState) -> Result<(), String> {
        let known: BTreeMap<&String, String> = state
            .known_since
            .iter()
            .map(|(digest, at)| (digest, secret::rfc3339(*at)))
            .collect();
        let text = serde_json::to_string(&known).map_err(|error| error.to_string())?;
        let data: BTreeMap<String, ByteString> = secret::data(&state.material);
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(NAME.into()),
                annotations: Some([(KNOWN_SINCE.to_owned(), text)].into()),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".into()),
            data: Some(data),
            ..Secret::default()
        };
        let params = PatchParams::apply(MANAGER).force();
        let saved = self.secrets.patch(NAME, &params, &Patch::Apply(&secret)).await;
        saved.map(drop).map_err(|error| chain(&error))
    }
}

fn known_since(secret: &Secret) -> BTreeMap<String, OffsetDateTime> {
    let annotations = secret.metadata.annotations.iter().flatten();
    let text = annotations
        .filter(|(key, _)| *key == KNOWN_SINCE)
        .map(|(_, text)| text)
        .next();
    let times: BTreeMap<String, String> = text
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let parsed = |(digest, at): (String, String)| Some((digest, OffsetDateTime::parse(&at, &Rfc3339).ok()?));
    times.into_iter().filter_map(parsed).collect()
}
