//! Control: what the proxy learns from the controller, published for the event loops to read.
//!
//! ```text
//! controller ──delta xDS──> [xds] ── Store::snapshot ──> Shared.mesh ─────────┐
//!            <─CSR, chain─> [certificates] ──────────> Shared.credentials ──> event loops
//!                                  ^ pods of this node, Ask::Certificate <─────┘
//! ```
//!
//! One thread runs all of it; nothing here is on the way of a connection's bytes. While the controller is away the last
//! state stays in force, and both tasks try again with growing pauses.

mod backoff;
mod certificates;
mod channel;
mod renewal;
mod served;
mod subscriptions;
mod xds;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use culvert_identity::SpiffeId;
use tokio::sync::{mpsc, watch};

use crate::{
    cli::ControllerArgs,
    seam::{Ask, Shared},
    wire::Secrets,
};

pub(crate) use served::{Notify, Served};

/// What control needs from outside.
pub(crate) struct Inputs {
    /// How to reach the controller.
    pub(crate) controller: ControllerArgs,
    /// This node's name.
    pub(crate) node: String,
    /// The token and roots, as the monitor sends them.
    pub(crate) secrets: watch::Receiver<Secrets>,
    /// What loops ask for.
    pub(crate) asks: mpsc::UnboundedReceiver<Ask>,
    /// The pods of this node; certificates follow them.
    pub(crate) served: Arc<Served>,
    /// Identities of pods that were just added.
    pub(crate) identities: mpsc::UnboundedReceiver<SpiffeId>,
}

/// Runs until the future is dropped.
pub(crate) async fn run(inputs: Inputs, shared: Arc<Shared>, notify: Notify) {
    let Inputs {
        controller,
        node,
        secrets,
        mut asks,
        served,
        mut identities,
    } = inputs;
    let (addresses, asked_addresses) = mpsc::unbounded_channel();
    let (wanted, wanted_identities) = mpsc::unbounded_channel();
    let endpoint = channel::Endpoint::new(controller, secrets);
    let sort = async {
        loop {
            // The receivers below live as long as this function, so sending cannot fail.
            let _ = tokio::select! {
                Some(ask) = asks.recv() => match ask {
                    Ask::Address(address) => addresses.send(xds::Question::Who(address)).is_ok(),
                    Ask::Used(used) => addresses.send(xds::Question::Used(used)).is_ok(),
                    Ask::Certificate(identity) => wanted.send(identity).is_ok(),
                },
                Some(identity) = identities.recv() => wanted.send(identity).is_ok(),
                else => return,
            };
        }
    };
    tokio::join!(
        sort,
        xds::run(
            endpoint.clone(),
            node,
            Arc::clone(&served),
            asked_addresses,
            Arc::clone(&shared),
            Arc::clone(&notify)
        ),
        certificates::run(endpoint, served, wanted_identities, shared, notify),
    );
}
