//! TLSRoute.

use serde::Deserialize;
use serde_json::Value;

use super::super::model::{Named, Parent};
use super::backends;
use super::http::{hostnames, refuse_whole};
use super::notes::{Notes, Resolve};
use super::references::ParentSpec;
use super::values::{self, list};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(default, deserialize_with = "list")]
    parent_refs: Vec<ParentSpec>,
    #[serde(default, deserialize_with = "list")]
    hostnames: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    rules: Vec<RuleSpec>,
    #[serde(rename = "useDefaultGateways")]
    _use_default_gateways: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleSpec {
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(default, deserialize_with = "list")]
    backend_refs: Vec<Value>,
}

/// What a TLSRoute is for, and where connections go that ask for its names: all of TLS if it has none. None where it cannot be read,
/// which is noted.
pub(crate) fn route(spec: &Value, resolve: &dyn Resolve, notes: &mut Notes) -> Option<(Vec<Parent>, Named)> {
    let spec: Spec = values::read(spec).map_err(|bad| refuse_whole(bad, notes)).ok()?;
    let mut names = hostnames(spec.hostnames).map_err(|bad| refuse_whole(bad, notes)).ok()?;
    if names.is_empty() {
        names.push("*".to_owned());
    }
    let parents = spec.parent_refs.into_iter().map(ParentSpec::parent).collect();
    if spec.rules.len() > 1 {
        notes.refuse("spec.rules", "nothing tells its rules apart: the first counts");
    }
    let first = spec.rules.first();
    let split = first.map_or_else(Vec::new, |rule| {
        backends::targets(&rule.backend_refs, "spec.rules[0].backendRefs", resolve, notes)
    });
    Some((parents, Named { names, split }))
}
