//! Names that the mesh resolves for itself.

use std::net::Ipv6Addr;

use hickory_proto::{
    op::MessageType,
    rr::{
        Record,
        rdata::{A, AAAA, CNAME, SOA},
    },
};
use proptest::prelude::*;

use super::*;
use crate::{Lookup, ResolveError, Resolved};

const HOST: &str = "db.example.com";

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), ttl, data)
}

fn a(owner: &str, ttl: u32, address: &str) -> Record {
    record(owner, ttl, RData::A(A(address.parse().unwrap())))
}

fn cname(owner: &str, ttl: u32, to: &str) -> Record {
    record(owner, ttl, RData::CNAME(CNAME(name(to))))
}

/// An answer to the question of a lookup.
fn answer(lookup: &Lookup, records: &[Record]) -> Message {
    let mut message = Message::from_vec(&lookup.message()).unwrap();
    message.metadata.message_type = MessageType::Response;
    message.add_answers(records.iter().cloned());
    message
}

fn read(lookup: &Lookup, message: &Message) -> Result<Resolved, ResolveError> {
    lookup.read(&message.to_vec().unwrap())
}

fn resolved(addresses: &[&str], ttl: u32) -> Result<Resolved, ResolveError> {
    Ok(Resolved {
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ttl,
    })
}

#[test]
fn an_answer_is_followed_by_its_aliases_to_the_addresses_of_the_family() {
    let lookup = Lookup::new(HOST, false, 7).unwrap();
    let query = Message::from_vec(&lookup.message()).unwrap();
    assert!(query.metadata.recursion_desired && query.edns.is_some() && query.metadata.id == 7);
    assert_eq!(query.queries, [Query::query(name(HOST), RecordType::A)]);
    let said = |records: &[Record]| read(&lookup, &answer(&lookup, records));
    assert_eq!(
        said(&[a(HOST, 60, "203.0.113.1"), a(HOST, 30, "203.0.113.2")]),
        resolved(&["203.0.113.1", "203.0.113.2"], 30)
    );
    // Whatever the order, and in whatever case the aliases are written.
    let chain = [
        a("Edge.example.NET", 300, "203.0.113.3"),
        cname("lb.example.org", 20, "edge.example.net"),
        cname("DB.example.com", 100, "LB.example.org"),
        a("other.example.com", 1, "203.0.113.9"),
    ];
    assert_eq!(said(&chain), resolved(&["203.0.113.3"], 20));
    let v6 = record(HOST, 5, RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)));
    assert_eq!(said(&[v6]), resolved(&[], 0), "another family");
    for nowhere in ["127.0.0.1", "0.0.0.0", "224.0.0.1"] {
        assert_eq!(said(&[a(HOST, 60, nowhere)]), resolved(&[], 0), "{nowhere}");
    }
    assert_eq!(said(&[cname(HOST, 60, HOST)]), Err(ResolveError::Chain));

    let lookup = Lookup::new("DB.example.com.", true, 8).unwrap();
    let mapped = record(HOST, 5, RData::AAAA(AAAA("::ffff:203.0.113.1".parse().unwrap())));
    let good = record(HOST, 5, RData::AAAA(AAAA("2001:db8::1".parse().unwrap())));
    assert_eq!(
        read(&lookup, &answer(&lookup, &[mapped, good])),
        resolved(&["203.0.113.1", "2001:db8::1"], 5)
    );
}

#[test]
fn that_there_is_nothing_is_remembered_as_long_as_the_zone_says() {
    let lookup = Lookup::new(HOST, false, 7).unwrap();
    let soa = SOA::new(name("ns.example.com"), name("admin.example.com"), 1, 2, 3, 4, 90);
    for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
        let mut message = answer(&lookup, &[]);
        message.metadata.response_code = code;
        assert_eq!(read(&lookup, &message), resolved(&[], 0));
        message.add_authority(record("example.com", 40, RData::SOA(soa.clone())));
        assert_eq!(read(&lookup, &message), resolved(&[], 40));
        message.authorities[0].ttl = 3600;
        assert_eq!(read(&lookup, &message), resolved(&[], 90));
    }
}

#[test]
fn what_is_no_answer_to_the_question_is_told_from_a_resolver_that_has_none() {
    let lookup = Lookup::new(HOST, false, 7).unwrap();
    let good = answer(&lookup, &[a(HOST, 60, "203.0.113.1")]);
    let changed = |change: &dyn Fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        read(&lookup, &message)
    };
    let stranger = Err(ResolveError::Stranger);
    assert_eq!(changed(&|message| message.metadata.id = 8), stranger);
    assert_eq!(
        changed(&|message| message.metadata.message_type = MessageType::Query),
        stranger
    );
    assert_eq!(changed(&|message| message.queries.clear()), stranger);
    assert_eq!(
        changed(&|message| message.queries[0].name = name("x.example.com")),
        stranger
    );
    assert_eq!(lookup.read(b"no message"), stranger);
    assert_eq!(
        changed(&|message| message.metadata.truncation = true),
        resolved(&["203.0.113.1"], 60)
    );
    assert_eq!(
        changed(&|message| {
            message.metadata.truncation = true;
            message.answers.clear();
        }),
        Err(ResolveError::Truncated)
    );
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::FormErr] {
        assert_eq!(
            changed(&|message| message.metadata.response_code = code),
            Err(ResolveError::Refused(code))
        );
    }
    let long = "a.".repeat(130);
    for host in ["", "a..example.com", &"a".repeat(64), &long] {
        assert!(Lookup::new(host, false, 1).is_none(), "{host:?}");
    }
}

proptest! {
    #[test]
    fn any_answer_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let lookup = Lookup::new(HOST, false, 7).unwrap();
        let _ = lookup.read(&bytes);
        // As if it were one to the question.
        let mut close = answer(&lookup, &[]).to_vec().unwrap();
        close[6..8].copy_from_slice(&3_u16.to_be_bytes());
        close.extend(bytes);
        let _ = lookup.read(&close);
    }

    #[test]
    fn any_host_that_is_taken_makes_a_query(host in "[a-zA-Z0-9._-]{0,300}") {
        if let Some(lookup) = Lookup::new(&host, true, 9) {
            let message = Message::from_vec(&lookup.message()).unwrap();
            prop_assert_eq!(message.queries.len(), 1);
        }
    }
}
