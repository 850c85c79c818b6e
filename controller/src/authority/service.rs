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

use super::{Authenticator, Authority, Caller, Connection, IssuancePolicy, authenticate, sign::SignError};

/// The key under which a node proxy names the identity that it wants.
const IMPERSONATED: &str = "ImpersonatedIdentity";

/// A request is small; what is larger is no CSR.
const MAX_CSR: usize = 16 * 1024;

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
    policy: P,
    metrics: SigningMetrics,
}

impl<P: IssuancePolicy> CertificateService<P> {
    /// A service that signs what `policy` allows.
    pub(crate) fn new(
        authority: Arc<Authority>,
        authenticator: Arc<dyn Authenticator>,
        policy: P,
        metrics: SigningMetrics,
    ) -> Self {
        Self {
            authority,
            authenticator,
            policy,
            metrics,
        }
    }

    async fn answer(
        &self,
        caller: &Caller,
        request: &IstioCertificateRequest,
    ) -> Result<(SpiffeId, Vec<String>), (&'static str, Status)> {
        let bad = |text: String| ("malformed", Status::invalid_argument(text));
        let identity = match impersonated(request) {
            Some(wanted) => SpiffeId::parse(wanted).map_err(|error| bad(error.to_string()))?,
            // As Istio's waypoints and gateways ask: for what they are themselves.
            None => self.policy.own_identity(caller).ok_or_else(|| {
                bad(format!(
                    "{caller} has no identity of its own, and metadata names no {IMPERSONATED}"
                ))
            })?,
        };
        if request.csr.len() > MAX_CSR {
            return Err(bad("the certificate request is too long".into()));
        }
        let allowed = self.policy.check(caller, &identity).await;
        allowed.map_err(|refusal| ("denied", Status::permission_denied(refusal.to_string())))?;
        let asked = Duration::from_secs(request.validity_duration.try_into().unwrap_or(0));
        let signed = self
            .authority
            .sign(&request.csr, &identity, self.authority.granted(asked));
        let chain = signed.map_err(|error| match error {
            SignError::Request(_) | SignError::Key => bad(error.to_string()),
            SignError::Authority(error) => ("failed", Status::unavailable(error.to_string())),
        })?;
        Ok((identity, chain))
    }
}

#[tonic::async_trait]
impl<P: IssuancePolicy> IstioCertificateService for CertificateService<P> {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let connection = request.extensions().get::<Connection>().cloned().unwrap_or_default();
        let source = connection.source();
        let authenticated = authenticate(&*self.authenticator, request.metadata(), source).await;
        let caller = authenticated
            .map_err(|error| {
                self.metrics.count(error.outcome());
                error.log(source, "refused a certificate request");
                Status::from(error)
            })?
            .caller;
        connection.authenticated();
        let request = request.into_inner();
        match self.answer(&caller, &request).await {
            Ok((identity, cert_chain)) => {
                self.metrics.count("signed");
                tracing::info!(%caller, %identity, "signed a certificate");
                Ok(Response::new(IstioCertificateResponse { cert_chain }))
            }
            Err((outcome, status)) => {
                self.metrics.count(outcome);
                tracing::warn!(
                    %caller,
                    identity = impersonated(&request).unwrap_or("its own"),
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
