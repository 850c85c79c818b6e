//! Names that the mesh resolves for itself: the query to a pod's resolver, and what its answer says.
//!
//! Whoever sends the query checks that the answer comes from where the query went to; here it is checked that it is an answer to
//! this very question.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType},
};

use crate::question::Family;

/// How long a chain of aliases may be: loops end here.
const LONGEST_CHAIN: usize = 16;

/// What is said to be the longest answer in a datagram that is taken.
const PAYLOAD: u16 = 1232;

/// A name that is asked for, in one family.
#[derive(Clone, Debug)]
pub struct Lookup {
    id: u16,
    query: Query,
}

/// What a resolver said of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// In the order of the answer. None: there is no such name, or it has no address of the family.
    pub addresses: Vec<IpAddr>,
    /// For how long that may be remembered, seconds.
    pub ttl: u32,
}

/// Why an answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// It is no message, or an answer to another question: to be ignored.
    #[error("no answer to the question")]
    Stranger,
    /// It did not fit into a datagram, not even one address of it.
    #[error("the answer is cut off")]
    Truncated,
    /// The resolver could not or would not say: the next one may.
    #[error("the resolver answers {0}")]
    Refused(ResponseCode),
    /// Aliases without an end.
    #[error("a chain of more than {LONGEST_CHAIN} aliases")]
    Chain,
}

impl Lookup {
    /// A lookup of a host's addresses of one family; none if the host has no name that could be asked for. The message's `id` is
    /// to be random.
    pub fn new(host: &str, v6: bool, id: u16) -> Option<Self> {
        let labels = host.strip_suffix('.').unwrap_or(host).split('.').map(str::as_bytes);
        let mut name = Name::from_labels(labels).ok()?;
        name.set_fqdn(true);
        let family = if v6 { Family::V6 } else { Family::V4 };
        let query = Query::query(name, record_type(family));
        // Names are bounded as a whole, too.
        (query.name.len() <= 255).then_some(Self { id, query })
    }

    /// The query.
    pub fn message(&self) -> Vec<u8> {
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(self.query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        message.set_edns(edns);
        // A name that was taken can be written.
        message.to_vec().unwrap_or_default()
    }

    /// What an answer says.
    ///
    /// # Errors
    /// Where it answers another question, or none.
    pub fn read(&self, message: &[u8]) -> Result<Resolved, ResolveError> {
        let message = Message::from_vec(message).map_err(|_| ResolveError::Stranger)?;
        let metadata = &message.metadata;
        let is_ours = metadata.message_type == MessageType::Response
            && metadata.op_code == OpCode::Query
            && metadata.id == self.id
            && message.queries == [self.query.clone()];
        match metadata.response_code {
            _ if !is_ours => Err(ResolveError::Stranger),
            ResponseCode::NoError | ResponseCode::NXDomain => match self.follow(&message) {
                // Some addresses of many are enough to connect to.
                Ok(resolved) if metadata.truncation && resolved.addresses.is_empty() => Err(ResolveError::Truncated),
                followed => followed,
            },
            refused => Err(ResolveError::Refused(refused)),
        }
    }

    /// From the name that was asked for, by aliases, to addresses.
    fn follow(&self, message: &Message) -> Result<Resolved, ResolveError> {
        let mut owner = &self.query.name;
        let mut ttl = u32::MAX;
        for _ in 0..LONGEST_CHAIN {
            let of_owner = |record: &&Record| record.dns_class == DNSClass::IN && record.name == *owner;
            let records: Vec<&Record> = message.answers.iter().filter(of_owner).collect();
            let addressed = records
                .iter()
                .filter_map(|record| Some((record.ttl, self.address(record)?)));
            let (ttls, addresses): (Vec<u32>, Vec<IpAddr>) = addressed.unzip();
            if !addresses.is_empty() {
                let ttl = ttls.into_iter().fold(ttl, u32::min);
                return Ok(Resolved { addresses, ttl });
            }
            let alias = records.iter().find_map(|record| match &record.data {
                RData::CNAME(name) => Some((record.ttl, &name.0)),
                _ => None,
            });
            let Some((alias_ttl, name)) = alias else {
                return Ok(Resolved {
                    addresses: Vec::new(),
                    ttl: ttl.min(negative_ttl(message)),
                });
            };
            ttl = ttl.min(alias_ttl);
            owner = name;
        }
        Err(ResolveError::Chain)
    }

    /// The address in a record, if it is one of the family and a connection may go there.
    fn address(&self, record: &Record) -> Option<IpAddr> {
        let address = match (&record.data, self.query.query_type) {
            (RData::A(address), RecordType::A) => IpAddr::from(address.0),
            (RData::AAAA(address), RecordType::AAAA) => IpAddr::from(address.0).to_canonical(),
            _ => return None,
        };
        // A name of the outside must not lead into the proxy's or a pod's own host.
        let leads_nowhere = address.is_unspecified() || address.is_loopback() || address.is_multicast();
        (!leads_nowhere).then_some(address)
    }
}

fn record_type(family: Family) -> RecordType {
    match family {
        Family::V4 => RecordType::A,
        Family::V6 => RecordType::AAAA,
    }
}

/// For how long it may be remembered that there is nothing (RFC 2308, section 5); where the resolver does not say, not at all.
fn negative_ttl(message: &Message) -> u32 {
    let soa = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    soa.unwrap_or(0)
}
