//! Control: what a proxy learns from the controller, published for those that carry traffic to read.
//!
//! ```text
//! controller ──delta xDS──> xds ── Store::snapshot ──> Published.mesh ─────────┐
//!            <─CSR, chain─> certificates ────────────> Published.credentials ──> data path
//!                                  ^ Served, Ask::Certificate <────────────────┘
//! ```
//!
//! Whose proxy it is, is a value ([`Caller`]): a node's proxy acts for the pods of its node, a workload (a waypoint, a
//! gateway) for itself. Everything that control is told comes in [`Inputs`], what it publishes goes to [`Outputs`]; it
//! knows no flags, no program and no thread of the proxy that runs it.
//!
//! One thread runs all of it; nothing here is on the way of a connection's bytes. While the controller is away the last
//! state stays in force, and both tasks try again with growing pauses.
//!
//! Rooms: `settings` and `ask` (what comes in), `published`, `served` and `metrics` (what goes out); `channel` (the way to
//! the controller) and `stream`, above them `xds` with `apply`, `hosts` and `subscriptions`, `resources` (the same for a proxy that takes
//! other types than the mesh's), and `certificates` with `renewal`. Start reading at [`run`].

#![forbid(unsafe_code)]

mod alias;
mod apply;
mod ask;
mod backoff;
mod certificates;
mod channel;
mod hosts;
mod metrics;
mod published;
mod renewal;
mod resources;
mod served;
mod settings;
mod stream;
mod subscriptions;
mod xds;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

pub use ask::Ask;
pub use metrics::ControlMetrics;
pub use published::{Change, CredentialsByIdentity, Notify, Outputs, Published};
pub use resources::{ResourceType, Resources, run_resources};
pub use served::Served;
pub use settings::{Caller, Role, Secrets, Settings, controller_address};

/// What control needs from outside.
#[derive(Debug)]
pub struct Inputs {
    /// Who calls the controller, and how it is reached.
    pub settings: Settings,
    /// The token and roots, followed as they change.
    pub secrets: watch::Receiver<Secrets>,
    /// What the data path asks for. Control removes duplicates.
    pub asks: mpsc::UnboundedReceiver<Ask>,
    /// The pods that the proxy serves; certificates follow them.
    pub served: Arc<Served>,
}

/// Keeps configuration and certificates in step with the controller. Runs until the future is dropped.
pub async fn run(inputs: Inputs, outputs: Outputs) {
    let Inputs {
        settings,
        secrets,
        mut asks,
        served,
    } = inputs;
    let (addresses, asked_addresses) = mpsc::unbounded_channel();
    let (wanted, wanted_identities) = mpsc::unbounded_channel();
    let controller = channel::ControllerClient::new(settings, secrets);
    let sort = async {
        while let Some(ask) = asks.recv().await {
            // The receivers below live as long as this function, so sending cannot fail.
            let _ = match ask {
                Ask::Address(address) => addresses.send(xds::Question::Who(address)).is_ok(),
                Ask::Hosts(hosts) => addresses.send(xds::Question::Hosts(hosts)).is_ok(),
                Ask::Used(used) => addresses.send(xds::Question::Used(used)).is_ok(),
                Ask::UsedHosts(used) => addresses.send(xds::Question::UsedHosts(used)).is_ok(),
                Ask::Certificate(identity) => wanted.send(identity).is_ok(),
            };
        }
    };
    tokio::join!(
        sort,
        xds::run(
            controller.clone(),
            Arc::clone(&served),
            asked_addresses,
            outputs.clone()
        ),
        certificates::run(controller, served, wanted_identities, outputs),
    );
}
