//! What happens to a pod: enrolment, and leaving in two steps.

use super::{
    Kernel, KernelError, LegsStatus, PodCapture, PodListeners, Told, config, flags, load,
    names::Name,
    surroundings::Surroundings,
    sys::{Hook, Target},
    versions,
};
use culvert_abi::{
    Address, DNS_PORT, DNS_SLOTS, HOLD_PORT, INBOUND_HBONE_PORT, INBOUND_PLAINTEXT_PORT, Listener, OUTBOUND_PORT, Pod,
};
use std::{
    collections::HashSet,
    fs::File,
    net::IpAddr,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
};

const PORTS: [u16; 3] = [OUTBOUND_PORT, INBOUND_PLAINTEXT_PORT, INBOUND_HBONE_PORT];

/// What a pod has under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodUsage {
    /// Captured connections of its that have not been established yet.
    pub opening: u64,
    /// Connections that were denied because it had its share of those.
    pub denied: u64,
    /// Connections that it opened, and that went direct because no proxy served.
    pub direct_out: u64,
    /// Connections that reached it direct for the same reason.
    pub direct_in: u64,
}

impl Kernel {
    /// Brings a pod under capture, or changes what is known of it. Doing it twice changes nothing. A connection attempt
    /// that meets the change half way is handled by the old rules or the new.
    ///
    /// A proxy that opens its listeners by itself must find the pod known before it listens: enrol with neither
    /// direction first, and again with both when the proxy is ready.
    ///
    /// # Errors
    /// An address that belongs to another enrolled pod, full maps, a namespace that is gone. A pod that was not enrolled
    /// before is then as if nothing had been asked; one that was is never less captured than before.
    pub fn enrol(&mut self, pod: &PodCapture<'_>) -> Result<(), KernelError> {
        let addresses: Vec<Address> = pod.addresses.iter().map(|address| (*address).into()).collect();
        self.names.set(pod.cookie, pod.name);
        self.check(pod, &addresses)?;
        let before = self.maps.pod(pod.cookie)?;
        let done = self.bring_in(pod, &addresses, before.map_or(0, |pod| pod.flags));
        if done.is_err() && before.is_none() {
            // The first failure is the one to report.
            let _ = self.withdraw(pod.cookie);
        }
        done
    }

    /// Lets what the pod opens from now on go out directly; what it receives stays captured, and captured connections
    /// live on. The first half of leaving: connections on their way through the proxy still arrive.
    ///
    /// # Errors
    /// A failing system call. A pod that is not enrolled is no error.
    pub fn withdraw_outbound(&mut self, cookie: u64) -> Result<(), KernelError> {
        for other in versions::others(&self.config.bpffs, &self.folder)? {
            other.withdraw_outbound(cookie)?;
        }
        self.part_same_node(cookie)?;
        let Some(mut pod) = self.maps.pod(cookie)? else {
            return Ok(());
        };
        pod.flags &= !Pod::OUTBOUND;
        if let Some(told) = self.told.get_mut(&cookie) {
            told.entry.flags &= !Pod::OUTBOUND;
        }
        self.maps.set_pod(cookie, pod)
    }

    /// Ends capture of the pod, in both directions. Connections that are open live on.
    ///
    /// # Errors
    /// A failing system call. A pod that is not enrolled is no error.
    pub fn withdraw(&mut self, cookie: u64) -> Result<(), KernelError> {
        self.withdraw_outbound(cookie)?;
        for mut other in versions::others(&self.config.bpffs, &self.folder)? {
            other.withdraw(cookie)?;
        }
        self.told.remove(&cookie);
        self.unguard(cookie)?;
        self.links.detach(Name::Pod(cookie))?;
        self.maps.remove_pod(cookie)?;
        self.maps.close_account(cookie)?;
        self.maps.forget_resolvers(cookie)?;
        for address in self.addresses.remove(&cookie).unwrap_or_default() {
            self.forget(&address)?;
        }
        self.names.forget(cookie);
        Ok(())
    }

    /// How many connections of one pod may be in the state of being opened.
    pub fn share(&self) -> u64 {
        self.config.sizes.flows_per_pod.into()
    }

    /// Whether the program that steers what a pod receives is attached to its network namespace.
    ///
    /// # Errors
    /// A failing system call.
    pub fn is_attached_to(&self, cookie: u64) -> Result<bool, KernelError> {
        self.links.has_pod(cookie)
    }

    /// What a pod has under way. Nothing for one that is not enrolled.
    ///
    /// # Errors
    /// A failing system call.
    pub fn usage(&self, cookie: u64) -> Result<PodUsage, KernelError> {
        let usage = self.maps.usage(cookie)?.unwrap_or_default();
        Ok(PodUsage {
            // Signed: while programs of another version hand a pod over, a connection may be noted before the pod has an account,
            // and taken out after.
            opening: (usage.flows as i64).max(0).unsigned_abs(),
            denied: usage.denied,
            direct_out: usage.direct_out,
            direct_in: usage.direct_in,
        })
    }

    /// The cookies of the pods that the programs know, those enrolled by an earlier process included.
    ///
    /// # Errors
    /// A failing system call.
    pub fn enrolled(&self) -> Result<Vec<u64>, KernelError> {
        self.maps.cookies()
    }

    /// Whether the programs know the pod, from this process or an earlier one.
    ///
    /// # Errors
    /// A failing system call.
    pub fn is_enrolled(&self, cookie: u64) -> Result<bool, KernelError> {
        Ok(self.maps.pod(cookie)?.is_some())
    }

    /// Whether each address of the pod has its three listening sockets, all alive, in the programs' hands.
    ///
    /// After a restart this says whether the proxy still holds the listeners of an earlier process: if so, enrol with
    /// `listeners: None` and tell the proxy to keep the pod; if not, open new ones.
    ///
    /// # Errors
    /// A failing system call.
    pub fn listening(&self, cookie: u64) -> Result<bool, KernelError> {
        Ok(self.is_listening(cookie, &self.maps.listeners()?))
    }

    fn is_listening(&self, cookie: u64, alive: &HashSet<Listener>) -> bool {
        let addresses = self.addresses.get(&cookie).map(Vec::as_slice).unwrap_or_default();
        let complete = |address: &Address| PORTS.iter().all(|port| alive.contains(&listener(*address, *port)));
        !addresses.is_empty() && addresses.iter().all(complete)
    }

    /// Puts these programs in the place of the earlier process's in the pods that are still there.
    pub(super) fn adopt_pods(&mut self) -> Result<(), KernelError> {
        self.links.update_pods(load::program(&self.ebpf, load::SK_LOOKUP)?)?;
        self.adopt_guards()
    }

    /// Whether the programs' maps hold what this process has told them of a pod; `alive` are all listeners that they hold.
    pub(super) fn is_as_told(&self, cookie: u64, told: &Told, alive: &HashSet<Listener>) -> Result<bool, KernelError> {
        if self.maps.pod(cookie)? != Some(told.entry) {
            return Ok(false);
        }
        for address in self.addresses.get(&cookie).into_iter().flatten() {
            if self.maps.owner(address)? != Some(cookie) {
                return Ok(false);
            }
        }
        if !self.guards.is_as_told(cookie)? {
            return Ok(false);
        }
        Ok(!told.listeners || self.is_listening(cookie, alive))
    }

    /// Nothing is changed yet, except that an owner of an address may be found dead.
    fn check(&mut self, pod: &PodCapture<'_>, addresses: &[Address]) -> Result<(), KernelError> {
        if addresses.is_empty() {
            return Err(KernelError::Invalid(format!("pod {} has no address", pod.name)));
        }
        if let Some(listeners) = &pod.listeners
            && listeners.outbound.len() != addresses.len()
        {
            let (sockets, addresses) = (listeners.outbound.len(), addresses.len());
            return Err(KernelError::Invalid(format!(
                "{sockets} outbound listeners for {addresses} addresses"
            )));
        }
        for address in addresses {
            if address.is_loopback() {
                let address = IpAddr::from(*address);
                return Err(KernelError::Invalid(format!(
                    "{address} cannot be the address of a pod"
                )));
            }
            let Some(owner) = self.maps.owner(address)?.filter(|owner| *owner != pod.cookie) else {
                continue;
            };
            if !self.links.pods()?.contains(&(owner, false)) {
                return Err(KernelError::AddressInUse {
                    address: (*address).into(),
                    owner,
                    name: self.names.get(owner),
                });
            }
            // Its namespace went while nobody looked, and its address was given to another.
            self.withdraw(owner)?;
        }
        Ok(())
    }

    /// In an order in which nothing is captured before there is somebody to take it.
    fn bring_in(&mut self, pod: &PodCapture<'_>, addresses: &[Address], before: u32) -> Result<(), KernelError> {
        let first = |v4: bool| {
            addresses
                .iter()
                .copied()
                .find(|address| address.is_v4() == v4)
                .unwrap_or(Address::NONE)
        };
        let wanted = [
            (pod.outbound, Pod::OUTBOUND),
            (pod.inbound, Pod::INBOUND),
            (pod.fallback, Pod::FALLBACK),
            (pod.dns, Pod::DNS),
        ];
        let flags = wanted
            .into_iter()
            .filter(|(on, _)| *on)
            .fold(0, |flags, (_, flag)| flags | flag);
        let surroundings = Surroundings::of(pod.netns, addresses)?;
        let (hold, held_ports) = config::told(pod.hold);
        let same_node = self.same_node.flags(pod.cookie);
        let flags = flags | surroundings.flags | hold | self.legs_flag(pod, before) | same_node;
        let mut entry = Pod {
            ipv4: first(true),
            ipv6: first(false),
            flags: flags::meanwhile(before, flags) | surroundings.flags,
            devices: surroundings.devices,
            held_ports,
        };

        for address in addresses {
            let known = self.addresses.entry(pod.cookie).or_default();
            if !known.contains(address) {
                known.push(*address);
            }
            self.maps.set_owner(*address, pod.cookie)?;
        }
        if let Some(listeners) = &pod.listeners {
            for (address, outbound) in addresses.iter().zip(listeners.outbound) {
                let sockets = [*outbound, listeners.inbound_plaintext, listeners.inbound_hbone];
                for (port, socket) in PORTS.into_iter().zip(sockets) {
                    self.maps.set_listener(listener(*address, port), socket)?;
                }
                if let Some(socket) = listeners.hold {
                    self.maps.set_listener(listener(*address, HOLD_PORT), socket)?;
                }
                for (port, socket) in dns_ports().zip(listeners.dns.into_iter().flatten()) {
                    self.maps.set_listener(listener(*address, port), socket)?;
                }
            }
        }
        // Known before it is captured: sock_ops looks for the pod when the proxy reaches the application.
        self.maps.open_account(pod.cookie)?;
        self.maps.set_pod(pod.cookie, entry)?;
        // Before the pod is captured, so that it is in force when the pod is said to be.
        match pod.guard {
            true => self.guard(pod),
            false => self.unguard(pod.cookie)?,
        }
        if pod.inbound {
            self.attach_pod(pod.cookie, pod.netns)?;
        }
        // Once `connect` counts on steering, steering is there.
        entry.flags = flags;
        self.maps.set_pod(pod.cookie, entry)?;
        if let Some(listeners) = &pod.listeners {
            self.take_out(listeners, addresses)?;
        }
        let has_listeners = self.told.get(&pod.cookie).is_some_and(|told| told.listeners);
        let told = Told {
            entry,
            listeners: pod.listeners.is_some() || has_listeners,
        };
        self.told.insert(pod.cookie, told);
        if !pod.inbound {
            self.links.detach(Name::Pod(pod.cookie))?;
        }

        let known = self.addresses.entry(pod.cookie).or_default();
        let lost: Vec<Address> = known.extract_if(.., |address| !addresses.contains(address)).collect();
        lost.iter().try_for_each(|address| self.forget(address))
    }

    /// Takes out what earlier listeners had besides, and these have not. Nothing counts on it any more.
    fn take_out(&mut self, listeners: &PodListeners<'_>, addresses: &[Address]) -> Result<(), KernelError> {
        let hold = listeners.hold.is_none().then_some(HOLD_PORT);
        let dns = listeners.dns.is_none().then(dns_ports);
        for port in hold.into_iter().chain(dns.into_iter().flatten()) {
            for address in addresses {
                self.maps.remove_listener(&listener(*address, port))?;
            }
        }
        Ok(())
    }

    /// Of a pod whose proxy is Culvert's own, which takes listeners: of others it is not known how they read.
    fn legs_flag(&self, pod: &PodCapture<'_>, before: u32) -> u32 {
        let is_ours = pod.listeners.is_some() || before & Pod::LEGS != 0;
        match self.legs_status {
            LegsStatus::Kernel if is_ours => Pod::LEGS,
            _ => 0,
        }
    }

    fn attach_pod(&mut self, cookie: u64, netns: BorrowedFd<'_>) -> Result<(), KernelError> {
        let looking = |source| KernelError::system("look at a pod's network namespace".to_owned(), source);
        let file = File::from(netns.try_clone_to_owned().map_err(looking)?);
        let inode = file.metadata().map_err(looking)?.ino();
        let program = load::program(&self.ebpf, load::SK_LOOKUP)?;
        let name = Name::Pod(cookie);
        self.links
            .attach(name, program, file.as_fd(), Target::Netns(inode), Hook::SkLookup)?;
        Ok(())
    }

    fn forget(&mut self, address: &Address) -> Result<(), KernelError> {
        for port in PORTS.into_iter().chain([HOLD_PORT]).chain(dns_ports()) {
            self.maps.remove_listener(&listener(*address, port))?;
        }
        self.maps.remove_owner(address)
    }
}

fn dns_ports() -> impl Iterator<Item = u16> {
    DNS_PORT..DNS_PORT + DNS_SLOTS
}

fn listener(address: Address, port: u16) -> Listener {
    Listener {
        address,
        port: port.into(),
    }
}
