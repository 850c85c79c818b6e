//! The values of a policy's lists. `None`: it means nothing, or not what somebody may think.

use std::net::IpAddr;

use culvert_proto::security::{Address, ServiceAccountMatch, StringMatch, string_match::MatchType};
use ipnet::IpNet;

/// `*` for any text, `a*` for a beginning, `*a` for an end, else the text itself.
pub(super) fn text(value: &str) -> Option<StringMatch> {
    let is_plain = |text: &str| !text.is_empty() && !text.contains('*');
    let kind = match value {
        "*" => MatchType::Presence(()),
        _ => match (value.strip_suffix('*'), value.strip_prefix('*')) {
            (Some(prefix), None) if is_plain(prefix) => MatchType::Prefix(prefix.to_owned()),
            (None, Some(suffix)) if is_plain(suffix) => MatchType::Suffix(suffix.to_owned()),
            (None, None) if is_plain(value) => MatchType::Exact(value.to_owned()),
            _ => return None,
        },
    };
    Some(StringMatch { match_type: Some(kind) })
}

/// An identity as policies write it, without the `spiffe://` that some put before it.
pub(super) fn principal(value: &str) -> Option<StringMatch> {
    text(value.strip_prefix("spiffe://").unwrap_or(value))
}

/// A trust domain, as a comparison with identities, which begin with theirs and a slash. What it ends in cannot be
/// compared so.
pub(super) fn trust_domain(value: &str) -> Option<StringMatch> {
    let domain = text(value).filter(|_| !value.contains('/'))?;
    let kind = match domain.match_type? {
        MatchType::Exact(domain) => MatchType::Prefix(format!("{domain}/")),
        MatchType::Suffix(_) => return None,
        kind @ (MatchType::Prefix(_) | MatchType::Presence(())) => kind,
    };
    Some(StringMatch { match_type: Some(kind) })
}

/// What two comparisons with an identity come to where both must hold, the second one by [`trust_domain`]: as one comparison, and
/// whether that is exact. Where it is not, it lets more through. None if no identity satisfies both.
pub(super) fn both(principal: &StringMatch, domain: &StringMatch) -> Option<(StringMatch, bool)> {
    use MatchType::{Exact, Prefix, Presence, Suffix};
    match (principal.match_type.as_ref()?, domain.match_type.as_ref()?) {
        (_, Presence(())) => Some((principal.clone(), true)),
        (Presence(()), _) => Some((domain.clone(), true)),
        (Exact(text) | Prefix(text), Prefix(begin)) if text.starts_with(begin.as_str()) => {
            Some((principal.clone(), true))
        }
        (Prefix(text), Prefix(begin)) if begin.starts_with(text.as_str()) => Some((domain.clone(), true)),
        (Exact(_) | Prefix(_), _) => None,
        (Suffix(_), _) => Some((principal.clone(), false)),
    }
}

/// `name`, in the policy's own namespace, or `namespace/name`. There are no wildcards.
pub(super) fn service_account(value: &str, own_namespace: &str) -> Option<ServiceAccountMatch> {
    let (namespace, name) = value.split_once('/').unwrap_or((own_namespace, value));
    let is_name = |text: &str| !text.is_empty() && !text.contains(['/', '*']);
    (is_name(namespace) && is_name(name)).then(|| ServiceAccountMatch {
        namespace: namespace.to_owned(),
        service_account: name.to_owned(),
    })
}

/// An address, or a range of them; bits beyond the prefix do not count.
pub(super) fn network(value: &str) -> Option<IpNet> {
    match value.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => value.parse::<IpNet>().ok(),
    }
}

/// The same as policies of node proxies have it.
pub(super) fn range(value: &str) -> Option<Address> {
    let net = network(value)?;
    let address = match net.addr() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    Some(Address {
        address,
        length: u32::from(net.prefix_len()),
    })
}

/// 1 to 65535, in digits alone.
pub(super) fn port(value: &str) -> Option<u32> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = value.parse().ok().filter(|port| digits && *port != 0)?;
    Some(u32::from(port))
}
