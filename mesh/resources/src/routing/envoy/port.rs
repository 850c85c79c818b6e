//! A port that a waypoint is for.

use std::sync::Arc;

use culvert_envoy::pb::envoy::config::listener::v3::FilterChainMatch;
use ipnet::IpNet;

use super::super::model::{Access, Backend, Named, Split, Target};
use super::super::policy::Applied;
use super::super::protocol::Protocol;
use super::super::telemetry::Telemetry;
use super::super::traffic::Lasting;

/// A port of a Service that the waypoint is for.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    /// The Service's resource name.
    pub(crate) service: Arc<str>,
    /// What clients dial.
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// Where connections go that are not HTTP; to the Service itself where nobody says.
    pub(crate) split: Option<Split>,
    /// Where connections of TLS go, by name; of two that have a name the first counts. Where there is one, and nobody says where other
    /// connections go, these are closed.
    pub(crate) named: Vec<Named>,
    /// For how long connections last whose bytes are copied, by where they go, where something is said of it.
    pub(crate) lasting: Vec<(Backend, Lasting)>,
    /// Who may.
    pub(crate) access: Arc<Access>,
    /// What TrafficPolicies ask of it.
    pub(crate) policies: Vec<Applied>,
    /// What is logged and traced of it.
    pub(crate) telemetry: Arc<Telemetry>,
}

impl Port {
    /// Whether connections of TLS are told apart by name.
    pub(super) fn is_named(&self) -> bool {
        self.protocol.is_tcp() && !self.named.is_empty()
    }

    /// What a client must speak to be taken for one of HTTP; nothing where nobody looks.
    pub(super) fn spoken(&self) -> Vec<String> {
        let protocols: &[&str] = if self.protocol == Protocol::Unknown {
            &["http/1.0", "http/1.1", "h2c"]
        } else {
            &[]
        };
        protocols.iter().map(|protocol| (*protocol).to_owned()).collect()
    }

    /// For how long connections last that go there. Of several backends the first one's rules count, as with Istio.
    pub(super) fn lasting(&self, split: Option<&Split>) -> Lasting {
        let own = self.own();
        let first = match split {
            Some(targets) => targets.first().and_then(|target| target.backend.as_ref()),
            None => Some(&own),
        };
        let said = self.lasting.iter().find(|(backend, _)| Some(backend) == first);
        said.map(|(_, lasting)| *lasting).unwrap_or_default()
    }

    /// The Service itself.
    pub(super) fn own(&self) -> Backend {
        Backend {
            service: Arc::clone(&self.service),
            port: self.port,
            subset: None,
        }
    }

    /// The port, where connections to these port numbers are looked at for TLS. Envoy looks by number alone, and would then take TLS for
    /// HTTP where a client offers that inside.
    pub(super) fn among(&self, encrypted: &[u16]) -> Self {
        let mut port = self.clone();
        if self.protocol == Protocol::Unknown && !self.is_named() && encrypted.contains(&self.port) {
            let split = self.split.clone().unwrap_or_else(|| vec![Target::of(self.own())]);
            port.named = vec![Named {
                names: vec!["*".to_owned()],
                split: split.clone(),
            }];
            port.split = Some(split);
        }
        port
    }

    /// What chains match that are not for TLS. Envoy looks for the name first, and never goes back from there.
    pub(super) fn unencrypted(&self) -> FilterChainMatch {
        FilterChainMatch {
            transport_protocol: if self.is_named() { "raw_buffer" } else { "" }.to_owned(),
            ..FilterChainMatch::default()
        }
    }
}
