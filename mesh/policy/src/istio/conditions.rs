//! What an entry of a rule comes to: its conditions, as they come together.

use culvert_proto::security::{Address, Match, ServiceAccountMatch, StringMatch};

use super::side::Side;
use super::value;

/// What a part of a rule comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part<T> {
    /// It holds for everybody.
    Always,
    /// It holds for nobody.
    Never,
    /// It is decided per connection.
    Asks(T),
}

impl<T> Part<T> {
    /// What stands for something that cannot be decided.
    pub(super) fn doubt(side: Side) -> Self {
        match side {
            Side::Under => Self::Never,
            Side::Over => Self::Always,
        }
    }
}

/// How a list of texts becomes values of a match: where they go, and what each of them is.
pub(super) struct Field<T> {
    pub(super) put: fn(&mut Conditions) -> &mut Vec<T>,
    pub(super) is_exception: bool,
    /// What to add where a value is refused.
    pub(super) but: &'static str,
}

/// The conditions of one match: all must hold.
pub(super) struct Conditions {
    one: Match,
    /// Of the client's identity, besides its name.
    trust_domains: Vec<StringMatch>,
    parts: Vec<Part<()>>,
}

impl Conditions {
    pub(super) fn new(parts: Vec<Part<()>>) -> Self {
        Self {
            one: Match::default(),
            trust_domains: Vec::new(),
            parts,
        }
    }

    pub(super) fn add(&mut self, part: Part<()>) {
        self.parts.push(part);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether they ask for a trust domain and for what an identity ends in, which is not one comparison.
    pub(super) fn are_not_comparable(&self) -> bool {
        self.identities().any(|(_, is_exact)| !is_exact)
    }

    /// All must hold. Without any it is as if it were empty.
    pub(super) fn part(mut self, side: Side) -> Part<Match> {
        if self.parts.is_empty() {
            return Part::doubt(side);
        }
        if self.parts.contains(&Part::Never) {
            return Part::Never;
        }
        if !self.parts.contains(&Part::Asks(())) {
            return Part::Always;
        }
        if self.one.principals.is_empty() {
            self.one.principals.append(&mut self.trust_domains);
        } else if !self.trust_domains.is_empty() {
            let identities = self.identities();
            let identities = identities.filter(|(_, is_exact)| *is_exact || side == Side::Over);
            self.one.principals = identities.map(|(identity, _)| identity).collect();
            if self.one.principals.is_empty() {
                return Part::Never;
            }
        }
        Part::Asks(self.one)
    }

    /// Identities that are asked for both by name and by trust domain, and whether each is no more than that.
    fn identities(&self) -> impl Iterator<Item = (StringMatch, bool)> + '_ {
        let principals = self.one.principals.iter();
        principals.flat_map(|principal| {
            let domains = self.trust_domains.iter();
            domains.filter_map(|domain| value::both(principal, domain))
        })
    }
}

macro_rules! fields {
    ($($name:ident: $kind:ty, $not:ident)*) => {$(
        pub(super) fn $name(is_exception: bool) -> Field<$kind> {
            Field {
                put: if is_exception { |all| &mut all.one.$not } else { |all| &mut all.one.$name },
                is_exception,
                but: "",
            }
        }
    )*};
}

fields! {
    principals: StringMatch, not_principals
    namespaces: StringMatch, not_namespaces
    service_accounts: ServiceAccountMatch, not_service_accounts
    source_ips: Address, not_source_ips
    destination_ips: Address, not_destination_ips
    destination_ports: u32, not_destination_ports
}

/// As comparisons with identities: [`value::trust_domain`].
pub(super) fn trust_domains(is_exception: bool) -> Field<StringMatch> {
    Field {
        put: if is_exception {
            |all| &mut all.one.not_principals
        } else {
            |all| &mut all.trust_domains
        },
        is_exception,
        but: " at layer 4, where nobody looks what a trust domain ends in",
    }
}
