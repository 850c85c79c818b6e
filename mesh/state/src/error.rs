//! Why a resource cannot be used.

use std::net::IpAddr;

use culvert_identity::SpiffeError;
use culvert_policy::PolicyError;

/// Why a resource cannot be used. The controller hears it, with the resource's name, in a NACK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceError {
    /// The bytes are no message of the type.
    #[error("does not decode: {0}")]
    Decode(String),
    /// An address that is neither workload nor service.
    #[error("neither a workload nor a service")]
    Empty,
    /// The resource says that it has another name.
    #[error("calls itself `{0}`")]
    Name(String),
    /// A field that must have a value has none.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// An address with a length that no family has.
    #[error("{field}: an address has {bytes} bytes, neither 4 nor 16")]
    AddressLength {
        /// Which field.
        field: &'static str,
        /// How many.
        bytes: usize,
    },
    /// An address at which nothing can be reached from another host.
    #[error("{field}: {address} cannot be an address of it")]
    Address {
        /// Which field.
        field: &'static str,
        /// As received.
        address: IpAddr,
    },
    /// A prefix longer than its address.
    #[error("addresses: prefix length {length} is too long for {address}")]
    Prefix {
        /// The address.
        address: IpAddr,
        /// As received.
        length: u32,
    },
    /// A port outside 1 to 65535 (0 for a target port that differs by workload).
    #[error("{field}: {value} is no port")]
    Port {
        /// Which field.
        field: &'static str,
        /// As received.
        value: u32,
    },
    /// A number that is none of the values of its enumeration.
    #[error("{field}: {value} is unknown")]
    UnknownValue {
        /// Which field.
        field: &'static str,
        /// As received.
        value: i32,
    },
    /// A way to keep clients with an endpoint that is none of those known here.
    #[error("session affinity `{0}` is unknown")]
    SessionAffinity(String),
    /// Namespace, service account or trust domain make no identity.
    #[error(transparent)]
    Identity(#[from] SpiffeError),
    /// An authorization policy cannot be enforced as it is written.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}
