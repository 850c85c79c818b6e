//! Questions to the programs of one machine, by their admin servers, without a cluster.

pub(crate) mod http;
pub(crate) mod views;

use crate::cli::Target;
use http::Server;

/// Where the programs of this machine are asked.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) ztunnel: Server,
    pub(crate) agent: Server,
    /// `None`: on its usual port, if it runs on this machine at all.
    pub(crate) controller: Option<Server>,
}

impl From<&Target> for Servers {
    fn from(target: &Target) -> Self {
        let or = |given: &Option<Server>, port| given.clone().unwrap_or_else(|| Server::on_this_machine(port));
        Self {
            ztunnel: or(&target.ztunnel, 15000),
            agent: or(&target.agent, 15022),
            controller: target.controller.clone(),
        }
    }
}
