//! One connection whose bytes are copied, what is counted of it, and its line in the access log.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use culvert_envoy::endpoint::About;
use culvert_http::{access_log::AccessLog, filters::Remark};
use culvert_telemetry::{
    AccessLines,
    tcp::{EndLabels, ResponseFlags, SecurityPolicy, TcpLabels, TcpSeries},
};

use super::{
    client::Client, conclude::TcpFacts, flags::Flags, metrics::Telemetry, overload::Limit, remarks::Remarks,
    spans::Spans,
};

/// A connection whose bytes are copied. Its line is written when it is dropped.
#[derive(Debug)]
pub struct TcpRecord {
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) begun: Instant,
    pub(super) client: Arc<Client>,
    pub(super) service: Arc<str>,
    pub(super) destination: SocketAddr,
    /// The cluster that was chosen.
    pub cluster: Option<Arc<str>>,
    /// The endpoint that it goes to.
    pub endpoint: Option<(SocketAddr, Arc<About>)>,
    /// Whether that is through the tunnel.
    is_encrypted: bool,
    /// What it is counted in, from when it was opened.
    series: Option<Arc<TcpSeries>>,
    /// From the client.
    pub received: u64,
    /// To the client.
    pub sent: u64,
    /// A policy refused it: Envoy has no flag for that.
    pub is_denied: bool,
    /// What went wrong.
    pub flags: Flags,
    /// Why it ended.
    pub details: String,
    /// What policies said that decided nothing.
    pub remarks: Option<Box<Remarks>>,
    /// Lines that are asked for.
    pub logs: Option<TcpLogs>,
}

/// Lines of a connection that the configuration asks for.
#[derive(Clone, Debug)]
pub struct TcpLogs {
    pub(crate) logs: Arc<Vec<AccessLog>>,
    pub(crate) lines: AccessLines,
    pub(crate) spans: Arc<Spans>,
}

impl TcpRecord {
    /// Notes and counts what a filter says without deciding.
    pub(crate) fn remark(&mut self, remark: &Remark) {
        self.remarks.get_or_insert_default().add(remark, &self.telemetry);
    }

    /// A limit of the cluster is reached.
    pub(crate) fn overflow(&mut self) {
        self.flags.set("UO");
        self.telemetry.overloaded(Limit::Cluster);
    }

    /// A connection began.
    pub fn new(telemetry: &Arc<Telemetry>, client: &Arc<Client>, service: &str, destination: SocketAddr) -> Self {
        Self {
            telemetry: Arc::clone(telemetry),
            begun: Instant::now(),
            client: Arc::clone(client),
            service: service.into(),
            destination,
            cluster: None,
            endpoint: None,
            is_encrypted: true,
            series: None,
            received: 0,
            sent: 0,
            is_denied: false,
            flags: Flags::default(),
            details: String::new(),
            remarks: None,
            logs: None,
        }
    }

    /// The endpoint has taken it, through the tunnel or not. What is returned is to be told of bytes as they pass.
    pub(crate) fn opened(&mut self, is_encrypted: bool) -> Arc<TcpSeries> {
        self.is_encrypted = is_encrypted;
        let series = self.telemetry.tcp.series(&self.labels(ResponseFlags::None));
        series.open();
        self.series = Some(Arc::clone(&series));
        series
    }

    fn labels(&self, flags: ResponseFlags) -> TcpLabels {
        let nobody = Default::default();
        let about = self.endpoint.as_ref().map_or(&nobody, |(_, about)| &**about);
        let baggage = &self.client.baggage;
        TcpLabels {
            reporter: "waypoint",
            source: EndLabels {
                workload: baggage.workload.as_str().into(),
                namespace: Arc::clone(&self.client.namespace),
                canonical_service: baggage.service.as_str().into(),
                canonical_revision: baggage.version.as_str().into(),
                principal: Arc::clone(&self.client.principal),
                cluster: baggage.cluster.as_str().into(),
                ..EndLabels::default()
            },
            destination: EndLabels {
                workload: about.workload.as_str().into(),
                namespace: about.namespace.as_str().into(),
                canonical_service: about.canonical_name.as_str().into(),
                canonical_revision: about.canonical_revision.as_str().into(),
                principal: about.identity.as_str().into(),
                cluster: about.cluster.as_str().into(),
                ..EndLabels::default()
            },
            service: Arc::clone(&self.service),
            security: match (&self.series, self.is_encrypted) {
                (None, _) if flags != ResponseFlags::None => SecurityPolicy::Unknown,
                (_, true) => SecurityPolicy::MutualTls,
                (_, false) => SecurityPolicy::None,
            },
            flags,
        }
    }

    fn count(&self) {
        if let Some(series) = &self.series {
            return series.close();
        }
        let flags = match self.flags.as_slice().first() {
            Some(flag) => ResponseFlags::Envoy(flag),
            None if self.is_denied => ResponseFlags::Denied,
            // The client went before the endpoint had answered.
            None => ResponseFlags::Envoy("DC"),
        };
        self.telemetry.tcp.series(&self.labels(flags)).fail();
    }
}

impl Drop for TcpRecord {
    fn drop(&mut self) {
        self.count();
        if let Some(asked) = self.logs.take() {
            let facts = TcpFacts {
                client: &self.client,
                destination: self.destination,
                begun: self.begun,
                flags: self.flags.as_slice(),
                details: &self.details,
                remarks: self.remarks.as_deref(),
                received: self.received,
                sent: self.sent,
                upstream: self.endpoint.as_ref().map(|(address, _)| *address),
                cluster: self.cluster.as_deref().unwrap_or_default(),
                hostname: asked.spans.hostname(),
            };
            return facts.write(&asked.logs, &asked.lines);
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
            response_flags = %self.flags,
            response_code_details = self.details,
            dry_run = self.remarks.as_deref().and_then(|remarks| remarks.dry_run.as_deref()),
            audit = self.remarks.as_deref().and_then(|remarks| remarks.audit.as_deref()),
            bytes_received = self.received,
            bytes_sent = self.sent,
            duration_ms = self.begun.elapsed().as_millis() as u64,
            "connection complete"
        );
    }
}
