//! What is said of a request at its end: its line in the access log, and what is counted.

use std::sync::Arc;

use crate::body::Upload;

use super::{conclude, counted::Kind, expiring::Labels, record::Record};

/// What stands where nothing is known.
const UNKNOWN: &str = "unknown";

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_complete && self.flags.is_empty() {
            // Whoever asked is gone: nothing else drops an answer before its end.
            self.flags.set("DC");
            if self.details.is_empty() || self.details == "via_upstream" {
                self.details = "downstream_remote_disconnect".to_owned();
            }
        }
        let kind = Kind {
            about: self.endpoint.as_ref().map(|(_, about)| Arc::clone(about)),
            is_encrypted: self.is_encrypted,
            is_grpc: self.is_grpc,
            status: self.status,
            grpc_status: self.grpc_status,
            flags: self.flags.clone(),
        };
        let find = || {
            let empty = http::HeaderMap::new();
            let facts = || conclude::facts(self, self.observed.as_deref(), &empty);
            let overrides = self.metrics.as_deref().map(|overrides| (overrides, facts()));
            self.telemetry.series(&labels(self), self.is_grpc, overrides)
        };
        let series = match &self.metrics {
            // Each request may have labels of its own.
            Some(overrides) if !overrides.is_fixed() => find(),
            _ => self.client.counted_in.get(kind, find),
        };
        series.request(self.elapsed(), self.received(), self.sent);
        if self.is_grpc {
            let received = self.upload.as_ref().map_or(0, Upload::messages);
            series.messages(received, self.messages.count());
        }
        if let Some(observed) = self.observed.take() {
            conclude::request(&observed, self);
            if observed.has_lines() {
                return;
            }
        }
        let upstream = self.endpoint.as_ref();
        tracing::event!(
            target: culvert_telemetry::ACCESS,
            tracing::Level::INFO,
            src.addr = %self.client.address,
            src.workload = self.client.baggage.workload,
            src.namespace = %self.client.namespace,
            src.identity = %self.client.principal,
            dst.addr = %self.destination,
            dst.service = %self.service,
            upstream.addr = upstream.map(|(address, _)| tracing::field::display(*address)),
            upstream.workload = upstream.map(|(_, about)| about.workload.as_str()),
            upstream.identity = upstream.map(|(_, about)| about.identity.as_str()),
            upstream.cluster = self.cluster.as_deref(),
            route = self.route.as_deref(),
            method = %self.method,
            authority = self.authority,
            path = self.path,
            protocol = ?self.version,
            response_code = self.status,
            grpc_status = self.grpc_status,
            response_flags = %self.flags,
            response_code_details = self.details,
            dry_run = self.remarks.as_deref().and_then(|remarks| remarks.dry_run.as_deref()),
            audit = self.remarks.as_deref().and_then(|remarks| remarks.audit.as_deref()),
            bytes_received = self.received(),
            bytes_sent = self.sent,
            attempts = self.attempts,
            duration_ms = self.begun.elapsed().as_millis() as u64,
            first_byte_ms = self.first_byte.map(|time| time.as_millis() as u64),
            request_id = self.request_id,
            user_agent = self.user_agent,
            "request complete"
        );
    }
}

fn labels(record: &Record) -> Labels {
    let mut labels: Labels = istio_labels(record)
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect();
    let grpc = record.grpc_status.map_or_else(String::new, |status| status.to_string());
    labels.push(("grpc_response_status".into(), grpc.into()));
    labels
}

fn istio_labels(record: &Record) -> [(&'static str, Arc<str>); 24] {
    let known = |text: &str| -> Arc<str> { if text.is_empty() { UNKNOWN.into() } else { text.into() } };
    let (namespace, hostname) = record.service.split_once('/').unwrap_or_default();
    let name = hostname.split('.').next().unwrap_or_default();
    let source = &record.client.baggage;
    let nobody = Default::default();
    let about = record.endpoint.as_ref().map_or(&nobody, |(_, about)| &**about);
    let security = match record.is_encrypted {
        true => "mutual_tls",
        false => "none",
    };
    [
        ("reporter", "waypoint".into()),
        ("source_workload", known(&source.workload)),
        ("source_canonical_service", known(&source.service)),
        ("source_canonical_revision", known(&source.version)),
        ("source_workload_namespace", known(&record.client.namespace)),
        ("source_principal", known(&record.client.principal)),
        ("source_app", known(&source.service)),
        ("source_version", known(&source.version)),
        ("source_cluster", known(&source.cluster)),
        ("destination_workload", known(&about.workload)),
        ("destination_workload_namespace", known(&about.namespace)),
        ("destination_principal", known(&about.identity)),
        ("destination_app", known(&about.canonical_name)),
        ("destination_version", known(&about.canonical_revision)),
        ("destination_service", known(hostname)),
        ("destination_canonical_service", known(&about.canonical_name)),
        ("destination_canonical_revision", known(&about.canonical_revision)),
        ("destination_service_name", known(name)),
        ("destination_service_namespace", known(namespace)),
        ("destination_cluster", known(&about.cluster)),
        ("request_protocol", if record.is_grpc { "grpc" } else { "http" }.into()),
        ("response_code", record.status.to_string().into()),
        ("response_flags", record.flags.to_string().into()),
        ("connection_security_policy", security.into()),
    ]
}
