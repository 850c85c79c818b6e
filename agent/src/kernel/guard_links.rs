//! Attaching guards to pods' links, and taking them off.
//!
//! A guard is on the node's end of each pair of interfaces that carries an address of the pod, where nothing in the pod can remove it.
//! An interface whose other end is not on the node (macvlan, ipvlan, one that was moved) is guarded inside the pod, by a copy of the
//! program that knows which pod it is: indices of interfaces say nothing there. That takes tcx. A filter of clsact would be anybody's
//! who may administrate the pod's network, and no later agent would find it.

use super::{
    Kernel, KernelError, PodCapture, clsact,
    guard::explain,
    load,
    names::{GuardName, Interface, Name},
    sys::{self, Target},
};
use culvert_net::{NetError, Netns, interfaces, links};
use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
};

impl Kernel {
    /// Guards a pod's links. A pod that cannot be guarded is captured all the same, and shows why it is not guarded.
    pub(super) fn guard(&mut self, pod: &PodCapture<'_>) {
        let problem = self.try_guard(pod).err().map(|error| explain(&error));
        let guarded = self.guards.pods.entry(pod.cookie).or_default();
        if let Some(problem) = problem
            .as_ref()
            .filter(|problem| guarded.problem.as_ref() != Some(*problem))
        {
            tracing::warn!(pod = pod.name, problem, "the pod's link is not guarded");
        }
        guarded.problem = problem;
    }

    fn try_guard(&mut self, pod: &PodCapture<'_>) -> Result<(), KernelError> {
        self.guards.maps.open(pod.cookie)?;
        let places = places(self.guards.node()?, pod)?;
        if places.is_empty() {
            return Err(KernelError::Invalid(
                "no interface of it has an address that the mesh knows".to_owned(),
            ));
        }
        let before = self.links.guards()?;
        let earlier = self.guards.maps.links_of(pod.cookie)?;
        let mut done = Ok(());
        for at in &places {
            // Each that can be guarded is; the first failure is the one to report.
            match self.guard_at(pod, *at) {
                Ok(()) => self.note_guarded(pod.cookie, *at),
                Err(error) => done = done.and(Err(error)),
            }
        }
        for guard in before.into_iter().filter(|guard| guard.cookie == pod.cookie) {
            if !places.contains(&guard.at) {
                self.links.detach(Name::Guard(guard))?;
            }
        }
        for index in earlier {
            if !places.contains(&Interface::Node(index)) {
                self.remove_filter(index)?;
                self.guards.maps.remove_owner(index)?;
            }
        }
        let guarded = self.guards.pods.entry(pod.cookie).or_default();
        guarded.at.retain(|at| places.contains(at));
        done
    }

    fn note_guarded(&mut self, cookie: u64, at: Interface) {
        let guarded = self.guards.pods.entry(cookie).or_default();
        if !guarded.at.contains(&at) {
            guarded.at.push(at);
        }
    }

    fn guard_at(&mut self, pod: &PodCapture<'_>, at: Interface) -> Result<(), KernelError> {
        let name = GuardName { cookie: pod.cookie, at };
        let is_held = self
            .guards
            .pods
            .get(&pod.cookie)
            .is_some_and(|held| held.at.contains(&at));
        match at {
            Interface::Node(index) => {
                // Known before the first packet is judged.
                self.guards.maps.set_owner(index, pod.cookie)?;
                if self.guards.by_tcx {
                    if is_held && self.links.has_guard(name)? {
                        return Ok(());
                    }
                    match self.attach_guard(name) {
                        Err(error) if !self.guards.only_tcx && is_unknown_hook(&error) => {
                            tracing::info!("the kernel has no tcx: pods' links are guarded by filters of clsact");
                            self.guards.by_tcx = false;
                        }
                        Ok(()) => return self.remove_filter(index),
                        failed => return failed,
                    }
                }
                let program = load::program(&self.ebpf, load::GUARD)?;
                let attached = self.guards.in_node(|| clsact::attach(index, program));
                attached.map_err(|source| failed(index, source))?;
                self.links.detach(Name::Guard(name))
            }
            Interface::Pod(_) if !self.guards.by_tcx => Err(KernelError::Invalid(
                "the other end of its interface is not on the node, and guarding it inside the pod takes tcx (Linux 6.6)"
                    .to_owned(),
            )),
            Interface::Pod(_) if is_held && self.links.has_guard(name)? => Ok(()),
            Interface::Pod(index) => {
                let copy = load::guard_inside(&self.config, &self.folder, pod.cookie)?;
                let program = load::program(&copy, load::GUARD)?;
                let netns = pod.netns;
                let create = || enter(netns, || sys::link_create_on(program, index, at.hook()));
                self.links
                    .attach_by(Name::Guard(name), program, Target::Interface(index), create)
                    .map(drop)
            }
        }
    }

    fn attach_guard(&mut self, name: GuardName) -> Result<(), KernelError> {
        let program = load::program(&self.ebpf, load::GUARD)?;
        let (index, hook, guards) = (name.at.index(), name.at.hook(), &self.guards);
        let create = || guards.in_node(|| sys::link_create_on(program, index, hook));
        let target = Target::Interface(index);
        self.links
            .attach_by(Name::Guard(name), program, target, create)
            .map(drop)
    }

    /// Removes what guards a pod's links.
    pub(super) fn unguard(&mut self, cookie: u64) -> Result<(), KernelError> {
        for guard in self.links.guards()?.into_iter().filter(|guard| guard.cookie == cookie) {
            self.links.detach(Name::Guard(guard))?;
        }
        for index in self.guards.maps.links_of(cookie)? {
            self.remove_filter(index)?;
        }
        self.guards.pods.remove(&cookie);
        self.guards.maps.close(cookie)
    }

    /// Removes the filter that guards by clsact, if there is one.
    fn remove_filter(&self, index: u32) -> Result<(), KernelError> {
        if self.guards.node.is_err() {
            return Ok(());
        }
        let removed = self.guards.in_node(|| clsact::detach(index));
        removed.map(drop).map_err(|source| failed(index, source))
    }

    /// Removes all filters that guard by clsact.
    pub(super) fn remove_filters(&self) -> Result<(), KernelError> {
        if self.guards.node.is_err() {
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
                    let copy = load::guard_inside(&self.config, &self.folder, guard.cookie)?;
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

/// What a kernel without tcx says.
fn is_unknown_hook(error: &KernelError) -> bool {
    matches!(error, KernelError::System { source, .. } if source.raw_os_error() == Some(libc::EINVAL))
}

fn failed(index: u32, source: io::Error) -> KernelError {
    KernelError::system(format!("change the guard on the node's interface {index}"), source)
}
