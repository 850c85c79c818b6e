//! The proxies of this node, known by their cgroups: what they open is left alone, and what they ask of sockets is answered.

use super::{
    Kernel, KernelError,
    admitted::Admitted,
    cgroup::Cgroup,
    load,
    names::Name,
    sys::{Hook, Target},
    versions,
};
use culvert_abi::Config;
use std::{os::fd::AsFd, path::PathBuf};

impl Kernel {
    /// Names the proxies' cgroups anew, 1 to 4 of them, for example while a new proxy starts beside an old one.
    ///
    /// # Errors
    /// As for [`Kernel::open`]; also more than 4.
    pub fn set_proxies(&mut self, cgroups: &[PathBuf]) -> Result<(), KernelError> {
        if cgroups.is_empty() || cgroups.len() > Config::PROXIES {
            return Err(KernelError::Invalid(format!(
                "{} proxies, not 1 to {}",
                cgroups.len(),
                Config::PROXIES
            )));
        }
        self.proxies.clear();
        for path in cgroups {
            let admitted = self.serve_from(Cgroup::open(path)?)?;
            self.proxies.push(admitted);
        }
        self.tell_proxies()
    }

    /// Finds the cgroup of a proxy that has connected, where [`KernelConfig::proxy_cgroup`] names none: that of its whole
    /// pod, since containers come and go. When there are more than 4, the one that is gone, or else the oldest, is
    /// forgotten.
    ///
    /// # Errors
    /// The process is in no cgroup below `cgroup`, or in that itself; a failing system call.
    pub fn admit_proxy(&mut self, pid: u32) -> Result<(), KernelError> {
        if self.config.proxy_cgroup.is_some() {
            return Ok(());
        }
        let cgroup = Cgroup::of_process(pid, &self.root)?.of_pod()?;
        if self.config.proxies_in_pods && !cgroup.is_of_pod() {
            return Err(KernelError::NoPodOfProxy { pid, path: cgroup.path });
        }
        let admitted = self.serve_from(cgroup)?;
        self.proxies.retain(|other| other.id != admitted.id);
        self.proxies.push(admitted);
        if self.proxies.len() > Config::PROXIES {
            let gone = self.proxies.iter().position(Admitted::is_gone).unwrap_or(0);
            self.proxies.remove(gone);
        }
        self.tell_proxies()
    }

    /// Lets what the node's own processes open to pods reach the applications there: a kubelet's probe is to find out about
    /// the application, and has no identity of the mesh. `cookie` is that of the node's own network namespace
    /// (`SO_NETNS_COOKIE`). Processes of pods that share this namespace are not the node's.
    ///
    /// # Errors
    /// No cgroup of Kubernetes' pods at or below `cgroup`; a failing system call.
    pub fn exempt_node(&mut self, cookie: u64) -> Result<(), KernelError> {
        let own = Cgroup::of_process(std::process::id(), &self.root)?;
        let pods = Cgroup::of_all_pods(&own, &self.root)?;
        self.maps.set_node(cookie, pods.id)
    }

    fn serve_from(&mut self, cgroup: Cgroup) -> Result<Admitted, KernelError> {
        // A proxy in the captured cgroup itself would exempt every pod.
        if cgroup.id == self.root.id || !cgroup.is_within(&self.root) {
            return Err(outside("proxy", &cgroup, &self.root));
        }
        let admitted = Admitted {
            id: cgroup.id,
            path: Some(cgroup.path.clone()),
        };
        self.attach_sockopt(cgroup, true)?;
        Ok(admitted)
    }

    /// Those that an earlier agent admitted still serve, also where it was one with another layout of the maps.
    pub(super) fn remember_proxies(&mut self) -> Result<(), KernelError> {
        let mut ids = self.maps.proxies()?;
        if ids.is_empty() {
            for other in versions::others(&self.config.bpffs, &self.folder)? {
                ids.extend(other.proxies()?);
            }
            ids.sort_unstable();
            ids.dedup();
            ids.truncate(Config::PROXIES);
        }
        self.proxies = ids.into_iter().map(Admitted::earlier).collect();
        self.tell_proxies()
    }

    fn tell_proxies(&mut self) -> Result<(), KernelError> {
        let ids: Vec<u64> = self.proxies.iter().map(|proxy| proxy.id).collect();
        self.maps.set_proxies(&ids)
    }

    /// A listener that this process opens stays in this process's cgroup, and so do the sockets accepted from it: the
    /// proxy asks those for the original destination.
    pub(super) fn attach_own(&mut self) -> Result<(), KernelError> {
        let own = Cgroup::of_process(std::process::id(), &self.root)?.of_pod()?;
        if self.sockopts.contains_key(&own.id) {
            return Ok(());
        }
        self.attach_sockopt(own, false)
    }

    pub(super) fn attach_sockopt(&mut self, cgroup: Cgroup, set: bool) -> Result<(), KernelError> {
        let hooks = [
            (load::GETSOCKOPT, Name::Getsockopt(cgroup.id), Hook::Getsockopt),
            (load::SETSOCKOPT, Name::Setsockopt(cgroup.id), Hook::Setsockopt),
        ];
        for (name, pin, hook) in hooks.into_iter().take(if set { 2 } else { 1 }) {
            let program = load::program(&self.ebpf, name)?;
            self.links
                .attach(pin, program, cgroup.file.as_fd(), Target::Cgroup(cgroup.id), hook)?;
        }
        let is_proxys = set || self.sockopts.get(&cgroup.id).is_some_and(|(_, set)| *set);
        self.sockopts.insert(cgroup.id, (cgroup, is_proxys));
        Ok(())
    }
}

fn outside(what: &'static str, cgroup: &Cgroup, root: &Cgroup) -> KernelError {
    KernelError::Outside {
        what,
        path: cgroup.path.clone(),
        cgroup: root.path.clone(),
    }
}
