//! Guards: what is attached to pods' links, so that nobody gets past the tunnel to a strict port, whatever else ends.
//!
//! A guard is on the node's end of each pair of interfaces that carries an address of the pod, where nothing in the pod can remove it.
//! An interface whose other end is not on the node (macvlan, ipvlan, one that was moved) is guarded inside the pod, by a copy of the
//! program that knows which pod it is: indices of interfaces say nothing there. That takes tcx. A filter of clsact would be anybody's
//! who may administrate the pod's network, and no later agent would find it.

use super::{
    GuardHook, Kernel, KernelError, PodCapture, clsact,
    guards::{GuardStatus, NewlyDropped, Strictness, explain},
    hooks, load,
    names::{GuardName, Interface, Name},
    sys::{self, Target},
};
use aya::Ebpf;
use culvert_net::{NetError, Netns, interfaces, links};
use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};

impl Kernel {
    /// Says which ports of a guarded pod are strict. Nothing happens for a pod that is not guarded.
    ///
    /// # Errors
    /// A failing system call, more exceptions than there is room for. All ports are strict then.
    pub fn set_strictness(&mut self, cookie: u64, told: &Strictness) -> Result<(), KernelError> {
        self.guards.set_strictness(cookie, told)
    }

    /// How a pod is guarded.
    ///
    /// # Errors
    /// A failing system call.
    pub fn guard_status(&self, cookie: u64) -> Result<GuardStatus, KernelError> {
        self.guards.status(cookie)
    }

    /// What guards have dropped that this was not asked about yet, by this process or one before it.
    ///
    /// # Errors
    /// A failing system call.
    pub fn newly_dropped(&mut self) -> Result<Vec<NewlyDropped>, KernelError> {
        let all = self.guards.newly_dropped()?;
        let named = |(cookie, newly): (u64, NewlyDropped)| NewlyDropped {
            pod: self.names.get(cookie),
            ..newly
        };
        Ok(all.into_iter().map(named).collect())
    }

    /// Guards a pod's links. A pod that cannot be guarded is captured all the same, and shows why it is not guarded.
    pub(super) fn guard(&mut self, pod: &PodCapture<'_>) {
        let problem = self.try_guard(pod).err().map(|error| explain(&error));
        self.guards.set_problem(pod.cookie, pod.name, problem);
    }

    fn try_guard(&mut self, pod: &PodCapture<'_>) -> Result<(), KernelError> {
        self.guards.open(pod.cookie)?;
        let places = places(self.guards.node()?, pod)?;
        let mut done = match places.is_empty() {
            true => Err(KernelError::Invalid(
                "no interface of it has an address that the mesh knows".to_owned(),
            )),
            false => Ok(()),
        };
        let mut guarded = Vec::new();
        for at in &places {
            // Each that can be guarded is; the first failure is the one to report.
            match self.guard_at(pod, *at) {
                Ok(()) => guarded.push(*at),
                Err(error) => done = done.and(Err(error)),
            }
        }
        // Where it did not succeed this time, it may have before.
        self.unguard_all_but(pod.cookie, &places)?;
        self.guards.set_places(pod.cookie, guarded);
        done
    }

    fn guard_at(&mut self, pod: &PodCapture<'_>, at: Interface) -> Result<(), KernelError> {
        let name = GuardName { cookie: pod.cookie, at };
        let is_done = self.guards.holds(pod.cookie, at) && self.links.has_guard(name)?;
        match (at, self.guards.hook()) {
            (Interface::Pod(_), GuardHook::Clsact) => Err(KernelError::Invalid(format!(
                "the other end of its interface is not on the node, and guarding it inside the pod takes tcx (Linux 6.6; this is {})",
                hooks::release()
            ))),
            (Interface::Node(index), GuardHook::Clsact) => {
                self.guards.claim(index, pod.cookie)?;
                let program = load::program(&self.ebpf, load::GUARD)?;
                let attached = self.guards.in_node(|| clsact::attach(index, program));
                attached.map_err(|source| failed(index, source))?;
                self.links.detach(Name::Guard(name))
            }
            _ if is_done => Ok(()),
            (_, hook) => match self.attach_by_tcx(name, pod.netns) {
                Err(KernelError::NoHook { .. }) if hook == GuardHook::Auto => {
                    self.guards.fall_back();
                    self.guard_at(pod, at)
                }
                attached => attached,
            },
        }
    }

    fn attach_by_tcx(&mut self, name: GuardName, netns: BorrowedFd<'_>) -> Result<(), KernelError> {
        match name.at {
            Interface::Pod(_) => self.attach_inside(name, netns).map_err(as_unknown_hook),
            Interface::Node(index) => {
                self.guards.claim(index, name.cookie)?;
                self.attach_on_node(name).map_err(as_unknown_hook)?;
                self.remove_filter(index)
            }
        }
    }

    fn attach_on_node(&mut self, name: GuardName) -> Result<(), KernelError> {
        let program = load::program(&self.ebpf, load::GUARD)?;
        let (index, hook, guards) = (name.at.index(), name.at.hook(), &self.guards);
        let create = || guards.in_node(|| sys::link_create_on(program, index, hook));
        let attached = self
            .links
            .attach_by(Name::Guard(name), program, Target::Interface(index), create);
        attached.map(drop)
    }

    fn attach_inside(&mut self, name: GuardName, netns: BorrowedFd<'_>) -> Result<(), KernelError> {
        let copy = self.copy_for(name.cookie)?;
        let program = load::program(&copy, load::GUARD)?;
        let (index, hook) = (name.at.index(), name.at.hook());
        let create = || enter(netns, || sys::link_create_on(program, index, hook));
        let attached = self
            .links
            .attach_by(Name::Guard(name), program, Target::Interface(index), create);
        attached.map(drop)
    }

    /// A copy of the program for the inside of a pod. It finds its maps by their pins, which somebody may just have removed.
    fn copy_for(&self, cookie: u64) -> Result<Ebpf, KernelError> {
        for pin in &self.pins {
            pin.restore()?;
        }
        load::guard_inside(&self.config, &self.folder, cookie)
    }

    /// Removes what guards a pod's links.
    pub(super) fn unguard(&mut self, cookie: u64) -> Result<(), KernelError> {
        self.unguard_all_but(cookie, &[])?;
        self.guards.close(cookie)
    }

    fn unguard_all_but(&mut self, cookie: u64, kept: &[Interface]) -> Result<(), KernelError> {
        for guard in self.links.guards_of(cookie)? {
            if !kept.contains(&guard.at) {
                self.links.detach(Name::Guard(guard))?;
            }
        }
        for link in self.guards.claimed(cookie)? {
            if !kept.contains(&Interface::Node(link)) {
                self.remove_filter(link)?;
                self.guards.give_up(link)?;
            }
        }
        Ok(())
    }

    /// Removes the filter that guards by clsact, if there is one.
    fn remove_filter(&self, index: u32) -> Result<(), KernelError> {
        if self.guards.node().is_err() {
            return Ok(());
        }
        let removed = self.guards.in_node(|| clsact::detach(index));
        removed.map(drop).map_err(|source| failed(index, source))
    }

    /// Removes all filters that guard by clsact.
    pub(super) fn remove_filters(&self) -> Result<(), KernelError> {
        if self.guards.node().is_err() {
            return Ok(());
        }
        let swept = self.guards.in_node(clsact::sweep);
        swept
            .map(drop)
            .map_err(|source| KernelError::system("remove guards".to_owned(), source))
    }

    /// Puts these programs in the place of the earlier process's on the links that are still there.
    pub(super) fn adopt_guards(&mut self) -> Result<(), KernelError> {
        for guard in self.links.guards()? {
            match guard.at {
                Interface::Node(_) => self
                    .links
                    .update_guard(guard, load::program(&self.ebpf, load::GUARD)?)?,
                Interface::Pod(_) => {
                    let copy = self.copy_for(guard.cookie)?;
                    self.links.update_guard(guard, load::program(&copy, load::GUARD)?)?;
                }
            }
        }
        Ok(())
    }
}

/// Where a pod is to be guarded: by its interfaces that hold an address of the pod.
fn places(node: &Netns, pod: &PodCapture<'_>) -> Result<Vec<Interface>, KernelError> {
    let looked = enter(pod.netns, || look(node.as_fd(), pod.addresses));
    looked.map_err(|source| KernelError::system("look at the pod's links".to_owned(), source))
}

/// In the pod's network namespace.
fn look(node: BorrowedFd<'_>, addresses: &[IpAddr]) -> io::Result<Vec<Interface>> {
    let found = interfaces::addresses()?;
    let own = found
        .iter()
        .filter(|one| !one.is_loopback && addresses.contains(&one.address));
    let indices: BTreeSet<u32> = own.map(|one| one.index).collect();
    let links = indices.into_iter().map(links::link).collect::<io::Result<Vec<_>>>()?;
    // After the links: the kernel gives a namespace its number when it tells of a link into it.
    let node = links::namespace_number(node)?;
    let place = |link: &links::Link| {
        let end = node.and_then(|node| link.peer_in(node));
        end.map_or(Interface::Pod(link.index), Interface::Node)
    };
    Ok(links.iter().map(place).collect())
}

fn enter<T: Send>(netns: BorrowedFd<'_>, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let opened = Netns::from_fd(netns.try_clone_to_owned()?);
    let entered = opened.and_then(|netns| netns.run(work));
    entered.map_err(|error: NetError| io::Error::other(error))?
}

/// What a kernel without tcx says, as what it means.
fn as_unknown_hook(error: KernelError) -> KernelError {
    match error {
        KernelError::System { source, .. } if source.raw_os_error() == Some(libc::EINVAL) => hooks::no_tcx(source),
        other => other,
    }
}

fn failed(index: u32, source: io::Error) -> KernelError {
    KernelError::system(format!("change the guard on the node's interface {index}"), source)
}
