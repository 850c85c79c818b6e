//! The certificate task: for each identity of the served pods a certificate, renewed at half its life.
//!
//! A certificate is replaced only by its successor; when it expires because no successor could be had, it is taken away,
//! and tunnels of that identity wait and then fail: an expired certificate is never shown to anybody.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use culvert_identity::{CertificateRequest, Credentials, SpiffeId, TrustBundle};
use culvert_proto::auth::{IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tonic::{Code, Request};

use crate::{
    Change, Outputs, Served,
    channel::{ControllerClient, chain, describe},
    published::CredentialsByIdentity,
    renewal::Renewal,
};

/// The validity that is asked for; the authority may grant less.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// How long the authority may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How many requests may be under way: a node that starts with a hundred pods must not flood the authority.
const PARALLEL: usize = 8;

/// How often validity is compared with the wall clock, which may jump while a timer does not.
const CLOCK_CHECK: Duration = Duration::from_secs(60);

/// Runs until the future is dropped.
pub(super) async fn run(
    controller: ControllerClient,
    served: Arc<Served>,
    mut wanted: mpsc::UnboundedReceiver<SpiffeId>,
    outputs: Outputs,
) {
    let (mut secrets, mut told) = controller.roots_changes();
    let mut streams = controller.streams();
    let mut holder = Holder {
        bundle: TrustBundle::from_pem(&controller.roots()).ok(),
        identities: BTreeMap::new(),
        served,
        outputs,
    };
    let mut requests: JoinSet<(SpiffeId, Result<Credentials, NoCertificate>)> = JoinSet::new();
    loop {
        while requests.len() < PARALLEL {
            let Some(identity) = holder.due() else { break };
            let controller = controller.clone();
            requests.spawn(async move {
                let outcome = tokio::time::timeout(TIMEOUT, obtain(&controller, &identity)).await;
                (
                    identity,
                    outcome.unwrap_or_else(|_| Err("the authority did not answer in time".to_owned().into())),
                )
            });
        }
        let check = Instant::now() + CLOCK_CHECK;
        let next = holder.next_event().map_or(check, |event| event.min(check));
        tokio::select! {
            Some(identity) = wanted.recv() => holder.want(identity),
            Some(done) = requests.join_next() => match done {
                Ok((identity, outcome)) => holder.settle(&identity, outcome),
                Err(error) => tracing::error!(%error, "a certificate request ended abnormally"),
            },
            // Both senders may go away first when the proxy ends; nothing is to be done about it then.
            Ok(()) = secrets.changed() => holder.trust(&controller.roots()),
            Ok(()) = told.changed() => holder.trust(&controller.roots()),
            Ok(()) = streams.changed() => holder.hurry(),
            () = tokio::time::sleep_until(next), if requests.len() < PARALLEL => {}
        }
        holder.expire();
    }
}

struct Holder {
    /// The roots against which peers are checked.
    bundle: Option<TrustBundle>,
    identities: BTreeMap<SpiffeId, Identity>,
    served: Arc<Served>,
    outputs: Outputs,
}

struct Identity {
    credentials: Option<Arc<Credentials>>,
    renewal: Renewal,
}

impl Holder {
    fn want(&mut self, identity: SpiffeId) {
        self.identities.entry(identity).or_insert_with(|| Identity {
            credentials: None,
            renewal: Renewal::new(Instant::now()),
        });
    }

    /// Checks peers against these roots from now on, with the certificates that are there. Open connections go on.
    fn trust(&mut self, roots: &[u8]) {
        let bundle = match TrustBundle::from_pem(roots) {
            Ok(bundle) => bundle,
            Err(error) => return tracing::error!(%error, "the roots known before stay trusted"),
        };
        tracing::info!(roots = bundle.roots().len(), "roots have changed");
        for state in self.identities.values_mut() {
            if let Some(held) = &state.credentials {
                match held.with_bundle(&bundle) {
                    Ok(renewed) => state.credentials = Some(Arc::new(renewed)),
                    Err(error) => tracing::error!(%error, "the roots known before stay trusted"),
                }
            }
        }
        self.bundle = Some(bundle);
        self.publish();
    }

    /// The controller is there again: whoever has no certificate does not wait for the end of its pause.
    fn hurry(&mut self) {
        let now = Instant::now();
        for state in self.identities.values_mut().filter(|state| state.credentials.is_none()) {
            state.renewal.hurry(now);
        }
    }

    /// An identity whose time to ask has come, marked as being asked for. Identities that no pod has any more are
    /// forgotten instead.
    fn due(&mut self) -> Option<SpiffeId> {
        let now = Instant::now();
        loop {
            let (identity, state) = self
                .identities
                .iter_mut()
                .find(|(_, state)| state.renewal.ask_at().is_some_and(|at| at <= now))?;
            let identity = identity.clone();
            if self.served.has_identity(&identity) {
                state.renewal.asked();
                return Some(identity);
            }
            self.identities.remove(&identity);
            self.publish();
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let expiry = |state: &Identity| {
            let left = state
                .credentials
                .as_ref()?
                .not_after()
                .duration_since(SystemTime::now())
                .unwrap_or_default();
            Some(Instant::now() + left)
        };
        self.identities
            .values()
            .flat_map(|state| [state.renewal.ask_at(), expiry(state)])
            .flatten()
            .min()
    }

    fn settle(&mut self, identity: &SpiffeId, outcome: Result<Credentials, NoCertificate>) {
        let Some(state) = self.identities.get_mut(identity) else {
            return;
        };
        let metrics = &self.outputs.metrics;
        let label = [("outcome", if outcome.is_ok() { "signed" } else { "failed" })];
        metrics.certificate_requests.get_or_create(&label).inc();
        match outcome {
            Ok(credentials) => {
                let until_renewal = credentials
                    .renew_at()
                    .duration_since(SystemTime::now())
                    .unwrap_or_default();
                tracing::info!(%identity, serial = credentials.serial(), renew_in = ?until_renewal, "certificate obtained");
                state.renewal.succeeded(Instant::now(), until_renewal);
                // The roots may have changed while the authority was asked.
                let current = self
                    .bundle
                    .as_ref()
                    .and_then(|bundle| credentials.with_bundle(bundle).ok());
                state.credentials = Some(Arc::new(current.unwrap_or(credentials)));
                self.served.set_refused(identity, false);
                self.publish();
            }
            Err(NoCertificate { why, refused }) => {
                let failed = state.renewal.failed(Instant::now());
                // At first, the authority may not have heard of the pod yet.
                self.served.set_refused(identity, refused && failed.settled);
                tracing::error!(%identity, why, retry_in = ?failed.retry_in, "no certificate");
            }
        }
    }

    fn expire(&mut self) {
        let now = SystemTime::now();
        let mut changed = false;
        for (identity, state) in &mut self.identities {
            if state
                .credentials
                .as_ref()
                .is_some_and(|credentials| !credentials.valid_at(now))
            {
                tracing::error!(%identity, "the certificate expired before a new one could be had; its tunnels wait");
                state.credentials = None;
                changed = true;
            }
        }
        if changed {
            self.publish();
        }
    }

    fn publish(&self) {
        let held = self
            .identities
            .iter()
            .filter_map(|(id, state)| Some((id.clone(), state.credentials.clone()?)));
        let held: CredentialsByIdentity = held.collect();
        let expiry = &self.outputs.metrics.certificate_expiry;
        expiry.clear();
        for (identity, credentials) in &held {
            let end = credentials
                .not_after()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            expiry
                .get_or_create(&[("identity", identity.to_string())])
                .set(end.as_secs() as i64);
        }
        self.outputs.published.credentials.store(Arc::new(held));
        (self.outputs.notify)(Change::Certificates);
    }
}

/// Makes a key and has it certified.
async fn obtain(controller: &ControllerClient, identity: &SpiffeId) -> Result<Credentials, NoCertificate> {
    let bundle = TrustBundle::from_pem(&controller.roots()).map_err(|error| chain(&error))?;
    let pending = CertificateRequest::new(identity).map_err(|error| chain(&error))?;
    let impersonated = controller.settings().caller.impersonates(identity).map(|identity| {
        let kind = Some(prost_types::value::Kind::StringValue(identity.to_string()));
        ("ImpersonatedIdentity".to_owned(), prost_types::Value { kind })
    });
    let mut request = Request::new(IstioCertificateRequest {
        csr: pending.csr_pem().to_owned(),
        validity_duration: VALIDITY.as_secs() as i64,
        metadata: Some(prost_types::Struct {
            fields: impersonated.into_iter().collect(),
        }),
    });
    controller.authorize(&mut request).map_err(|error| error.to_string())?;
    let channel = controller.shared().await.map_err(|error| chain(&error))?;
    let mut client = IstioCertificateServiceClient::new(channel);
    let response = match client.create_certificate(request).await {
        Ok(response) => response,
        Err(status) => {
            let refused = matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument);
            if !refused {
                // Another replica may do better.
                controller.forget().await;
            }
            let why = describe(&status);
            return Err(NoCertificate { why, refused });
        }
    };
    let credentials = pending.complete(&response.into_inner().cert_chain, &bundle);
    Ok(credentials.map_err(|error| chain(&error))?)
}

/// Why there is no certificate.
struct NoCertificate {
    why: String,
    /// The authority knows us, and says that this identity is not ours to have.
    refused: bool,
}

impl From<String> for NoCertificate {
    fn from(why: String) -> Self {
        Self { why, refused: false }
    }
}
