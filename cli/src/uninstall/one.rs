//! Removing one object.

use crate::cluster::Failure;
use kube::{Api, api::DeleteParams};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// `None` when it was gone already.
pub(super) async fn delete<K>(api: &Api<K>, kind: &str, name: &str) -> Result<Option<String>, Failure>
where
    K: Clone + Debug + DeserializeOwned,
{
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(Some(format!("{kind} {name}"))),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(Failure::of(format!("removing {kind} {name}"), error)),
    }
}
