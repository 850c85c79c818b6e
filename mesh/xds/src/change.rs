//! What a change of the configuration concerns: the seam between what derives resources and the streams that send them.

use std::sync::Arc;

/// One resource that is new, different or gone.
///
/// Whoever derives resources hands a batch of these over after the state that holds them has been published, so that only
/// those streams are woken whose client holds or asked for one of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The resource's type.
    pub type_url: &'static str,
    /// The resource's name.
    pub name: Arc<str>,
    /// Everything by which a client may have asked for it, before the change or after it: the name itself, aliases
    /// (`network/address`), and for a workload the resource names and aliases of the services that it is or was part of.
    pub keys: Vec<Arc<str>>,
}
