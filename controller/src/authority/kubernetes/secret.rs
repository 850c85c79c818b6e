//! The Secret with the signing certificate.
//!
//! All replicas follow it. The leader makes one when there is none, replaces the one that it made when two thirds of its
//! life are over or somebody asks for it, and drops the root before when nothing can be under it any more. What somebody
//! else has put there is used and never written to.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::watch;

use super::{review::chain, signing_state::SigningStateSecret};
use crate::authority::{Authority, AuthorityError, Material, Signer, make};
use crate::clock::Clock;

/// The Secret's name, and its keys, which are cert-manager's.
pub(crate) const NAME: &str = "culvert-ca";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const ROOTS: &str = "ca.crt";

/// The ConfigMap in which the trusted roots are published.
const BUNDLE: &str = "culvert-ca-root-cert";
const BUNDLE_KEY: &str = "root-cert.pem";

/// Says that the Secret is ours to replace.
const MANAGED_BY: (&str, &str) = ("culvert.dev/managed-by", "culvert-controller");

/// Asks for another root, whatever its value.
const ROTATE: &str = "culvert.dev/rotate";

/// Says when the root was replaced last.
const ROTATED: &str = "culvert.dev/rotated-at";

/// How often the leader looks whether something is due, and how soon it tries again what failed.
const TICK: Duration = Duration::from_secs(2);

/// What may be late: a clock, a node's certificate that was signed by a replica which heard of the change last.
const SLACK: time::Duration = time::Duration::HOUR;

/// The Secret, and what is known of it.
pub(crate) struct CaSecret {
    secrets: Api<Secret>,
    bundles: Api<ConfigMap>,
    state: SigningStateSecret,
    origin: String,
    trust_domain: String,
    may_make: bool,
    /// How long a root is kept after it was replaced.
    keep: time::Duration,
    /// The Secret as it was seen last.
    secret: Option<Secret>,
    listed: bool,
    /// What was made of it, or of its last good state.
    signer: Option<Arc<Signer>>,
    was_ours: bool,
    problem: watch::Sender<Option<String>>,
    clock: Clock,
}

impl CaSecret {
    /// The Secret in `namespace`. A root of our own is made only if `may_make`. `keep` is for how long anything that was
    /// signed under a root may be about after another one has taken over.
    pub(crate) fn new(
        client: &Client,
        namespace: &str,
        trust_domain: &str,
        may_make: bool,
        keep: Duration,
        clock: Clock,
    ) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            bundles: Api::namespaced(client.clone(), namespace),
            state: SigningStateSecret::new(client, namespace),
            origin: format!("Secret {namespace}/{NAME}"),
            trust_domain: trust_domain.to_owned(),
            may_make,
            keep: time::Duration::try_from(keep).unwrap_or(time::Duration::DAY) + SLACK,
            secret: None,
            listed: false,
            signer: None,
            was_ours: false,
            problem: watch::Sender::new(None),
            clock,
        }
    }

    /// What is wrong with the Secret, if something is, as it changes.
    pub(crate) fn problem(&self) -> watch::Receiver<Option<String>> {
        self.problem.subscribe()
    }

    /// Follows the Secret, and writes it while `leader` says so. Never ends.
    pub(crate) async fn follow(mut self, authority: Arc<Authority>, mut leader: watch::Receiver<bool>) {
        self.resume(&authority).await;
        self.remember(&authority).await;
        let mut signing = authority.signing_state();
        signing.mark_changed();
        let mut unsaved = false;
        let only = watcher::Config::default()
            .fields(&format!("metadata.name={NAME}"))
            .timeout(crate::cluster::client::WATCH_SECONDS);
        let mut events = pin!(watcher(self.secrets.clone(), only).default_backoff());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut leads = true;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.take(event, &authority),
                    Some(Err(error)) => tracing::warn!(error = chain(&error), "the Secret with the signing certificate cannot be watched"),
                    None => return std::future::pending().await,
                },
                _ = tick.tick() => {}
                changed = leader.changed(), if leads => leads = changed.is_ok(),
                // The authority outlives this.
                _ = signing.changed() => unsaved = true,
            }
            if *leader.borrow() && unsaved {
                let state = signing.borrow_and_update().clone();
                unsaved = !self.save(state).await;
            }
            if *leader.borrow() && self.listed {
                self.lead().await;
            }
        }
    }

    /// Takes up signing where it was left.
    async fn resume(&self, authority: &Authority) {
        let state = loop {
            match self.state.load().await {
                Ok(state) => break state,
                Err(kube::Error::Api(status)) if status.is_forbidden() => {
                    return tracing::warn!(
                        reason = status.message,
                        "what signed before cannot be read: a rotation that is under way is not waited for"
                    );
                }
                Err(error) => tracing::warn!(error = chain(&error), "the API server is not there yet"),
            }
            tokio::time::sleep(TICK / 2).await;
        };
        let Some(state) = state else { return };
        let signer = Signer::new(state.material, "what signed before", &self.trust_domain);
        match signer {
            Ok(signer) if signer.check_clock(self.clock.utc()).is_ok() => {
                authority.resume(Arc::new(signer), &state.known_since);
            }
            Ok(_) => tracing::info!("what signed before is over"),
            Err(error) => tracing::warn!(%error, "what signed before cannot be used"),
        }
    }

    /// Keeps what signs now for whoever starts next. False when that is to be tried again.
    async fn save(&self, state: Option<crate::authority::SigningState>) -> bool {
        let Some(state) = state else { return true };
        match self.state.save(&state).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(error, "what signs now cannot be kept for the next start; trying again");
                false
            }
        }
    }

    /// Roots that were trusted before this controller began are still needed.
    async fn remember(&self, authority: &Authority) {
        loop {
            match self.bundles.get_opt(BUNDLE).await {
                Ok(found) => {
                    let data = found.and_then(|found| found.data).unwrap_or_default();
                    if let Some(pem) = data.get(BUNDLE_KEY) {
                        authority.remember(pem);
                    }
                    return;
                }
                Err(kube::Error::Api(status)) if status.is_forbidden() => {
                    return tracing::warn!(
                        reason = status.message,
                        "the trust bundle published before cannot be read"
                    );
                }
                Err(error) => tracing::warn!(error = chain(&error), "the API server is not there yet"),
            }
            tokio::time::sleep(TICK / 2).await;
        }
    }

    fn take(&mut self, event: Event<Secret>, authority: &Authority) {
        match event {
            Event::Init => self.listed = false,
            Event::InitApply(secret) | Event::Apply(secret) => {
                self.listed = true;
                self.secret = Some(secret);
                self.read(authority);
            }
            Event::Delete(_) => self.lost(),
            Event::InitDone if !self.listed => self.lost(),
            Event::InitDone => {}
        }
    }

    fn lost(&mut self) {
        self.secret = None;
        self.listed = true;
        if self.signer.is_some() {
            self.complain(format!("{} is gone; what it held stays in use", self.origin));
        }
    }

    /// Takes over what the Secret holds, if it is new and of use.
    fn read(&mut self, authority: &Authority) {
        let Some(secret) = &self.secret else { return };
        let material = material(secret);
        let ours = is_ours(secret);
        if self
            .signer
            .as_ref()
            .is_some_and(|signer| *signer.material() == material)
        {
            self.was_ours = ours;
            self.problem.send_replace(None);
            return;
        }
        let checked = Signer::new(material, &self.origin, &self.trust_domain).map_err(|why| {
            let origin = self.origin.clone();
            AuthorityError::Unusable { origin, why }
        });
        let checked = checked.and_then(|signer| signer.check_clock(self.clock.utc()).map(|()| signer));
        match checked {
            Ok(signer) => {
                let signer = Arc::new(signer);
                self.signer = Some(Arc::clone(&signer));
                self.was_ours = ours;
                self.problem.send_replace(None);
                authority.take(signer);
            }
            Err(error) if self.signer.is_some() => {
                self.complain(format!("{error}; what was there before stays in use"))
            }
            Err(error) => self.complain(error.to_string()),
        }
    }

    fn complain(&self, problem: String) {
        tracing::error!(problem, "the Secret with the signing certificate");
        self.problem.send_replace(Some(problem));
    }

    /// Does what the leader has to do, if anything.
    async fn lead(&mut self) {
        let outcome = match self.secret.clone() {
            None => self.create().await,
            Some(secret) if is_ours(&secret) => self.maintain(secret).await,
            Some(secret)
                if secret
                    .metadata
                    .annotations
                    .iter()
                    .flatten()
                    .any(|(key, _)| key == ROTATE) =>
            {
                let problem = format!(
                    "{} has the annotation {ROTATE}, but was not made here: replace what it holds where it comes from",
                    self.origin
                );
                if self.problem.borrow().as_ref() != Some(&problem) {
                    self.complain(problem);
                }
                Ok(())
            }
            Some(_) => Ok(()),
        };
        if let Err(error) = outcome {
            tracing::error!(error, "{} cannot be written; trying again", self.origin);
        }
    }

    async fn create(&mut self) -> Result<(), String> {
        let material = match &self.signer {
            // Somebody deleted it. A new root would break connections for nothing.
            Some(signer) if self.was_ours => signer.material().clone(),
            Some(_) => return Ok(()),
            None if self.may_make => make(&self.trust_domain, self.clock.utc()).map_err(|error| error.to_string())?,
            None => {
                if self.problem.borrow().is_none() {
                    self.complain(format!("{} is not there yet, and none is to be made", self.origin));
                }
                return Ok(());
            }
        };
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(NAME.into()),
                labels: Some([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())].into()),
                // When the root before was replaced is lost with a Secret that is gone: it is kept as if that was now.
                annotations: Some([(ROTATED.to_owned(), rfc3339(self.clock.utc()))].into()),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".into()),
            data: Some(data(&material)),
            ..Secret::default()
        };
        match self.secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => {
                tracing::info!("made {} with a new signing certificate", self.origin);
                self.wait_for_watch();
                Ok(())
            }
            // Somebody was faster; the watch brings it.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                self.wait_for_watch();
                Ok(())
            }
            Err(error) => Err(chain(&error)),
        }
    }

    /// Replaces the root when it is time, and drops the one before when it is time.
    async fn maintain(&mut self, mut secret: Secret) -> Result<(), String> {
        let Some(signer) = self
            .signer
            .clone()
            .filter(|signer| *signer.material() == material(&secret))
        else {
            return Ok(());
        };
        let now = self.clock.utc();
        let annotations = secret.metadata.annotations.get_or_insert_default();
        let asked = annotations.contains_key(ROTATE);
        let life = signer.not_after() - signer.not_before();
        let rotated = annotations
            .get(ROTATED)
            .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let new = if asked || now >= signer.not_after() - life / 3 {
            let mut new = make(&self.trust_domain, self.clock.utc()).map_err(|error| error.to_string())?;
            // Whoever reads the Secret alone must trust the root before as well.
            new.roots.extend(signer.anchors().iter().map(|anchor| anchor.pem()));
            annotations.remove(ROTATE);
            annotations.insert(ROTATED.into(), rfc3339(now));
            new
        } else if signer.anchors().len() > 1 && rotated.is_some_and(|at| now >= at + self.keep) {
            let mut own = signer.material().clone();
            own.roots.clone_from(&own.certificate);
            own
        } else {
            return Ok(());
        };
        tracing::info!(
            asked,
            roots = new.roots.matches("BEGIN").count(),
            "writing {}",
            self.origin
        );
        secret.data = Some(data(&new));
        // The version that was seen goes with it: a change in between is not overwritten.
        match self.secrets.replace(NAME, &PostParams::default(), &secret).await {
            Ok(_) => self.wait_for_watch(),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => self.wait_for_watch(),
            Err(error) => return Err(chain(&error)),
        }
        Ok(())
    }

    /// Nothing more is written before the watch says what is there now.
    fn wait_for_watch(&mut self) {
        self.listed = false;
    }
}

fn is_ours(secret: &Secret) -> bool {
    let (label, value) = MANAGED_BY;
    secret
        .metadata
        .labels
        .iter()
        .flatten()
        .any(|(key, text)| key == label && text == value)
}

pub(super) fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

pub(super) fn material(secret: &Secret) -> Material {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes
            .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
            .unwrap_or_default()
    };
    Material {
        certificate: text(CERTIFICATE),
        key: text(KEY),
        roots: text(ROOTS),
    }
}

pub(super) fn data(material: &Material) -> BTreeMap<String, ByteString> {
    let text = |text: &str| ByteString(text.as_bytes().to_vec());
    [
        (CERTIFICATE, text(&material.certificate)),
        (KEY, text(&material.key)),
        (ROOTS, text(&material.roots)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}
