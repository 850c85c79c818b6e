//! The labels of connection metrics: Istio's names, in Istio's order, with Istio's values.

use std::sync::{Arc, LazyLock};

/// What stands where nothing is known.
const UNKNOWN: &str = "unknown";

/// How many labels there are.
pub(super) const COUNT: usize = 27;

/// Labels that have few values by their nature: which end counts, how, and with what outcome.
const FEW_VALUES: [&str; 4] = [
    "reporter",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
];

/// One end of a connection, as labels say it. Empty texts are shown as `unknown`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EndLabels {
    /// The owner of the pod, e.g. a Deployment.
    pub workload: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// `service.istio.io/canonical-name`.
    pub canonical_service: Arc<str>,
    /// `service.istio.io/canonical-revision`.
    pub canonical_revision: Arc<str>,
    /// The identity that a certificate proved.
    pub principal: Arc<str>,
    /// The cluster.
    pub cluster: Arc<str>,
    /// `topology.kubernetes.io/region` of its node.
    pub region: Arc<str>,
    /// `topology.kubernetes.io/zone` of its node.
    pub zone: Arc<str>,
}

/// The labels of one series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpLabels {
    /// Who counted: `source` or `destination`, the end's node; or `waypoint`.
    pub reporter: &'static str,
    /// Who opened the connection.
    pub source: EndLabels,
    /// Who accepted it.
    pub destination: EndLabels,
    /// `namespace/hostname` of the service that was dialled, or empty.
    pub service: Arc<str>,
    /// What protected it.
    pub security: SecurityPolicy,
    /// Why it could not be opened.
    pub flags: ResponseFlags,
}

/// `connection_security_policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SecurityPolicy {
    /// It failed before that was decided.
    #[default]
    Unknown,
    /// Plaintext.
    None,
    /// The tunnel.
    MutualTls,
}

/// `response_flags`, in the words of Istio's ztunnel, or in Envoy's at a waypoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ResponseFlags {
    /// Nothing went wrong when it was opened.
    #[default]
    None,
    /// A policy denied it.
    Denied,
    /// The other end could not be reached.
    ConnectFailed,
    /// The handshake failed, or the peer is not who it should be.
    TlsFailed,
    /// What Envoy calls it: `UH`, `NR`, ...
    Envoy(&'static str),
}

/// The values of all labels, in order; of those that are not shown, nothing.
pub(super) type Values = [Option<Arc<str>>; COUNT];

/// The names of all labels, in order.
pub fn label_names() -> &'static [&'static str] {
    static NAMES: LazyLock<[&'static str; COUNT]> =
        LazyLock::new(|| TcpLabels::default().pairs().map(|(name, _)| name));
    &*NAMES
}

/// The same values with one text in place of all that could be many.
pub(super) fn overflowing(values: &Values) -> Values {
    let overflow: Arc<str> = "overflow".into();
    let mut names = label_names().iter();
    values.clone().map(|value| {
        let is_few = names.next().is_some_and(|name| FEW_VALUES.contains(name));
        value.map(|value| if is_few { value } else { Arc::clone(&overflow) })
    })
}

impl TcpLabels {
    /// The values of the labels that are shown, by their names.
    pub(super) fn values(&self, is_shown: impl Fn(&str) -> bool) -> Values {
        self.pairs().map(|(name, value)| {
            let known = || if value.is_empty() { UNKNOWN.into() } else { value };
            is_shown(name).then(known)
        })
    }

    fn pairs(&self) -> [(&'static str, Arc<str>); COUNT] {
        let (source, destination) = (&self.source, &self.destination);
        let (namespace, hostname) = self.service.split_once('/').unwrap_or_default();
        let name = hostname.split('.').next().unwrap_or_default();
        [
            ("reporter", self.reporter.into()),
            ("source_workload", source.workload.clone()),
            ("source_canonical_service", source.canonical_service.clone()),
            ("source_canonical_revision", source.canonical_revision.clone()),
            ("source_workload_namespace", source.namespace.clone()),
            ("source_principal", source.principal.clone()),
            ("source_app", source.canonical_service.clone()),
            ("source_version", source.canonical_revision.clone()),
            ("source_cluster", source.cluster.clone()),
            ("destination_service", hostname.into()),
            ("destination_service_namespace", namespace.into()),
            ("destination_service_name", name.into()),
            ("destination_workload", destination.workload.clone()),
            ("destination_canonical_service", destination.canonical_service.clone()),
            ("destination_canonical_revision", destination.canonical_revision.clone()),
            ("destination_workload_namespace", destination.namespace.clone()),
            ("destination_principal", destination.principal.clone()),
            ("destination_app", destination.canonical_service.clone()),
            ("destination_version", destination.canonical_revision.clone()),
            ("destination_cluster", destination.cluster.clone()),
            ("request_protocol", "tcp".into()),
            ("response_flags", self.flags.as_str().into()),
            ("connection_security_policy", self.security.as_str().into()),
            ("source_region", source.region.clone()),
            ("source_zone", source.zone.clone()),
            ("destination_region", destination.region.clone()),
            ("destination_zone", destination.zone.clone()),
        ]
    }
}

impl SecurityPolicy {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => UNKNOWN,
            Self::None => "none",
            Self::MutualTls => "mutual_tls",
        }
    }
}

impl ResponseFlags {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Denied => "DENY",
            Self::ConnectFailed => "CONNECT",
            Self::TlsFailed => "TLS_FAILURE",
            Self::Envoy(flag) => flag,
        }
    }
}
