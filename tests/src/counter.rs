//! A service of Envoy's `envoy.service.ratelimit.v3.RateLimitService` in a pod, which counts.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use culvert_envoy::pb::envoy::{
    config::core::v3::HeaderValue,
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse,
        rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit::Unit},
        rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
    },
};
use culvert_envoy::pb::google::protobuf::Duration;
use culvert_lab::Pod;
use tonic::{Request, Response, Status, transport::Server};

use crate::tunnel::runtime;

/// A service that is running, for as long as it is there: of each descriptor it lets through so many.
pub struct Counter {
    seen: Seen,
    _runtime: tokio::runtime::Runtime,
}

type Seen = Arc<Mutex<BTreeMap<String, u32>>>;

struct Service {
    most: u32,
    seen: Seen,
}

impl Counter {
    /// Serves a port of a pod.
    pub fn serve(pod: &Pod, port: u16, most: u32) -> Self {
        let listener = pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (runtime, seen) = (runtime(1), Seen::default());
        let service = Service {
            most,
            seen: Arc::clone(&seen),
        };
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            let server = Server::builder().add_service(RateLimitServiceServer::new(service));
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self {
            seen,
            _runtime: runtime,
        }
    }

    /// How often each descriptor came, as `DOMAIN KEY=VALUE,KEY=VALUE`.
    pub fn seen(&self) -> BTreeMap<String, u32> {
        self.seen.lock().unwrap().clone()
    }
}

#[tonic::async_trait]
impl RateLimitService for Service {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let request = request.into_inner();
        let mut statuses = Vec::new();
        for descriptor in request.descriptors {
            let entries = descriptor.entries.iter();
            let entries: Vec<String> = entries.map(|entry| format!("{}={}", entry.key, entry.value)).collect();
            let name = format!("{} {}", request.domain, entries.join(","));
            let mut seen = self.seen.lock().unwrap();
            let count = seen.entry(name).or_default();
            *count += 1;
            let code = if *count > self.most { Code::OverLimit } else { Code::Ok };
            statuses.push(DescriptorStatus {
                code: code.into(),
                limit_remaining: self.most.saturating_sub(*count),
                current_limit: Some(RateLimit {
                    requests_per_unit: self.most,
                    unit: Unit::Hour.into(),
                    ..RateLimit::default()
                }),
                duration_until_reset: Some(Duration { seconds: 60, nanos: 0 }),
                ..DescriptorStatus::default()
            });
        }
        let is_over = statuses.iter().any(|status| status.code == i32::from(Code::OverLimit));
        let header = |key: &str, value: &str| HeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
            ..HeaderValue::default()
        };
        Ok(Response::new(RateLimitResponse {
            overall_code: if is_over { Code::OverLimit } else { Code::Ok }.into(),
            statuses,
            request_headers_to_add: vec![header("x-counted", "request")],
            response_headers_to_add: vec![header("x-counted", "answer")],
            ..RateLimitResponse::default()
        }))
    }
}
