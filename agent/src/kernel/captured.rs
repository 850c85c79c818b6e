//! Which pods are captured, and which of their connections are not although they should be.

use super::{Exclusions, Kernel, KernelError, sock_diag::Connection, versions};
use culvert_abi::Pod;
use std::{collections::HashSet, net::IpAddr};

impl Kernel {
    /// The pods that the programs know by any of these addresses.
    ///
    /// # Errors
    /// A failing system call.
    pub fn holders(&self, addresses: &[IpAddr]) -> Result<Vec<u64>, KernelError> {
        let owner = |address: &IpAddr| self.maps.owner(&(*address).into()).transpose();
        addresses.iter().filter_map(owner).collect()
    }

    /// Whether these programs, or those of another version, capture what the pod opens.
    ///
    /// # Errors
    /// A failing system call.
    pub fn is_captured(&self, cookie: u64) -> Result<bool, KernelError> {
        let is_here = self.maps.pod(cookie)?.is_some_and(|pod| pod.flags & Pod::OUTBOUND != 0);
        Ok(is_here || self.is_captured_by_others(cookie)?)
    }

    /// Whether these programs know the pod, or those of another version capture it.
    ///
    /// # Errors
    /// A failing system call.
    pub fn is_known_to_any(&self, cookie: u64) -> Result<bool, KernelError> {
        Ok(self.is_enrolled(cookie)? || self.is_captured_by_others(cookie)?)
    }

    /// Of connections of an enrolled pod with the world outside it, those that are not carried by a proxy although they should
    /// be: neither to excluded destinations, nor of sockets that the agent or a proxy made. Those are known by their cgroup,
    /// which may be gone while their sockets live; then nobody can tell, and they are left out.
    ///
    /// # Errors
    /// A failing system call.
    pub fn uncaptured(&self, mut connections: Vec<Connection>) -> Result<Vec<Connection>, KernelError> {
        let Exclusions { cidrs, ports } = &self.config.exclusions;
        connections.retain(|found| {
            let is_excluded = cidrs.iter().any(|cidr| cidr.contains(&found.remote.ip()));
            let is_excluded_port = [found.local, found.remote]
                .iter()
                .any(|end| ports.contains(&end.port()));
            !is_excluded && !is_excluded_port
        });
        if connections.is_empty() {
            return Ok(connections);
        }
        let living: HashSet<u64> = self.root.below().into_iter().collect();
        let ours = self.sockopts.values().flat_map(|(cgroup, _)| cgroup.below());
        let ours: HashSet<u64> = ours.chain(self.links.sockopts()?).collect();
        let is_applications = |id: u64| living.contains(&id) && !ours.contains(&id);
        connections.retain(|found| found.cgroup.is_none_or(is_applications));
        Ok(connections)
    }

    /// Whether programs of another version capture the pod with this cookie.
    ///
    /// # Errors
    /// A failing system call.
    pub fn is_captured_by_others(&self, cookie: u64) -> Result<bool, KernelError> {
        for other in versions::others(&self.config.bpffs, &self.folder)? {
            if other.captures(cookie)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
