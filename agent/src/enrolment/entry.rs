//! One pod and all that is open for it.

use std::{
    error::Error,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use culvert_net::Netns;
use culvert_objects::{DnsCapture, Fallback, Hold};
use tokio::time::Instant;

use super::{
    direct::Counted,
    existing::Existing,
    notices::Inspection,
    plan::{Known, Phase},
};
use crate::{
    handover::{
        Offer,
        listeners::{Extras, Listeners},
        ports,
        waiting::Waiting,
    },
    kernel::{Kernel, KernelError, PodCapture, Strictness},
    source::PodSpec,
};

/// A pod that is wanted, or was.
pub(super) struct Entry {
    pub(super) spec: PodSpec,
    pub(super) phase: Phase,
    /// When the clock moves it on.
    pub(super) due: Option<Instant>,
    pub(super) problem: Option<String>,
    /// Why its link is not guarded, as of the last look.
    pub(super) unguarded: Option<String>,
    /// What is worth knowing of it.
    pub(super) notices: Vec<String>,
    /// A proxy has said that it has the certificate.
    pub(super) certified: bool,
    /// Absent when it could not be opened.
    pub(super) place: Option<Place>,
    /// The cookie of the namespace that was opened last.
    last_cookie: Option<u64>,
    /// Another name of the namespace, found when the first one was gone.
    alias: Option<PathBuf>,
    /// Ours; absent while only a proxy holds them.
    pub(super) listeners: Option<Arc<Listeners>>,
    /// Why its connections are not held, although it asks for that.
    pub(super) hold_problem: Option<String>,
    /// Why its DNS queries are left alone, although they should be captured.
    pub(super) dns_problem: Option<String>,
    /// Whether they should be where it does not say.
    dns_default: DnsCapture,
    /// What it had open before it was captured.
    pub(super) existing: Existing,
    /// Which of its ports are strict, as a proxy has said to this agent.
    pub(super) strictness: Option<Strictness>,
    /// Its connections that wait for a proxy.
    pub(super) waiting: Waiting,
    /// Its connections that had gone direct at the last look.
    pub(super) direct: Option<Counted>,
    /// On its way out, and no longer captured in any direction.
    pub(super) withdrawn: bool,
}

/// What a proxy can do, beyond what every proxy can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Abilities {
    /// It answers connections that are held.
    pub(super) holds: bool,
    /// It answers and forwards DNS queries.
    pub(super) resolves: bool,
    /// It says which ports of pods are strict.
    pub(super) guards: bool,
}

/// The network namespace.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) netns: Arc<Netns>,
    pub(super) cookie: u64,
}

impl Entry {
    pub(super) fn new(spec: PodSpec, phase: Phase, dns_default: DnsCapture) -> Self {
        Self {
            spec,
            phase,
            due: None,
            problem: None,
            unguarded: None,
            notices: Vec::new(),
            certified: false,
            place: None,
            last_cookie: None,
            alias: None,
            listeners: None,
            hold_problem: None,
            dns_problem: None,
            dns_default,
            existing: Existing::default(),
            strictness: None,
            waiting: Waiting::default(),
            direct: None,
            withdrawn: false,
        }
    }

    pub(super) fn cookie(&self) -> Option<u64> {
        self.place.as_ref().map(|place| place.cookie)
    }

    /// The cookie of its namespace, also when that is not open at the moment.
    pub(super) fn last_cookie(&self) -> Option<u64> {
        self.cookie().or(self.last_cookie)
    }

    pub(super) fn set_place(&mut self, place: Place) {
        self.last_cookie = Some(place.cookie);
        self.place = Some(place);
    }

    /// Goes on with what an earlier, failed attempt had.
    pub(super) fn inherit(&mut self, failed: Self) {
        // What it has is still good, unless the specification or the world has changed since.
        let is_same = failed.spec == self.spec && !failed.has_vanished();
        if failed.spec.netns == self.spec.netns {
            self.last_cookie = failed.last_cookie;
        }
        self.problem = failed.problem;
        if is_same {
            self.existing = failed.existing;
            (self.place, self.listeners) = (failed.place, failed.listeners);
            (self.hold_problem, self.dns_problem) = (failed.hold_problem, failed.dns_problem);
            self.strictness = failed.strictness;
        }
    }

    /// Whether proxies should have it.
    pub(super) fn is_served(&self) -> bool {
        self.place.is_some() && !self.withdrawn
    }

    /// Which sockets it asks for, beside those of every pod.
    pub(super) fn extras(&self) -> Extras {
        self.extras_of(&self.spec)
    }

    /// The same, were this its specification.
    pub(super) fn extras_of(&self, spec: &PodSpec) -> Extras {
        Extras {
            hold: spec.hold != Hold::None,
            dns: spec.dns.unwrap_or(self.dns_default) == DnsCapture::Enabled,
        }
    }

    pub(super) fn offer(&self, with_listeners: bool, extras: Extras) -> Option<Offer> {
        Some(Offer {
            spec: self.spec.clone(),
            netns: Arc::clone(&self.place.as_ref()?.netns),
            listeners: self.listeners.clone().filter(|_| with_listeners),
            extras,
        })
    }

    /// Tells the kernel what is so in the pod's phase, with such a proxy.
    pub(super) fn enrol(&self, kernel: &mut Kernel, proxy: Abilities) -> Result<(), KernelError> {
        use std::os::fd::AsFd as _;
        let Some(place) = &self.place else { return Ok(()) };
        let name = self.spec.name.to_string();
        let capture = PodCapture {
            name: &name,
            cookie: place.cookie,
            netns: place.netns.as_fd(),
            addresses: &self.spec.addresses,
            listeners: None,
            outbound: self.phase == Phase::Captured,
            inbound: matches!(self.phase, Phase::Captured | Phase::Leaving) && !self.withdrawn,
            hold: if proxy.holds { &self.spec.hold } else { &Hold::None },
            dns: proxy.resolves && self.extras().dns,
            guard: proxy.guards && !self.withdrawn,
            fallback: self.spec.fallback == Fallback::Direct,
        };
        match &self.listeners {
            Some(listeners) => listeners.with(|lent| {
                kernel.enrol(&PodCapture {
                    listeners: Some(lent),
                    ..capture
                })
            }),
            None => kernel.enrol(&capture),
        }?;
        self.tell_strictness(kernel)
    }

    /// Tells the kernel which ports are strict, as far as that is known here.
    pub(super) fn tell_strictness(&self, kernel: &mut Kernel) -> Result<(), KernelError> {
        match (&self.place, &self.strictness) {
            (Some(place), Some(strictness)) => kernel.set_strictness(place.cookie, strictness),
            _ => Ok(()),
        }
    }

    /// Notes what is worth knowing of its namespace, and says what is new. `guard` is what is worth knowing of its guard.
    pub(super) fn inspect(&mut self, guard: Option<String>) {
        let Some(place) = self.place.as_ref().filter(|_| self.phase == Phase::Captured) else {
            self.notices.clear();
            return;
        };
        let Ok(found) = Inspection::of(&place.netns) else {
            return;
        };
        let mut notices = found.notices(&self.spec.addresses);
        notices.extend(self.spec.hold_problem.clone());
        notices.extend(self.spec.fallback_problem.clone());
        notices.extend(self.spec.same_node_problem.clone());
        notices.extend(self.spec.dns_problem.clone());
        notices.extend(guard);
        let unheld = self.hold_problem.as_ref();
        notices.extend(
            unheld.map(|problem| format!("its connections are accepted before their far side is there: {problem}")),
        );
        let unseen = self.dns_problem.as_ref();
        notices.extend(unseen.map(|problem| format!("its DNS queries are not captured: {problem}")));
        for notice in notices.iter().filter(|notice| !self.notices.contains(notice)) {
            tracing::warn!(pod = %self.spec.name, notice, "pod");
        }
        self.notices = notices;
    }

    /// Gives the pod back what its namespace had before it was in the mesh.
    pub(super) fn give_back(&self) {
        let Some(place) = &self.place else { return };
        let given = place.netns.run(ports::give_back).map_err(std::io::Error::other);
        if let Err(error) = given.and_then(|outcome| outcome) {
            tracing::warn!(pod = %self.spec.name, %error, "settings that the mesh made stay in the pod's network namespace");
        }
    }

    /// Whether `path` names the namespace that is open.
    pub(super) fn is_named_by(&self, path: &Path) -> bool {
        let Some(place) = &self.place else { return false };
        let named = fs::metadata(path).map(|metadata| metadata.ino()).ok();
        named.is_some() && named == place.netns.inode().ok()
    }

    /// Whether the namespace is gone as far as anybody can tell, or its name means another one now.
    ///
    /// A process is not its namespace: the name `/proc/PID/ns/net` goes with the process, while the pod's other processes
    /// go on. Then another name is looked for.
    pub(super) fn has_vanished(&self) -> bool {
        self.place.is_some() && !self.is_named_by(&self.spec.netns) && !self.has_alias()
    }

    /// Notes another name of the namespace if the first one is gone. True if it was gone, and another is new.
    pub(super) fn find_alias(&mut self) -> bool {
        if self.place.is_none() || self.is_named_by(&self.spec.netns) || self.has_alias() {
            return false;
        }
        let Some(proc) = proc_of(&self.spec.netns) else {
            return false;
        };
        self.alias = candidates(proc).into_iter().find(|path| self.is_named_by(path));
        self.alias.is_some()
    }

    /// The other name.
    pub(super) fn alias(&self) -> Option<&Path> {
        self.alias.as_deref()
    }

    fn has_alias(&self) -> bool {
        self.alias.as_ref().is_some_and(|path| self.is_named_by(path))
    }

    /// Whether the namespace cannot be opened because it is not there any more: its name, which is not that of a process,
    /// is gone.
    pub(super) fn is_gone_for_good(&self) -> bool {
        let path = &self.spec.netns;
        let is_missing = fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        is_missing && proc_of(path).is_none()
    }
}

/// Where processes are seen, if `path` names a namespace by a process: the `/proc` of `/proc/PID/ns/net`.
fn proc_of(path: &Path) -> Option<&Path> {
    let process = path.parent()?.parent()?;
    let is_process = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    (path.ends_with("ns/net") && process.file_name().is_some_and(is_process))
        .then(|| process.parent())
        .flatten()
}

/// Names that a network namespace may have: those that were given, and those by processes.
fn candidates(proc: &Path) -> Vec<PathBuf> {
    let named = ["/run/netns", "/var/run/netns"].map(PathBuf::from);
    let listed = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let given = named.iter().flat_map(|folder| listed(folder).map(|entry| entry.path()));
    let by_process = listed(proc).filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.parse::<u32>().is_ok())
    });
    given
        .chain(by_process.map(|entry| entry.path().join("ns/net")))
        .collect()
}

impl Known for Entry {
    fn spec(&self) -> &PodSpec {
        &self.spec
    }

    fn phase(&self) -> Phase {
        self.phase
    }
}

/// An error with its causes, each said once.
pub(super) fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
