//! What is asked of names, and what is said of them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The resolver says that there is none.
    #[error("no such name, or no address of a family that the pod has")]
    NoAddress,
    /// All resolvers refuse to answer, or cannot.
    #[error("the pod's resolvers refuse to answer")]
    Refused,
    /// No resolver answers.
    #[error("the pod's resolvers do not answer")]
    Silent,
    /// There is nobody to ask.
    #[error("no resolver is known: the pod has asked none yet, and the proxy has none of its own (--resolver)")]
    NoResolver,
    /// The pod has too many names that are being asked for.
    #[error("too many names are being asked for")]
    Overflow,
    /// The name cannot be asked for.
    #[error("not a name that can be asked for")]
    Malformed,
}

impl NameError {
    /// In a word, for metrics.
    pub const fn outcome(self) -> &'static str {
        match self {
            Self::NoAddress => "no_address",
            Self::Refused => "refused",
            Self::Silent => "timeout",
            Self::NoResolver => "no_resolver",
            Self::Overflow => "overflow",
            Self::Malformed => "malformed",
        }
    }
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The pod's uid.
    pub pod: &'a Arc<str>,
    /// The name, in lower case.
    pub host: &'a Arc<str>,
    /// The families of which the pod has addresses: IPv4, IPv6.
    pub families: (bool, bool),
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// One of its addresses.
    Known(IpAddr),
    /// It has none.
    Failed(NameError),
    /// It is being asked for: the waiter is woken.
    Wait,
}

/// Which address is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Those of this family come first.
    pub v4: bool,
    /// These have failed: they come last.
    pub tried: &'a [IpAddr],
}

/// Names a part of a question: what an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    pub(super) question: u64,
    pub(super) v6: bool,
}

/// A query to be sent in a pod.
#[derive(Clone, Debug)]
pub struct NameQuery {
    /// To be given back with the answer.
    pub part: Part,
    /// The pod's uid.
    pub pod: Arc<str>,
    /// To whom.
    pub resolver: SocketAddr,
    /// The message. Its identifier is 0, and so must be the answer's: whoever sends it puts a random one in its place.
    pub message: Vec<u8>,
}

/// A question that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The pod's uid.
    pub pod: Arc<str>,
    /// The name.
    pub host: Arc<str>,
    /// How many addresses it has, or why none.
    pub outcome: Result<usize, NameError>,
    /// Addresses of an earlier answer are used meanwhile.
    pub is_stale: bool,
}

/// A name as it is remembered, for people who look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameView {
    /// The pod's uid.
    pub pod: Arc<str>,
    /// The name.
    pub host: Arc<str>,
    /// Its addresses, in the order of the answer.
    pub addresses: Vec<IpAddr>,
    /// For how long they hold: zero where they are used for want of a newer answer.
    pub fresh_for: Duration,
    /// Why the last question failed.
    pub error: Option<NameError>,
    /// It is being asked for.
    pub is_asked: bool,
}
