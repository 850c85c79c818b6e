//! A matcher for who the client is: filter state with [`PEER_PRINCIPAL`], the only one there is.

use culvert_envoy::PEER_PRINCIPAL;
use culvert_envoy::pb::envoy::r#type::matcher::v3::{FilterStateMatcher, filter_state_matcher::Matcher};

use super::text::Text;
use crate::error::{CompileError, Within as _, take};
use crate::request::Peer;

/// Matches the SPIFFE ID of the client.
#[derive(Clone, Debug)]
pub(crate) struct Client(Text);

impl Client {
    pub(crate) fn compile(state: &FilterStateMatcher) -> Result<Self, CompileError> {
        take!(state => FilterStateMatcher { key, matcher } unserved {});
        if key != PEER_PRINCIPAL {
            return Err(CompileError::invalid(
                "key",
                format_args!("there is no filter state {key:?}, only {PEER_PRINCIPAL:?}"),
            ));
        }
        match matcher {
            Some(Matcher::StringMatch(matcher)) => Text::compile(matcher).within(|| "string_match".into()).map(Self),
            Some(Matcher::AddressMatch(_)) => Err(CompileError::unserved("address_match")),
            None => Err(CompileError::missing("matcher")),
        }
    }

    /// Whether it is this one. Nobody is not.
    pub(crate) fn matches(&self, peer: &Peer<'_>) -> bool {
        peer.principal
            .is_some_and(|principal| self.0.matches(principal.as_bytes()))
    }
}
