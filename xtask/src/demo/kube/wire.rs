//! The shop's part of what the link carried.
//!
//! Everything between a node and the others passes the link, also what Kubernetes and Culvert say to each other, which is
//! no business of the mesh. So what counts is whatever has a pod of the shop at one end; questions to the DNS, which the
//! mesh does not carry, are counted by themselves.

use culvert_lab::Seen;
use std::net::{IpAddr, SocketAddr};

const DNS: u16 = 53;

/// What of `seen` has one of these pods at one end, and the bytes of DNS among it, which are left out.
pub(super) fn of_pods(mut seen: Seen, pods: &[IpAddr]) -> (Seen, u64) {
    let concerns = |end: &SocketAddr| pods.contains(&end.ip().to_canonical());
    let mut dns = 0;
    seen.clear_flows.retain(|(from, to), bytes| {
        let concerned = concerns(from) || concerns(to);
        let asks_names = from.port() == DNS || to.port() == DNS;
        if concerned && asks_names {
            dns += *bytes;
        }
        concerned && !asks_names
    });
    seen.clear_bytes = seen.clear_flows.values().sum();
    (seen, dns)
}

#[cfg(test)]
mod tests {
    use super::of_pods;
    use culvert_lab::Seen;

    #[test]
    fn only_the_pods_traffic_counts_and_dns_is_apart() {
        let flow = |from: &str, to: &str| (from.parse().unwrap(), to.parse().unwrap());
        let seen = Seen {
            clear_bytes: 1111,
            clear_flows: [
                (flow("198.19.1.5:40000", "198.19.2.5:9080"), 1),
                (flow("198.19.2.5:9080", "198.19.1.5:40000"), 10),
                (flow("198.19.2.2:53", "198.19.1.5:40000"), 100),
                (flow("198.18.0.11:40000", "198.18.0.1:6443"), 1000),
            ]
            .into(),
            ..Seen::default()
        };
        let (shop, dns) = of_pods(seen, &["198.19.1.5".parse().unwrap()]);
        assert_eq!((shop.clear_bytes, dns, shop.clear_flows.len()), (11, 100, 2));
    }
}
