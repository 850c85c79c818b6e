//! Extensions of Culvert's own, whose configuration is a text.

use culvert_proto::{CLIENT_IP, DIRECT, FALLBACK, SESSION_AFFINITY, TEXT_TYPE, workload::Extension};
use prost::Message as _;

use crate::error::ResourceError;

/// The text of an extension, if it is there. Extensions that are not known change nothing here: they are for others.
pub(crate) fn text_of(extensions: &[Extension], name: &'static str) -> Result<Option<String>, ResourceError> {
    let Some(found) = extensions.iter().find(|extension| extension.name == name) else {
        return Ok(None);
    };
    let config = found.config.as_ref().filter(|config| config.type_url == TEXT_TYPE);
    let text = String::decode(config.ok_or(ResourceError::Missing(name))?.value.as_slice());
    text.map(Some).map_err(|error| ResourceError::Decode(error.to_string()))
}

/// Whether a workload's connections go direct while its node has no proxy. What is not understood is no leave to send plaintext.
pub(crate) fn falls_back(extensions: &[Extension]) -> bool {
    matches!(text_of(extensions, FALLBACK), Ok(Some(kind)) if kind == DIRECT)
}

/// Whether all that a client opens goes to one endpoint.
pub(crate) fn is_sticky(extensions: &[Extension]) -> Result<bool, ResourceError> {
    match text_of(extensions, SESSION_AFFINITY)?.as_deref() {
        None => Ok(false),
        Some(CLIENT_IP) => Ok(true),
        Some(other) => Err(ResourceError::SessionAffinity(other.to_owned())),
    }
}
