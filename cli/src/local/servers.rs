//! Where the programs of this machine are asked.

use crate::{cluster::names, http::Server, target::Target};

/// Where the programs of this machine are asked.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) ztunnel: Server,
    pub(crate) agent: Server,
    /// `None`: on its usual port, if it runs on this machine at all.
    pub(crate) controller: Option<Server>,
}

impl Servers {
    /// The controller's admin server.
    pub(crate) fn controller(&self) -> Server {
        let controller = self.controller.clone();
        controller.unwrap_or_else(|| Server::on_this_machine(names::ports::CONTROLLER))
    }
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
