//! What is measured: who carries the traffic.

use crate::record::Named;

/// A mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Mode {
    /// No mesh: the applications talk directly, between nodes without Culvert
    Direct,
    /// No mesh, both applications on one node
    DirectSameNode,
    /// Pods outside the mesh, between nodes where Culvert runs for others
    DirectBesideCulvert,
    /// Culvert, between the nodes
    Culvert,
    /// Culvert, between the nodes, to a strict server with a hundred rules that allow
    CulvertPolicies,
    /// Culvert, between the nodes, whose kernels carry what applications and proxies send each other
    CulvertLocalLegs,
    /// Culvert, both applications on one node
    CulvertSameNode,
    /// Culvert, both applications on one node, their connections past the proxy once it has decided
    CulvertKernel,
    /// Culvert with a waypoint, between the nodes
    CulvertWaypoint,
    /// An Envoy in each pod as Istio sets it up, as a proxy of TCP
    Sidecar,
    /// The same as a proxy of HTTP
    SidecarHttp,
    /// Another node proxy under Culvert's agent, between the nodes (needs --peer)
    Ztunnel,
    /// Culvert of another revision, between the nodes (needs --before)
    CulvertBefore,
}

/// On whose nodes a mode runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Nodes {
    /// Without Culvert.
    Bare,
    /// With Culvert.
    Culvert,
    /// With Culvert, whose agents are asked to have local legs carried by the kernel.
    Legs,
    /// With Culvert's agent, and another node proxy.
    Peer,
    /// With Culvert of another revision.
    Before,
}

impl Mode {
    /// Those that need no program of the user, in the order of the table.
    pub(super) const OWN: [Self; 11] = [
        Self::Direct,
        Self::DirectSameNode,
        Self::DirectBesideCulvert,
        Self::Culvert,
        Self::CulvertPolicies,
        Self::CulvertLocalLegs,
        Self::CulvertSameNode,
        Self::CulvertKernel,
        Self::CulvertWaypoint,
        Self::Sidecar,
        Self::SidecarHttp,
    ];

    /// As the command line and the results say it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::DirectSameNode => "direct-same-node",
            Self::DirectBesideCulvert => "direct-beside-culvert",
            Self::Culvert => "culvert",
            Self::CulvertPolicies => "culvert-policies",
            Self::CulvertLocalLegs => "culvert-local-legs",
            Self::CulvertSameNode => "culvert-same-node",
            Self::CulvertKernel => "culvert-kernel",
            Self::CulvertWaypoint => "culvert-waypoint",
            Self::Sidecar => "sidecar",
            Self::SidecarHttp => "sidecar-http",
            Self::Ztunnel => "ztunnel",
            Self::CulvertBefore => "culvert-before",
        }
    }

    /// Its name, and what it is.
    pub(super) fn named(self) -> Named {
        let what = match self {
            Self::Direct => "no mesh: client and server talk directly, between nodes without Culvert",
            Self::DirectSameNode => "no mesh, client and server on one node without Culvert",
            Self::DirectBesideCulvert => "client and server outside the mesh, between nodes where Culvert runs",
            Self::Culvert => {
                "Culvert between the nodes: connect hook, ztunnel, mutual TLS 1.3, ztunnel, server; access log on"
            }
            Self::CulvertPolicies => {
                "Culvert between the nodes to a server in strict mode (the guard drops what is plaintext), with 100 rules that allow, of which the last is the client's"
            }
            Self::CulvertLocalLegs => {
                "Culvert between the nodes, with what applications and proxies send each other carried past loopback TCP by the kernel"
            }
            Self::CulvertSameNode => "Culvert with both pods on one node: one ztunnel does both ends, still encrypted",
            Self::CulvertKernel => {
                "Culvert with both pods on one node and their connections past the proxy, once it has decided (culvert.dev/same-node: kernel)"
            }
            Self::CulvertWaypoint => {
                "Culvert between the nodes with a waypoint on the server's: ztunnel, waypoint, ztunnel; access logs on"
            }
            Self::Sidecar => {
                "an Envoy in each pod behind Istio's packet rules: TCP proxies with mutual TLS 1.3; access logs on"
            }
            Self::SidecarHttp => {
                "an Envoy in each pod behind Istio's packet rules: HTTP connection managers with mutual TLS 1.3; access logs on"
            }
            Self::Ztunnel => "Istio's node proxy under Culvert's agent and controller, between the nodes",
            Self::CulvertBefore => "Culvert of another revision between the nodes, on nodes of its own; access log on",
        };
        Named {
            name: self.name().to_owned(),
            what: what.to_owned(),
        }
    }

    /// Where it runs.
    pub(super) fn nodes(self) -> Nodes {
        match self {
            Self::Direct | Self::DirectSameNode | Self::Sidecar | Self::SidecarHttp => Nodes::Bare,
            Self::DirectBesideCulvert
            | Self::Culvert
            | Self::CulvertPolicies
            | Self::CulvertSameNode
            | Self::CulvertKernel
            | Self::CulvertWaypoint => Nodes::Culvert,
            Self::CulvertLocalLegs => Nodes::Legs,
            Self::Ztunnel => Nodes::Peer,
            Self::CulvertBefore => Nodes::Before,
        }
    }

    /// Whether its proxies understand HTTP, and carry nothing else here.
    pub(super) fn is_http(self) -> bool {
        matches!(self, Self::CulvertWaypoint | Self::SidecarHttp)
    }

    /// Whether client and server are on different nodes.
    pub(super) fn crosses_link(self) -> bool {
        !matches!(self, Self::DirectSameNode | Self::CulvertSameNode | Self::CulvertKernel)
    }

    /// Whether nothing may cross the link in clear.
    pub(super) fn is_encrypted(self) -> bool {
        self.crosses_link() && !matches!(self, Self::Direct | Self::DirectBesideCulvert)
    }
}
