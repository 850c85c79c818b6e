//! Endpoints that are known by their DNS names, as connections meet them: their addresses are looked up in what the pod's resolver has
//! said ([`culvert_dns::Names`]), or waited for.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use culvert_dns::{Asking, Look, Names, Wanted};
use culvert_state::{Named, Outbound, Tried};
use culvert_tunnel::failure::Failure;

use super::{
    flow::{Flow, NamedEndpoint, Phase},
    keys::FlowKey,
    loop_state::{Loop, Todo},
};

impl Flow {
    /// Where it has failed before.
    pub(super) fn tried(&self) -> Tried<'_> {
        Tried {
            targets: &self.attempts.tried,
            names: &self.attempts.names,
        }
    }

    /// At which addresses it has failed, at this port.
    pub(super) fn tried_at(&self, port: u16) -> Vec<IpAddr> {
        let targets = self.attempts.tried.iter();
        targets
            .filter(|target| target.port() == port)
            .map(|target| target.ip())
            .collect()
    }

    /// An attempt failed. A name has failed when none of its addresses is left.
    pub(super) fn note_failed(&mut self, failure: &Failure, names: &Names<FlowKey>, now: Instant) {
        let is_resolved = !matches!(failure, Failure::Unresolved { .. });
        let is_again = self.attempts.tried.contains(&self.target);
        if is_resolved {
            self.attempts.tried.push(self.target);
        }
        let Some(endpoint) = &mut self.named else { return };
        let picked = endpoint.picked.take();
        let (host, port) = (Arc::clone(&endpoint.named.host), endpoint.named.port);
        // The address of a service, all of whose endpoints have failed.
        if let (true, true, Some(address)) = (is_resolved, is_again, picked) {
            self.attempts.tried.push(SocketAddr::new(address, port));
        }
        let is_left = || names.has_untried(&self.pod.pod.uid, &host, &self.tried_at(port), now);
        if !is_resolved || !is_left() {
            self.attempts.names.push(host);
        }
    }

    /// The endpoint whose name was asked for, as long as the mesh is what it was.
    fn asked(&self, generation: u64) -> Option<Named> {
        let endpoint = self.named.as_ref().filter(|_| self.phase == Phase::Naming)?;
        (endpoint.generation == generation).then(|| endpoint.named.clone())
    }
}

impl Loop {
    /// Decides where an outbound flow goes. None where it waits for an address, or has none.
    pub(super) fn decide_outbound(&mut self, key: FlowKey) -> Option<Result<Outbound, Failure>> {
        let flow = self.flows.get_mut(key)?;
        let chosen = flow.asked(self.mesh.generation()).map(Outbound::Resolve);
        let decide = |flow: &Flow| {
            let pod = &flow.pod.pod;
            self.mesh.outbound_past(pod, flow.destination, flow.tried())
        };
        match chosen.unwrap_or_else(|| decide(flow)) {
            Outbound::Resolve(named) => self.look_up(key, named),
            decision => {
                flow.named = None;
                Some(Ok(decision))
            }
        }
    }

    fn look_up(&mut self, key: FlowKey, named: Named) -> Option<Result<Outbound, Failure>> {
        let flow = self.flows.get_mut(key)?;
        let tried = flow.tried_at(named.port);
        let before = flow.named.as_ref().filter(|before| before.named.host == named.host);
        let picked = before.and_then(|before| before.picked);
        let look = match picked {
            Some(address) => Look::Known(address),
            None => {
                let pod = &flow.pod.pod;
                let has = |v4: bool| {
                    pod.addresses
                        .iter()
                        .any(|address| address.to_canonical().is_ipv4() == v4)
                };
                let asking = Asking {
                    pod: &pod.uid,
                    host: &named.host,
                    families: (has(true), has(false)),
                };
                let wanted = Wanted {
                    v4: flow.destination.is_ipv4(),
                    tried: &tried,
                };
                let (resolvers, config, now) = (&mut self.resolvers, &self.config, self.now);
                let whom = || match resolvers.of_pod(&pod.uid, config.calls.resolver, now) {
                    none if none.is_empty() => config.resolvers.to_vec(),
                    own => own,
                };
                self.names.look(asking, wanted, whom, key, now)
            }
        };
        flow.peer.workload = Some(Arc::clone(&named.workload));
        flow.service = Some(Arc::clone(&named.service.name));
        let mut endpoint = NamedEndpoint {
            named,
            generation: self.mesh.generation(),
            picked: None,
        };
        let outcome = match look {
            Look::Known(address) => {
                endpoint.picked = Some(address);
                if self.mesh.on_demand() {
                    self.used.insert(address);
                }
                let decision = self
                    .mesh
                    .resolved(&flow.pod.pod, &endpoint.named, address, flow.tried());
                Some(Ok(decision))
            }
            Look::Wait => {
                flow.phase = Phase::Naming;
                self.todo.push_back(Todo::Names);
                None
            }
            Look::Failed(error) => {
                self.todo.push_back(Todo::Names);
                let host = Arc::clone(&endpoint.named.host);
                let why = error.to_string().into();
                Some(Err(Failure::Unresolved { host, why }))
            }
        };
        flow.named = Some(Box::new(endpoint));
        outcome
    }
}
