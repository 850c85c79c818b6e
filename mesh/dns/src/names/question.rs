//! One question about a name: its queries of both families, and the resolvers that it goes to one after the other.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::values::NameError;
use crate::resolve::{Lookup, ResolveError, Resolved};

/// How long a resolver has before the next one is asked.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Resolvers that are asked, and how often each.
const RESOLVERS: usize = 3;
const ROUNDS: u32 = 2;

/// Addresses of a name that are remembered.
const MOST_ADDRESSES: usize = 64;

/// What was answered: at least one address.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) addresses: Vec<IpAddr>,
    /// Seconds.
    pub(super) ttl: u32,
}

/// What follows from what a question heard.
#[derive(Debug)]
pub(super) enum Heard {
    /// Nothing: more is to come.
    Nothing,
    /// The next resolver is to be asked.
    Next,
    /// It is over.
    End(Result<Answer, NameError>),
}

/// A question that is open.
#[derive(Debug)]
pub(super) struct Question {
    resolvers: Vec<SocketAddr>,
    /// How many resolvers have been passed over.
    attempt: u32,
    parts: Vec<FamilyPart>,
}

/// A question about one family.
#[derive(Debug)]
struct FamilyPart {
    v6: bool,
    lookup: Lookup,
    answer: Option<Resolved>,
    /// The resolver whose turn it is has refused.
    is_refused: bool,
}

impl Question {
    /// About a host, of families `(v4, v6)`.
    pub(super) fn new(host: &str, families: (bool, bool), mut resolvers: Vec<SocketAddr>) -> Result<Self, NameError> {
        resolvers.truncate(RESOLVERS);
        if resolvers.is_empty() {
            return Err(NameError::NoResolver);
        }
        let wanted = [(families.0, false), (families.1, true)];
        let parts = wanted.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, v6)| {
            Some(FamilyPart {
                v6,
                lookup: Lookup::new(host, v6, 0)?,
                answer: None,
                is_refused: false,
            })
        });
        let parts: Vec<FamilyPart> = parts.collect::<Option<_>>().ok_or(NameError::Malformed)?;
        if parts.is_empty() {
            return Err(NameError::NoAddress);
        }
        Ok(Self {
            resolvers,
            attempt: 0,
            parts,
        })
    }

    /// Whose turn it is.
    pub(super) fn resolver(&self) -> SocketAddr {
        self.resolvers[self.attempt as usize % self.resolvers.len()]
    }

    /// How many resolvers have been passed over.
    pub(super) const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The queries that are not answered yet; `true` for AAAA.
    pub(super) fn messages(&self) -> impl Iterator<Item = (bool, Vec<u8>)> {
        let open = self.parts.iter().filter(|part| part.answer.is_none());
        open.map(|part| (part.v6, part.lookup.message()))
    }

    /// A message has come.
    pub(super) fn answered(&mut self, v6: bool, message: &[u8]) -> Heard {
        let Some(part) = self.open_part(v6) else {
            return Heard::Nothing;
        };
        match part.lookup.read(message) {
            Ok(resolved) => part.answer = Some(resolved),
            Err(ResolveError::Stranger) => return Heard::Nothing,
            Err(ResolveError::Truncated | ResolveError::Refused(_) | ResolveError::Chain) => part.is_refused = true,
        }
        self.look_at_parts()
    }

    /// The resolver refuses one of the families.
    pub(super) fn refused(&mut self, v6: bool) -> Heard {
        let Some(part) = self.open_part(v6) else {
            return Heard::Nothing;
        };
        part.is_refused = true;
        self.look_at_parts()
    }

    fn open_part(&mut self, v6: bool) -> Option<&mut FamilyPart> {
        let mut parts = self.parts.iter_mut();
        parts.find(|part| part.v6 == v6 && part.answer.is_none())
    }

    fn look_at_parts(&mut self) -> Heard {
        let is_open = |part: &FamilyPart| part.answer.is_none() && !part.is_refused;
        if self.parts.iter().any(is_open) {
            return Heard::Nothing;
        }
        self.conclude(NameError::Refused)
    }

    /// The resolver has had its time.
    pub(super) fn late(&mut self) -> Heard {
        self.conclude(NameError::Silent)
    }

    /// Ends with what there is, or goes on to the next resolver. One family is enough: some servers never answer for the other.
    fn conclude(&mut self, why: NameError) -> Heard {
        let answers = || self.parts.iter().filter_map(|part| part.answer.as_ref());
        let mut addresses: Vec<IpAddr> = answers().flat_map(|answer| answer.addresses.iter().copied()).collect();
        if !addresses.is_empty() {
            addresses.truncate(MOST_ADDRESSES);
            let with_addresses = answers().filter(|answer| !answer.addresses.is_empty());
            let ttl = with_addresses.map(|answer| answer.ttl).min().unwrap_or(0);
            return Heard::End(Ok(Answer { addresses, ttl }));
        }
        if answers().count() == self.parts.len() {
            return Heard::End(Err(NameError::NoAddress));
        }
        self.attempt += 1;
        if self.attempt >= ROUNDS * self.resolvers.len() as u32 {
            return Heard::End(Err(why));
        }
        for part in &mut self.parts {
            part.is_refused = false;
        }
        Heard::Next
    }
}
