//! From a message to what is to be done about it.

use culvert_state::Mesh;

use crate::{
    decision::{Client, Decision, Transport},
    question::{Asked, read},
};

/// Decides about a message that a pod sent to its resolver. `mesh` is what the proxy knows at the moment.
pub fn decide(message: &[u8], _transport: Transport, _client: &Client<'_>, _mesh: &Mesh) -> Decision {
    match read(message) {
        Asked::NoQuery => Decision::Drop,
        Asked::Other | Asked::Address(_) => Decision::Forward,
    }
}
