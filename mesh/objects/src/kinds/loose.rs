//! An object of whatever kind, as an API server or a file has it: its metadata, and its `spec` and `status` word for word.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, Metadata, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::yaml;

/// An object of whatever kind.
#[derive(Debug, Deserialize)]
pub struct Loose {
    pub(super) metadata: ObjectMeta,
    #[serde(default, deserialize_with = "plain")]
    pub(super) spec: Value,
    #[serde(default, deserialize_with = "plain")]
    pub(super) status: Value,
}

/// A map of YAML may have numbers for keys, which are texts in JSON.
fn plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    serde_yaml_ng::Value::deserialize(deserializer).map(yaml::to_json)
}

/// No kind in particular: only the metadata is asked for.
impl Resource for Loose {
    const API_VERSION: &'static str = "";
    const GROUP: &'static str = "";
    const KIND: &'static str = "";
    const VERSION: &'static str = "";
    const URL_PATH_SEGMENT: &'static str = "";
    type Scope = ClusterResourceScope;
}

impl Metadata for Loose {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
