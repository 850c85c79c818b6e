//! The object that a policy of node proxies was made of, by the policy's name.

use culvert_objects::{Kind, ObjectName};

use super::{bypass, policy, restriction};

/// What a policy was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This object.
    Object(Kind, ObjectName),
    /// This one, which nobody enforces, so that what it binds is denied.
    NotEnforced(Kind, ObjectName),
    /// Some PeerAuthentication of mode STRICT.
    Strict,
    /// A Service or a pod that is reached through this waypoint alone, or through this and its canary, or through that of each of the two.
    Waypoints(Vec<ObjectName>),
}

/// What a policy was made of, by its resource's name, `namespace/name`. None for a name that no policy has.
pub fn origin(policy: &str) -> Option<Origin> {
    let (namespace, name) = policy.split_once('/')?;
    if name == policy::STRICT {
        return Some(Origin::Strict);
    }
    if let Some(waypoints) = bypass::waypoints_of(name) {
        return Some(Origin::Waypoints(waypoints));
    }
    if let Some(peer) = name.strip_prefix(policy::CONVERTED) {
        return Some(Origin::Object(
            Kind::PeerAuthentication,
            ObjectName::new(namespace, peer),
        ));
    }
    if let Some((kind, name)) = name
        .strip_prefix(restriction::PREFIX)
        .and_then(|rest| rest.strip_prefix('_')?.split_once('_'))
    {
        return Some(Origin::NotEnforced(
            Kind::named(kind)?,
            ObjectName::new(namespace, name),
        ));
    }
    Some(Origin::Object(
        Kind::AuthorizationPolicy,
        ObjectName::new(namespace, name),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_policy_tells_what_it_was_made_of() {
        let object = |kind, namespace: &str, name: &str| Some(Origin::Object(kind, ObjectName::new(namespace, name)));
        let a = object(Kind::AuthorizationPolicy, "shop", "a");
        assert_eq!(origin("shop/a"), a);
        assert_eq!(
            origin("istio-system/istio_converted_static_strict"),
            Some(Origin::Strict)
        );
        let ports = object(Kind::PeerAuthentication, "shop", "ports");
        assert_eq!(origin("shop/converted_peer_authentication_ports"), ports);
        let tokens = Origin::NotEnforced(Kind::RequestAuthentication, ObjectName::new("shop", "tokens"));
        assert_eq!(
            origin("shop/culvert_not_enforced_RequestAuthentication_tokens"),
            Some(tokens)
        );
        let waypoint = Origin::Waypoints(vec![ObjectName::new("infra", "wp.of-all")]);
        assert_eq!(origin("shop/culvert_waypoint_infra_wp.of-all_8080"), Some(waypoint));
        let both = ["wp", "wp2"].map(|name| ObjectName::new("shop", name)).to_vec();
        let two = origin("shop/culvert_waypoint_shop_wp_shop_wp2_8080");
        assert_eq!(two, Some(Origin::Waypoints(both)));
        assert_eq!(origin("nothing"), None);
    }
}
