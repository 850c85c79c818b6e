//! What a message asks, as far as the mesh could answer it.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, Query},
    rr::{DNSClass, RecordType},
};

/// Length of a header (RFC 1035, section 4.1.1).
const HEADER: usize = 12;

/// What a message is.
#[derive(Debug)]
pub(crate) enum Asked {
    /// No query: there is nobody to answer.
    NoQuery,
    /// A query that is none of the mesh's business, or not understood here.
    Other,
    /// An address of a name.
    Address(Question),
}

/// A query for the addresses of a name.
#[derive(Debug)]
pub(crate) struct Question {
    /// As the answer repeats it.
    pub(crate) id: u16,
    /// Whether the client asks for recursion, which the answer repeats.
    pub(crate) recursion_desired: bool,
    /// As the answer repeats it.
    pub(crate) checking_disabled: bool,
    /// The question itself, its name in the case in which it was asked.
    pub(crate) query: Query,
    /// Of which family addresses are asked for.
    pub(crate) family: Family,
    /// What the client says of itself.
    pub(crate) edns: Option<Edns>,
}

/// A family of addresses, by the type of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// `A`.
    V4,
    /// `AAAA`.
    V6,
}

impl Family {
    /// Whether an address is of it.
    pub(crate) fn includes(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// Reads a message.
pub(crate) fn read(message: &[u8]) -> Asked {
    let Some(header) = message.first_chunk::<HEADER>() else {
        return Asked::NoQuery;
    };
    let is_response = header[2] & 0x80 != 0;
    if is_response {
        return Asked::NoQuery;
    }
    let is_standard_query = header[2] & 0x78 == 0;
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (questions, answers, authorities) = (count(4), count(6), count(8));
    if !is_standard_query || (questions, answers, authorities) != (1, 0, 0) {
        return Asked::Other;
    }
    match Message::from_vec(message) {
        Ok(message) => address_query(message).map_or(Asked::Other, Asked::Address),
        // Its resolver may know what the parser does not.
        Err(_) => Asked::Other,
    }
}

fn address_query(message: Message) -> Option<Question> {
    let Message {
        metadata,
        mut queries,
        signature,
        edns,
        ..
    } = message;
    let query = queries.pop().filter(|query| query.query_class == DNSClass::IN)?;
    let family = match query.query_type {
        RecordType::A => Family::V4,
        RecordType::AAAA => Family::V6,
        _ => return None,
    };
    // Who signs wants a signed answer.
    signature.is_none().then_some(Question {
        id: metadata.id,
        recursion_desired: metadata.recursion_desired,
        checking_disabled: metadata.checking_disabled,
        query,
        family,
        edns,
    })
}
