//! What the worker tells of itself: of the connections it carries (`culvert_accounting`), of its way to the controller
//! (`culvert_control`), of its own ([`ProxyMetrics`]), of what is open ([`LoadMetrics`]) and of what policies denied
//! ([`PolicyDenials`]).

mod denials;
mod dns;
mod load;
mod metrics;

use std::sync::Arc;

use culvert_accounting::Accounting;
use culvert_control::ControlMetrics;
use culvert_telemetry::{prometheus::registry::Registry, register_cpu_time, tcp::TcpSettings};

pub(crate) use denials::{PolicyDenials, PolicyRemarks};
pub(crate) use dns::DnsMetrics;
pub(crate) use load::{Load, LoadMetrics};
pub(crate) use metrics::ProxyMetrics;

/// What the names of the worker's own metrics begin with.
const PREFIX: &str = "culvert_ztunnel";

/// Where all loops and control report to.
#[derive(Debug)]
pub(crate) struct Telemetry {
    accounting: Arc<Accounting>,
    control: ControlMetrics,
    proxy: ProxyMetrics,
    dns: DnsMetrics,
    load: LoadMetrics,
    denials: PolicyDenials,
    remarks: PolicyRemarks,
    registry: Arc<Registry>,
}

impl Telemetry {
    /// Nothing has happened yet.
    pub(crate) fn new(connections: TcpSettings) -> Arc<Self> {
        let mut registry = Registry::default();
        register_cpu_time(&mut registry);
        Arc::new(Self {
            accounting: Accounting::register(&mut registry, connections),
            control: ControlMetrics::register(&mut registry, PREFIX, ControlMetrics::TYPES_OF_NODES),
            proxy: ProxyMetrics::register(&mut registry),
            dns: DnsMetrics::register(&mut registry),
            load: LoadMetrics::register(&mut registry),
            denials: PolicyDenials::register(&mut registry),
            remarks: PolicyRemarks::register(&mut registry),
            registry: Arc::new(registry),
        })
    }

    /// Of connections: access log, Istio's metrics, what is open.
    pub(crate) fn accounting(&self) -> &Arc<Accounting> {
        &self.accounting
    }

    /// Of the way to the controller.
    pub(crate) fn control(&self) -> &ControlMetrics {
        &self.control
    }

    /// Of the loops.
    pub(crate) fn proxy(&self) -> &ProxyMetrics {
        &self.proxy
    }

    /// Of DNS queries.
    pub(crate) fn dns(&self) -> &DnsMetrics {
        &self.dns
    }

    /// What the loops have open.
    pub(crate) fn load(&self) -> &LoadMetrics {
        &self.load
    }

    /// What policies denied.
    pub(crate) fn denials(&self) -> &PolicyDenials {
        &self.denials
    }

    /// What policies said without deciding.
    pub(crate) fn remarks(&self) -> &PolicyRemarks {
        &self.remarks
    }

    /// All metrics, to be served.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }
}
