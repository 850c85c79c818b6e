//! The demo's cluster: there is one on a machine at a time, and it goes whatever happens, unless it is kept.

use super::super::progress::{self, Progress};
use anyhow::{Context, Result, bail};
use culvert_cluster::{Cluster, Options};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

/// The cluster's name.
const NAME: &str = "demo";
const NODES: u8 = 2;

/// Where the cluster is, and who may change whether it is there.
pub(super) struct DemoCluster {
    options: Options,
    /// Held while the cluster comes up or goes, so that two threads do not meet half way.
    change: Arc<Mutex<()>>,
}

impl DemoCluster {
    /// Takes down a cluster that was kept, or left by a program that was killed.
    pub(super) fn remove() -> Result<()> {
        Ok(Cluster::down(&Options::new(NAME, NODES)?.state, NAME)?)
    }

    /// Makes sure that there is no cluster yet, and that none stays when this program is interrupted.
    pub(super) fn prepare() -> Result<Self> {
        let options = Options::new(NAME, NODES)?;
        if kept(&options.state).exists() {
            bail!("the cluster of an earlier demo is still there; remove it with: cargo xtask demo --cluster --down");
        }
        // Whatever a demo left that was killed.
        Cluster::down(&options.state, NAME)?;
        let demo_cluster = Self {
            options,
            change: Arc::default(),
        };
        demo_cluster.remove_on_signals()?;
        Ok(demo_cluster)
    }

    fn remove_on_signals(&self) -> Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("handle signals")?;
        let (state, change) = (self.options.state.clone(), Arc::clone(&self.change));
        let interrupted = Arc::clone(&self.options.interrupted);
        std::thread::spawn(move || {
            let Some(signal) = signals.forever().next() else { return };
            progress::interrupt("interrupted: removing what the demo made");
            interrupted.store(true, Ordering::Relaxed);
            // A cluster that is coming up gives up first. The lock is held to the end.
            let _change = lock(&change);
            if let Err(error) = Cluster::down(&state, NAME) {
                eprintln!("cluster {NAME}: {error:#}");
            }
            std::process::exit(128 + signal);
        });
        Ok(())
    }

    /// Brings the cluster up, with these images on its nodes.
    pub(super) fn bring_up(&self, images: Vec<PathBuf>, progress: &Progress) -> Result<Cluster> {
        progress.step("a Kubernetes cluster of two nodes comes up");
        let _change = lock(&self.change);
        let mut options = self.options.clone();
        options.images = images;
        Ok(Cluster::up_with(&options, &mut |step, _| progress.note(step))?)
    }

    /// The cluster as it is, if it came up.
    pub(super) fn cluster(&self) -> Result<Cluster> {
        Ok(Cluster::attach(&self.options.state, NAME)?)
    }

    /// Takes the cluster down.
    pub(super) fn take_down(&self) -> Result<()> {
        let _change = lock(&self.change);
        Ok(Cluster::down(&self.options.state, NAME)?)
    }

    /// Leaves the cluster up, also for the next demo to see.
    pub(super) fn keep(self) -> Result<Cluster> {
        let note = kept(&self.options.state);
        fs::write(&note, "").with_context(|| format!("cannot write {}", note.display()))?;
        self.cluster()
    }
}

/// Says that a cluster was left up on purpose.
fn kept(state: &Path) -> PathBuf {
    state.join(NAME).join("kept")
}

fn lock(change: &Mutex<()>) -> MutexGuard<'_, ()> {
    change.lock().unwrap_or_else(PoisonError::into_inner)
}
