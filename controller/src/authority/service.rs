//! The gRPC service `IstioCertificateService`.

use std::{sync::Arc, time::Duration};

use culvert_identity::SpiffeId;
use culvert_proto::auth::{
    IstioCertificateRequest, IstioCertificateResponse, istio_certificate_service_server::IstioCertificateService,
};
use culvert_telemetry::prometheus::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use prost_types::value::Kind;
use tonic::{Request, Response, Status};

use super::{Authenticator, Authority, caller, sign::SignError};

/// The key under which a node proxy names the identity that it wants.
const IMPERSONATED: &str = "ImpersonatedIdentity";

/// A request is small; what is larger is no CSR.
const MAX_CSR: usize = 16 * 1024;

/// Why a node does not get an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no running pod of node {node} has the identity {identity}")]
    NotOnNode { node: String, identity: SpiffeId },
    #[error("the service account of {0} does not exist")]
    NoServiceAccount(SpiffeId),
    #[error("{0} is of another trust domain")]
    TrustDomain(SpiffeId),
}

/// Knows which identities run where.
#[tonic::async_trait]
pub(crate) trait Placement: Send + Sync + 'static {
    /// Whether a node may have a certificate for an identity. Waits a moment where the answer may be about to change: a
    /// node asks for a pod as soon as it starts, and may know of it before the controller does.
    ///
    /// # Errors
    /// Why not.
    async fn check(&self, node: &str, identity: &SpiffeId) -> Result<(), Refusal>;
}

/// Certificates signed and refused, by outcome.
#[derive(Clone, Debug, Default)]
pub(crate) struct SigningMetrics {
    outcomes: Family<[(&'static str, &'static str); 1], Counter>,
}

impl SigningMetrics {
    /// Registers the metrics.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Certificate requests by outcome";
        registry.register("culvert_controller_certificates", help, metrics.outcomes.clone());
        metrics
    }

    fn count(&self, outcome: &'static str) {
        self.outcomes.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// How many certificates have been signed.
    pub(crate) fn signed(&self) -> u64 {
        self.outcomes.get_or_create(&[("outcome", "signed")]).get()
    }
}

/// The service.
pub(crate) struct CertificateService<P> {
    authority: Arc<Authority>,
    authenticator: Arc<dyn Authenticator>,
    placement: P,
    metrics: SigningMetrics,
}

impl<P: Placement> CertificateService<P> {
    /// A service that signs what `placement` allows.
    pub(crate) fn new(
        authority: Arc<Authority>,
        authenticator: Arc<dyn Authenticator>,
        placement: P,
        metrics: SigningMetrics,
    ) -> Self {
        Self {
            authority,
            authenticator,
            placement,
            metrics,
        }
    }

    async fn answer(
        &self,
        node: &str,
        request: &IstioCertificateRequest,
    ) -> Result<Vec<String>, (&'static str, Status)> {
        let bad = |text: String| ("malformed", Status::invalid_argument(text));
        let wanted = impersonated(request).ok_or_else(|| bad(format!("metadata names no {IMPERSONATED}")))?;
        let identity = SpiffeId::parse(wanted).map_err(|error| bad(error.to_string()))?;
        if request.csr.len() > MAX_CSR {
            return Err(bad("the certificate request is too long".into()));
        }
        let placed = self.placement.check(node, &identity).await;
        placed.map_err(|refusal| ("denied", Status::permission_denied(refusal.to_string())))?;
        let asked = Duration::from_secs(request.validity_duration.try_into().unwrap_or(0));
        self.authority
            .sign(&request.csr, &identity, self.authority.granted(asked))
            .map_err(|error| match error {
                SignError::Request(_) | SignError::Key => bad(error.to_string()),
                SignError::Authority(error) => ("failed", Status::unavailable(error.to_string())),
            })
    }
}

#[tonic::async_trait]
impl<P: Placement> IstioCertificateService for CertificateService<P> {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let node = caller(&*self.authenticator, request.metadata())
            .await
            .map_err(|error| {
                self.metrics.count(error.outcome());
                tracing::warn!(peer = ?request.remote_addr(), reason = %error, "refused a certificate request");
                Status::from(error)
            })?;
        let request = request.into_inner();
        let wanted = impersonated(&request).unwrap_or_default();
        match self.answer(&node, &request).await {
            Ok(cert_chain) => {
                self.metrics.count("signed");
                tracing::info!(node, identity = wanted, "signed a certificate");
                Ok(Response::new(IstioCertificateResponse { cert_chain }))
            }
            Err((outcome, status)) => {
                self.metrics.count(outcome);
                tracing::warn!(
                    node,
                    identity = wanted,
                    reason = status.message(),
                    "refused a certificate request"
                );
                Err(status)
            }
        }
    }
}

fn impersonated(request: &IstioCertificateRequest) -> Option<&str> {
    match request.metadata.as_ref()?.fields.get(IMPERSONATED)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}
