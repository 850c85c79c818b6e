//! Route configurations as a controller may send them, well-formed or not, and requests that take their routes. Also regular expressions,
//! tokens' keys and access policies on their way from configuration to a decision.
#![no_main]

#[path = "../known.rs"]
mod known;

use culvert_envoy::ROUTE_TYPE;
use culvert_envoy::pb::envoy::config::route::v3::RouteConfiguration;
use culvert_envoy::pb::envoy::extensions::filters::http::rbac::v3::Rbac as RbacMessage;
use culvert_http::filters::{Attributes, Rbac, jwt::Keys};
use culvert_http::{Action, Found, Peer, RouteTable, re2};
use http::Request;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fuzz_target!(|input: (&[u8], &str, u64)| {
    let (bytes, text, random) = input;
    let edited = match bytes.split_first() {
        Some((&known::MARK, edits)) => known::edited(edits, |known| known.type_url == ROUTE_TYPE),
        _ => None,
    };
    let bytes = edited.as_ref().map_or(bytes, |known| &*known.body);
    let _ = Keys::parse(bytes);
    if let Ok(regex) = re2::Regex::new(text) {
        // What matches as a whole begins with what the index takes for granted.
        let matches = regex.is_full_match(bytes);
        assert!(
            !matches || bytes.starts_with(re2::literal_prefix(text).as_bytes()),
            "{text:?}"
        );
    }
    let Ok(request) = Request::get(text).header("host", "a.b").body(()) else {
        return;
    };
    let (request, ()) = request.into_parts();
    let peer = Peer {
        principal: Some("spiffe://cluster.local/ns/shop/sa/web"),
        ..Peer::default()
    };
    if let Ok(message) = RbacMessage::decode(bytes)
        && let Ok(rbac) = Rbac::compile(&message)
    {
        let _ = rbac.decide(&Attributes {
            request: &request,
            peer: &peer,
            tokens: None,
        });
    }
    let Ok(message) = RouteConfiguration::decode(bytes) else {
        return;
    };
    let Ok(table) = RouteTable::compile(&message) else {
        return;
    };
    let Found::Route(route) = table.find(&request, &peer) else {
        return;
    };
    match route.action() {
        Action::Forward(forward) => {
            let _ = forward.hash(&request, &peer);
            if let Some(target) = forward.targets().choose(&request, random) {
                let mut sent = request.clone();
                let _ = forward.timeouts().of(&mut sent.headers);
                if forward.rewrite(&mut sent, &peer, &target).is_ok() {
                    assert!(sent.uri.path().starts_with('/') || sent.uri.path() == request.uri.path());
                }
            }
        }
        Action::Redirect(redirect) => drop(redirect.location(&request)),
        Action::Direct(direct) => drop(direct.location(&request)),
    }
});
