//! TokenReview.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::{Api, Client, api::PostParams};

use crate::authority::{Answer, BoundPod, Review};

/// Where the API server puts what a token is bound to.
const NODE: &str = "authentication.kubernetes.io/node-name";
const POD: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// What a service account's user begins with.
const ACCOUNT: &str = "system:serviceaccount:";

/// Asks the API server about tokens.
pub(crate) struct TokenReviews {
    reviews: Api<TokenReview>,
}

impl TokenReviews {
    /// Asks through `client`.
    pub(crate) fn new(client: Client) -> Self {
        Self {
            reviews: Api::all(client),
        }
    }
}

#[tonic::async_trait]
impl Review for TokenReviews {
    async fn review(&self, token: &str, audience: &str) -> Result<Answer, String> {
        let question = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![audience.to_owned()]),
            },
            ..TokenReview::default()
        };
        let reviewed = self.reviews.create(&PostParams::default(), &question).await;
        let status = reviewed.map_err(|error| chain(&error))?.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(Answer::Refused(status.error.unwrap_or_default()));
        }
        Ok(accepted(
            status.user.unwrap_or_default(),
            status.audiences.unwrap_or_default(),
        ))
    }
}

fn accepted(user: UserInfo, audiences: Vec<String>) -> Answer {
    let extra = user.extra.unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let namespace = name.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':'));
    let pod = || {
        Some(BoundPod {
            namespace: namespace?.0.to_owned(),
            name: only(&extra, POD)?,
            uid: only(&extra, POD_UID)?,
        })
    };
    Answer::Accepted {
        node: only(&extra, NODE),
        pod: pod(),
        user: name,
        audiences,
    }
}

fn only(extra: &BTreeMap<String, Vec<String>>, key: &str) -> Option<String> {
    match extra.get(key)?.as_slice() {
        [one] => Some(one.clone()),
        _ => None,
    }
}

/// An error with its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // kube repeats the cause in its own text.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
