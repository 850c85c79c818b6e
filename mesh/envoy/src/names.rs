//! How resources are named: see the crate's root.

use std::fmt::Display;

/// Envoy's listener on the tunnel port.
pub fn tunnel(scope: impl Display) -> String {
    format!("{scope}/{TUNNEL}")
}

/// The internal listener with a chain for each port of each service, and the cluster that leads there.
pub fn inbound(scope: impl Display) -> String {
    format!("{scope}/{INBOUND}")
}

/// Envoy's internal listener that opens `CONNECT` to an endpoint.
pub fn connect(scope: impl Display) -> String {
    format!("{scope}/{CONNECT}")
}

/// Envoy's cluster that takes `CONNECT` to an endpoint's tunnel port.
pub fn originate(scope: impl Display) -> String {
    format!("{scope}/{ORIGINATE}")
}

/// What Envoy does with connections to endpoints' own addresses, in its statistics and logs.
pub fn direct(scope: impl Display) -> String {
    format!("{scope}/{DIRECT}")
}

/// Envoy's cluster that leads to an endpoint that was dialled by its own address, through the tunnel.
pub fn direct_tunnel(scope: impl Display) -> String {
    format!("{scope}/{DIRECT_TUNNEL}")
}

/// The same for endpoints that take no tunnel.
pub fn direct_clear(scope: impl Display) -> String {
    format!("{scope}/{DIRECT_CLEAR}")
}

/// As [`direct_tunnel`], for endpoints that want TLS or the PROXY protocol as a port of a service asks for it.
pub fn direct_tunnel_own(scope: impl Display, service: impl Display, port: u16) -> String {
    format!("{scope}/{DIRECT_TUNNEL} own {service}:{port}")
}

/// As [`direct_clear`], for endpoints that want TLS or the PROXY protocol as a port of a service asks for it.
pub fn direct_clear_own(scope: impl Display, service: impl Display, port: u16) -> String {
    format!("{scope}/{DIRECT_CLEAR} own {service}:{port}")
}

/// A chain of [`inbound`]: a port of a service.
pub fn chain(service: impl Display, port: u16) -> String {
    format!("{service}:{port}")
}

/// The chain of the same port for what turned out not to be HTTP.
pub fn tcp_chain(service: impl Display, port: u16) -> String {
    format!("{service}:{port} tcp")
}

/// The chain of the same port for connections of TLS that ask for a name.
pub fn sni_chain(service: impl Display, port: u16, name: impl Display) -> String {
    format!("{service}:{port} tls {name}")
}

/// The service and port of a chain, as [`chain`] has them.
pub fn port_of_chain(chain: &str) -> &str {
    chain.split_once(' ').map_or(chain, |(port, _)| port)
}

/// The route configuration of a port of a service.
pub fn routes(scope: impl Display, service: impl Display, port: u16) -> String {
    format!("{scope}/{service}:{port}")
}

/// The cluster of a port of a service, or of a subset of it, and its endpoints.
pub fn cluster(scope: impl Display, service: impl Display, port: u16, subset: Option<&str>) -> String {
    match subset {
        None => format!("{scope}/{service}:{port}"),
        Some(subset) => format!("{scope}/{service}:{port}/{subset}"),
    }
}

/// Whether a listener or cluster of this name is there for Envoy alone: `culvert-waypoint` has the same without being told.
pub fn is_plumbing(name: &str) -> bool {
    let mut parts = name.split('/');
    let (Some(_), Some(_), Some(third)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    match third.split_once(' ') {
        // No namespace of a service has a space in it.
        Some((kind, _)) => [DIRECT_TUNNEL, DIRECT_CLEAR].contains(&kind),
        None => {
            let is_last = parts.next().is_none();
            is_last && [TUNNEL, CONNECT, ORIGINATE, DIRECT_TUNNEL, DIRECT_CLEAR].contains(&third)
        }
    }
}

const TUNNEL: &str = "tunnel";
const INBOUND: &str = "inbound";
const CONNECT: &str = "connect";
const ORIGINATE: &str = "originate";
const DIRECT: &str = "direct";
const DIRECT_TUNNEL: &str = "direct-tunnel";
const DIRECT_CLEAR: &str = "direct-clear";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plumbing_is_told_from_services_of_the_same_name() {
        assert!(
            is_plumbing(&tunnel("shop/wp")) && is_plumbing(&connect("shop/wp")) && is_plumbing(&originate("shop/wp"))
        );
        assert!(is_plumbing(&direct_tunnel("shop/wp")) && is_plumbing(&direct_clear("shop/wp")));
        let web = "shop/web.shop.svc.cluster.local";
        assert!(
            is_plumbing(&direct_tunnel_own("shop/wp", web, 80)) && is_plumbing(&direct_clear_own("shop/wp", web, 80))
        );
        assert!(!is_plumbing(&cluster(
            "shop/wp",
            "direct-tunnel/web.direct-tunnel.svc.cluster.local",
            80,
            None
        )));
        assert!(!is_plumbing(&inbound("shop/wp")));
        assert!(!is_plumbing(&cluster("shop/wp", "shop/connect", 80, None)));
        assert!(!is_plumbing(&cluster(
            "shop/wp",
            "shop/web.shop.svc.cluster.local",
            80,
            Some("tunnel")
        )));
    }
}
