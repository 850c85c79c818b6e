//! Answers as messages (RFC 1035, section 4.1).
//!
//! Written here and not by a library: all that such an answer holds is a name, and addresses whose owner is a pointer to it.
//! hickory-proto ends its compression of names after a few records, and an answer with many addresses is three times as long.

use std::net::IpAddr;

use crate::{
    decision::Transport,
    host::labels,
    question::{Family, Question},
};

/// For how long an answer may be remembered, seconds: that of Istio's node proxy.
const TTL: u32 = 30;

/// The longest answer in a datagram: longer ones may be broken into fragments on their way, or never come through (the default
/// that authors of resolvers agreed upon in 2020).
const LONGEST_DATAGRAM: u16 = 1232;

/// What every client takes in a datagram (RFC 1035, section 4.2.1).
const LEAST_DATAGRAM: u16 = 512;

/// The longest name (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 255;

/// Where the name of the question stands: right after the header.
const QUESTION: u16 = 12;

/// Flags of every answer: it is one, and recursion is to be had. Then those that are set by and by.
const RESPONSE: u16 = 0x8080;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const CHECKING_DISABLED: u16 = 0x0010;

const CLASS_IN: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_OPT: u16 = 41;

/// Length of a record with a pointer as its owner, without its data; and that of OPT, whose owner is the root.
const RECORD: usize = 12;
const OPT: usize = 11;

/// `BADVERS` (RFC 6891, section 9), whose upper bits stand in OPT.
const BAD_VERSION: u8 = 1;

/// In OPT (RFC 3225): signatures are welcome.
const DNSSEC_OK: u16 = 0x8000;

/// An answer with the addresses of a name, of which there may be none. `alias` is what the name is without a search domain.
/// Addresses beyond what the client takes are cut off, and over UDP the answer says so: then the client asks over TCP.
pub(crate) fn addresses(
    question: &Question,
    transport: Transport,
    alias: Option<&str>,
    mut addresses: Vec<IpAddr>,
) -> Vec<u8> {
    shuffle(&mut addresses, question.id);
    // In the case in which it was asked for.
    let alias = alias.filter(|_| !addresses.is_empty()).map(labels);
    let alias = alias.map(|count| encoded(question.query.name.iter().take(count)));
    let name = encoded(question.query.name.iter());
    let length = |data: usize| RECORD + data;
    let fixed = usize::from(QUESTION) + name.len() + 4 + question.edns.as_ref().map_or(0, |_| OPT);
    let fixed = fixed + alias.as_ref().map_or(0, |alias| length(alias.len()));
    let most = longest(question, transport).saturating_sub(fixed) / length(question.family.octets());
    let is_cut = addresses.len() > most;
    addresses.truncate(most);

    let flags = match (is_cut, transport) {
        (true, Transport::Udp) => AUTHORITATIVE | TRUNCATED,
        (true, Transport::Tcp) | (false, _) => AUTHORITATIVE,
    };
    let records = addresses.len() + usize::from(alias.is_some());
    let mut message = begin(question, flags, records, &name);
    let mut owner = QUESTION;
    if let Some(alias) = alias {
        record(&mut message, owner, TYPE_CNAME, &alias);
        owner = (message.len() - alias.len()) as u16;
    }
    for address in addresses {
        match address {
            IpAddr::V4(v4) => record(&mut message, owner, question.family.record_type(), &v4.octets()),
            IpAddr::V6(v6) => record(&mut message, owner, question.family.record_type(), &v6.octets()),
        }
    }
    end(message, question, 0)
}

/// An answer to a client whose version of EDNS is unknown.
pub(crate) fn bad_version(question: &Question) -> Vec<u8> {
    let message = begin(question, 0, 0, &encoded(question.query.name.iter()));
    end(message, question, BAD_VERSION)
}

/// Header and question.
fn begin(question: &Question, flags: u16, records: usize, name: &[u8]) -> Vec<u8> {
    let mut flags = flags | RESPONSE;
    if question.recursion_desired {
        flags |= RECURSION_DESIRED;
    }
    if question.checking_disabled {
        flags |= CHECKING_DISABLED;
    }
    // As many as fit into 65,535 bytes.
    let records = records as u16;
    let additional = question.edns.is_some().into();
    let mut message = Vec::with_capacity(LEAST_DATAGRAM.into());
    for field in [question.id, flags, 1, records, 0, additional] {
        message.extend(field.to_be_bytes());
    }
    message.extend(name);
    message.extend(question.family.record_type().to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message
}

fn record(message: &mut Vec<u8>, owner: u16, record_type: u16, data: &[u8]) {
    const POINTER: u16 = 0xc000;
    for field in [POINTER | owner, record_type, CLASS_IN] {
        message.extend(field.to_be_bytes());
    }
    message.extend(TTL.to_be_bytes());
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
}

/// EDNS, where the client speaks it.
fn end(mut message: Vec<u8>, question: &Question, upper_code: u8) -> Vec<u8> {
    const ROOT: u8 = 0;
    const VERSION: u8 = 0;
    if let Some(edns) = &question.edns {
        let flags = if edns.flags().dnssec_ok { DNSSEC_OK } else { 0 };
        message.push(ROOT);
        message.extend(TYPE_OPT.to_be_bytes());
        message.extend(LONGEST_DATAGRAM.to_be_bytes());
        message.extend([upper_code, VERSION]);
        message.extend(flags.to_be_bytes());
        message.extend([0; 2]);
    }
    message
}

/// How long an answer may be.
fn longest(question: &Question, transport: Transport) -> usize {
    let most = match (transport, &question.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(LEAST_DATAGRAM, LONGEST_DATAGRAM),
        (Transport::Udp, None) => LEAST_DATAGRAM,
    };
    most.into()
}

/// A name in the form of a message: each label after its length, and the root.
fn encoded<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut name = Vec::with_capacity(LONGEST_NAME);
    for label in labels {
        // At most 63 (RFC 1035, section 2.3.4), or it could not have been read.
        name.push(label.len() as u8);
        name.extend(label);
    }
    name.push(0);
    name
}

impl Family {
    fn record_type(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }

    fn octets(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }
}

/// In an order that the message's id decides, so that clients come to different ones (Fisher and Yates, over xorshift).
fn shuffle(addresses: &mut [IpAddr], id: u16) {
    let mut state = u32::from(id) << 16 | 0x9e37;
    for last in (1..addresses.len()).rev() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        addresses.swap(last, state as usize % (last + 1));
    }
}
