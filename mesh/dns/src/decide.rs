//! From a message to what is to be done about it.

use std::sync::Arc;

use culvert_state::Mesh;

use crate::{
    answer,
    decision::{Client, Decision, Outcome, Transport},
    host::host_of,
    lookup::{Found, Known, look_up},
    question::{Asked, Question, read},
};

/// The one version of EDNS that there is (RFC 6891).
const EDNS_VERSION: u8 = 0;

/// Decides about a message that a pod sent to its resolver. `mesh` is what the proxy knows at the moment.
pub fn decide(message: &[u8], transport: Transport, client: &Client<'_>, mesh: &Mesh) -> Decision {
    let question = match read(message) {
        Asked::NoQuery => return Decision::Drop,
        Asked::Other => return Decision::Forward,
        Asked::Address(question) => question,
    };
    let Some(host) = host_of(&question.query.name) else {
        return Decision::Forward;
    };
    match look_up(&host, question.family, client, mesh) {
        Known::Nothing => Decision::Forward,
        Known::Unasked(hosts) => Decision::Ask(hosts),
        Known::Service(found) => answer(&question, transport, found),
    }
}

fn answer(question: &Question, transport: Transport, found: Found<'_, '_>) -> Decision {
    let service = Arc::clone(&found.service.name);
    let knows_version = question.edns.as_ref().is_none_or(|edns| edns.version() == EDNS_VERSION);
    if !knows_version {
        return Decision::Answer {
            message: answer::bad_version(question),
            outcome: Outcome::BadVersion,
        };
    }
    let outcome = match found.addresses.len() {
        0 => Outcome::NoData { service },
        addresses => Outcome::Found { service, addresses },
    };
    Decision::Answer {
        message: answer::addresses(question, transport, found.alias, found.addresses),
        outcome,
    }
}
