//! What a route, or the virtual host around it, says of filters: `typed_per_filter_config`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use culvert_envoy::pb::google::protobuf::Any;

use crate::error::CompileError;

/// Settings of filters by the filters' names.
#[derive(Clone, Debug, Default)]
pub struct Overrides(BTreeMap<String, Arc<Override>>);

/// The setting of one filter.
#[derive(Debug)]
pub enum Override {}

impl Overrides {
    /// Adds settings, in front of those that are there.
    pub(crate) fn add(&mut self, configurations: &HashMap<String, Any>) -> Result<(), CompileError> {
        for (name, any) in configurations {
            return Err(CompileError::invalid(
                name.clone(),
                format_args!("a {} is not served", any.type_url),
            ));
        }
        Ok(())
    }

    /// The setting of the filter of this name.
    pub fn get(&self, name: &str) -> Option<&Override> {
        self.0.get(name).map(Arc::as_ref)
    }
}
