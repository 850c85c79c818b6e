//! Limits beyond which something is refused.

/// What there was too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Tunnels of clients on a thread.
    Tunnels,
    /// Connections inside of them.
    Connections,
    /// Requests that are under way on a thread.
    Requests,
    /// Memory of the process.
    Memory,
    /// Connections, requests or retries of a cluster, as its circuit breakers say.
    Cluster,
}

impl Limit {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [
        Self::Tunnels,
        Self::Connections,
        Self::Requests,
        Self::Memory,
        Self::Cluster,
    ];

    /// As metrics name it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Tunnels => "tunnels",
            Self::Connections => "connections",
            Self::Requests => "requests",
            Self::Memory => "memory",
            Self::Cluster => "cluster",
        }
    }
}
