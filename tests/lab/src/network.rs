//! Links, addresses and routes: what the picture in `lib.rs` shows.

use crate::{
    control::{CONTROL_IP4, CONTROL_IP6},
    netns::Namespace,
    node::{Node, node_ip4, node_ip6},
    pod::Pod,
};
use anyhow::Result;

/// Links the nodes to each other and to the control plane, which pods reach, too: waypoints are pods.
pub(crate) fn connect_nodes(nodes: &[Node; 2], control: &Namespace) -> Result<()> {
    let [one, two] = nodes;
    one.namespace.ip(&format!(
        "link add wire type veth peer name wire netns {}",
        two.namespace.name()
    ))?;
    for node in nodes {
        let n = node.number;
        for (name, value) in [("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")] {
            node.namespace.sysctl(name, value)?;
        }
        control.ip(&format!(
            "link add node{n} type veth peer name ctl netns {}",
            node.namespace.name()
        ))?;
        let other = if n == 1 { 2 } else { 1 };
        let (via4, via6) = (node_ip4(other), node_ip6(other));
        let (ip4, ip6) = (node.ip4(), node.ip6());
        node.namespace.ip(&format!(
            "link set wire up\nlink set ctl up\n\
                 addr add {ip4}/32 dev wire\naddr add {ip6}/128 dev wire nodad\naddr add {ip6}/128 dev ctl nodad\n\
                 route add {via4} dev wire src {ip4}\nroute add {via6} dev wire src {ip6}\n\
                 route add {CONTROL_IP4} dev ctl src {ip4}\nroute add {CONTROL_IP6} dev ctl src {ip6}\n\
                 route add 198.18.{other}.0/24 via {via4} dev wire src {ip4}\n\
                 route add fd00:c01e:{other}::/64 via {via6} dev wire src {ip6}"
        ))?;
        control.ip(&format!(
            "link set node{n} up\naddr add {CONTROL_IP4}/32 dev node{n}\naddr add {CONTROL_IP6}/128 dev node{n} nodad\n\
                 route add {ip4} dev node{n} src {CONTROL_IP4}\nroute add {ip6} dev node{n} src {CONTROL_IP6}\n\
                 route add 198.18.{n}.0/24 via {ip4} dev node{n} src {CONTROL_IP4}\n\
                 route add fd00:c01e:{n}::/64 via {ip6} dev node{n} src {CONTROL_IP6}"
        ))?;
    }
    Ok(())
}

/// Links a pod to its node, as the CNI plugin `ptp` does: no bridge, one route each way.
pub(crate) fn connect_pod(pod: &Pod, node: &Node) -> Result<()> {
    let (n, link) = (node.number, format!("p{}", pod.0.number));
    let (ip4, ip6) = (pod.ip4(), pod.ip6());
    node.namespace.ip(&format!(
        "link add {link} type veth peer name eth0 netns {}",
        pod.netns().name()
    ))?;
    node.namespace.ip(&format!(
        "link set {link} up\naddr add 198.18.{n}.1/32 dev {link}\naddr add fe80::1/64 dev {link} nodad\n\
         route add {ip4} dev {link} src 198.18.{n}.1\nroute add {ip6} dev {link} src {}",
        node.ip6()
    ))?;
    pod.netns().ip(&format!(
        "link set eth0 up\naddr add {ip4}/32 dev eth0\naddr add {ip6}/128 dev eth0 nodad\n\
         route add 198.18.{n}.1 dev eth0 scope link\nroute add default via 198.18.{n}.1 dev eth0 src {ip4}\n\
         route add ::/0 via fe80::1 dev eth0 src {ip6}"
    ))
}
