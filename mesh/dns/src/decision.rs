//! What is asked by whom, and what is to be done about it.

use std::sync::Arc;

/// How a query came, which bounds its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: the client says in EDNS how much it takes; 512 bytes where it does not.
    Udp,
    /// In a stream: up to 65,535 bytes.
    Tcp,
}

/// The pod that asks.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its namespace: what it sees of the mesh, and the first of its search domains.
    pub namespace: &'a str,
    /// The cluster's domain, lower case and without dots at its ends, `cluster.local` nearly everywhere.
    pub cluster_domain: &'a str,
}

/// What is to be done about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The mesh answers.
    Answer {
        /// The whole answer. No length stands before it, over TCP either.
        message: Vec<u8>,
        /// What was found, for metrics and log.
        outcome: Outcome,
    },
    /// To the pod's own resolver, byte for byte.
    Forward,
    /// The mesh may have it and does not know yet: the controller is to be asked about these host names, and it is to be
    /// decided again when it has answered. It must not take long: then the query is forwarded.
    ///
    /// Lower case, without a final dot; `*.example.com` is a name that is asked about as it stands. Never empty.
    Ask(Vec<Box<str>>),
    /// Nothing: it is no query, so whoever sent it waits for no answer.
    Drop,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Addresses of this service, `namespace/hostname`.
    Found {
        /// Whose.
        service: Arc<str>,
        /// How many there are, though truncation may have cut some off.
        addresses: usize,
    },
    /// The name is this service's, and it has no address of the family.
    NoData {
        /// Whose.
        service: Arc<str>,
    },
    /// The client speaks a version of EDNS that is unknown here (RFC 6891, section 6.1.3).
    BadVersion,
}
