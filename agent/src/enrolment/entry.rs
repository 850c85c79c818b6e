//! One pod and all that is open for it.

use std::{error::Error, os::unix::fs::MetadataExt, sync::Arc};

use culvert_net::Netns;
use tokio::time::Instant;

use super::{
    notices::Inspection,
    plan::{Known, Phase},
};
use crate::{
    handover::{Offer, listeners::Listeners, ports},
    kernel::{Kernel, KernelError, PodCapture},
    source::PodSpec,
};

/// A pod that is wanted, or was.
pub(super) struct Entry {
    pub(super) spec: PodSpec,
    pub(super) phase: Phase,
    /// When the clock moves it on.
    pub(super) due: Option<Instant>,
    pub(super) problem: Option<String>,
    /// What is worth knowing of it.
    pub(super) notices: Vec<String>,
    /// A proxy has said that it has the certificate.
    pub(super) certified: bool,
    /// Absent when it could not be opened.
    pub(super) place: Option<Place>,
    /// Ours; absent while only a proxy holds them.
    pub(super) listeners: Option<Arc<Listeners>>,
    /// On its way out, and no longer captured in any direction.
    pub(super) withdrawn: bool,
}

/// The network namespace.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) netns: Arc<Netns>,
    pub(super) cookie: u64,
}

impl Entry {
    pub(super) fn new(spec: PodSpec, phase: Phase) -> Self {
        Self {
            spec,
            phase,
            due: None,
            problem: None,
            notices: Vec::new(),
            certified: false,
            place: None,
            listeners: None,
            withdrawn: false,
        }
    }

    pub(super) fn cookie(&self) -> Option<u64> {
        self.place.as_ref().map(|place| place.cookie)
    }

    /// Whether proxies should have it.
    pub(super) fn is_served(&self) -> bool {
        self.place.is_some() && !self.withdrawn
    }

    pub(super) fn offer(&self, with_listeners: bool) -> Option<Offer> {
        Some(Offer {
            spec: self.spec.clone(),
            netns: Arc::clone(&self.place.as_ref()?.netns),
            listeners: self.listeners.clone().filter(|_| with_listeners),
        })
    }

    /// Tells the kernel what holds for the pod's phase.
    pub(super) fn enrol(&self, kernel: &mut Kernel) -> Result<(), KernelError> {
        use std::os::fd::AsFd as _;
        let Some(place) = &self.place else { return Ok(()) };
        let capture = PodCapture {
            cookie: place.cookie,
            netns: place.netns.as_fd(),
            addresses: &self.spec.addresses,
            listeners: None,
            outbound: self.phase == Phase::Captured,
            inbound: matches!(self.phase, Phase::Captured | Phase::Leaving) && !self.withdrawn,
        };
        match &self.listeners {
            Some(listeners) => listeners.with(|lent| {
                kernel.enrol(&PodCapture {
                    listeners: Some(lent),
                    ..capture
                })
            }),
            None => kernel.enrol(&capture),
        }
    }

    /// Notes what is worth knowing of its namespace, and says what is new.
    pub(super) fn inspect(&mut self) {
        let Some(place) = self.place.as_ref().filter(|_| self.phase == Phase::Captured) else {
            self.notices.clear();
            return;
        };
        let Ok(found) = Inspection::of(&place.netns) else {
            return;
        };
        let notices = found.notices(&self.spec.addresses);
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

    /// Whether the namespace's name is gone, or names another one now.
    pub(super) fn has_vanished(&self) -> bool {
        let Some(place) = &self.place else { return false };
        let named = std::fs::metadata(&self.spec.netns).map(|metadata| metadata.ino()).ok();
        named != place.netns.inode().ok()
    }
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
