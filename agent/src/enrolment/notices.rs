//! What is worth knowing of a pod that is in the mesh: traffic of it that is not, and what stands in the mesh's way.

use std::{fs, io, net::IpAddr};

use culvert_abi::{FORWARDING_PORT, INBOUND_HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT};
use culvert_net::{
    NetError, Netns,
    interfaces::{self, InterfaceAddress},
};

/// Interfaces that modules of the kernel put into every network namespace, without use unless somebody configures them.
const FALLBACK: [&str; 10] = [
    "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0", "teql0",
];

/// A pod's network namespace, as far as it decides what the mesh can do for the pod.
#[derive(Debug, Default)]
pub(super) struct Inspection {
    addresses: Vec<InterfaceAddress>,
    interfaces: Vec<String>,
    /// It passes on packets that are for somebody else.
    forwards: bool,
    /// The mesh's ports are not reserved.
    unreserved: bool,
    /// Something listens on [`FORWARDING_PORT`].
    is_source_taken: bool,
}

impl Inspection {
    /// Looks into the namespace.
    ///
    /// # Errors
    /// It cannot be entered or read.
    pub(super) fn of(netns: &Netns) -> Result<Self, NetError> {
        netns.run(look)?.map_err(NetError::Examine)
    }

    /// What there is to say to somebody who operates a mesh in which the pod has these addresses.
    pub(super) fn notices(&self, known: &[IpAddr]) -> Vec<String> {
        let others = self
            .addresses
            .iter()
            .filter(|one| is_of_concern(one) && !known.contains(&one.address));
        let others: Vec<String> = others.map(|one| format!("{} ({})", one.address, one.name)).collect();
        let mut notices = Vec::new();
        if !others.is_empty() {
            notices.push(format!(
                "it has addresses that are not its addresses in the mesh: {}. What arrives there reaches its applications \
                 in plaintext and past every policy, as without a mesh",
                others.join(", ")
            ));
        }
        let links = self.other_links(known);
        if self.forwards && !links.is_empty() {
            notices.push(format!(
                "it forwards packets between its interfaces (besides that of the mesh: {}). What it forwards, for \
                 containers or virtual machines inside of it, is not encrypted and meets no policy, and ports that it \
                 translates for them cannot be reached through the mesh",
                links.join(", ")
            ));
        }
        if self.is_source_taken {
            notices.push(format!(
                "an application of it listens on port {FORWARDING_PORT}, from which the mesh connects to applications: \
                 each connection that it receives now takes one of its ephemeral ports. The mesh's ports are \
                 {OUTBOUND_PORT}, {FORWARDING_PORT}, {INBOUND_PLAINTEXT_PORT} and {INBOUND_HBONE_PORT}"
            ));
        }
        if self.unreserved {
            notices.push(
                "somebody has changed its net.ipv4.ip_local_reserved_ports: a connection may get a port of the mesh's as \
                 its own, and then fails"
                    .to_owned(),
            );
        }
        notices
    }

    /// Interfaces other than those that have the pod's addresses.
    fn other_links(&self, known: &[IpAddr]) -> Vec<&str> {
        let is_ours = |name: &str| {
            self.addresses
                .iter()
                .any(|one| one.name == name && (one.is_loopback || known.contains(&one.address)))
        };
        let names = self.interfaces.iter().map(String::as_str);
        names
            .filter(|name| !is_ours(name) && !FALLBACK.contains(name) && *name != "lo")
            .collect()
    }
}

/// Whether others can reach it.
fn is_of_concern(one: &InterfaceAddress) -> bool {
    !one.is_loopback
        && match one.address {
            IpAddr::V4(v4) => !v4.is_loopback(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        }
}

/// In the namespace that this thread is in.
fn look() -> io::Result<Inspection> {
    let is_on = |path: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == "1");
    Ok(Inspection {
        addresses: interfaces::addresses()?,
        interfaces: names(&fs::read_to_string("/proc/thread-self/net/dev")?),
        forwards: is_on("/proc/sys/net/ipv4/ip_forward") || is_on("/proc/sys/net/ipv6/conf/all/forwarding"),
        unreserved: !crate::handover::ports::is_prepared()?,
        is_source_taken: ["tcp", "tcp6"].iter().any(|kind| {
            fs::read_to_string(format!("/proc/thread-self/net/{kind}"))
                .is_ok_and(|text| listens(&text, FORWARDING_PORT))
        }),
    })
}

/// Interfaces in `/proc/net/dev`: two lines of heads, then a name, a colon and numbers in each.
fn names(text: &str) -> Vec<String> {
    let name = |line: &str| Some(line.split_once(':')?.0.trim().to_owned());
    text.lines().skip(2).filter_map(name).collect()
}

/// Whether `/proc/net/tcp` or `tcp6` has a listening socket on this port.
fn listens(text: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let is_one = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next().and_then(|local| local.rsplit_once(':'));
        let is_port = local.is_some_and(|(_, own)| u16::from_str_radix(own, 16) == Ok(port));
        is_port && words.nth(1) == Some(LISTEN)
    };
    text.lines().skip(1).any(is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str, address: &str) -> InterfaceAddress {
        InterfaceAddress {
            name: name.to_owned(),
            index: 1,
            address: address.parse().unwrap(),
            is_loopback: name == "lo",
        }
    }

    fn pod(addresses: &[(&str, &str)], interfaces: &[&str]) -> Inspection {
        Inspection {
            addresses: addresses.iter().map(|(name, address)| at(name, address)).collect(),
            interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
            forwards: true,
            ..Inspection::default()
        }
    }

    #[test]
    fn an_ordinary_pod_is_not_worth_a_word() {
        let known: [IpAddr; 1] = ["198.18.7.1".parse().unwrap()];
        // Pods forward on most nodes: they begin with the node's settings.
        let ordinary = pod(
            &[
                ("lo", "127.0.0.1"),
                ("lo", "::1"),
                ("eth0", "198.18.7.1"),
                ("eth0", "fe80::1"),
            ],
            &["lo", "eth0", "tunl0"],
        );
        assert_eq!(ordinary.notices(&known), [""; 0]);
    }

    #[test]
    fn what_the_mesh_does_not_carry_is_said() {
        let known: [IpAddr; 1] = ["198.18.7.1".parse().unwrap()];
        let second = pod(
            &[("eth0", "198.18.7.1"), ("net1", "192.0.2.1")],
            &["lo", "eth0", "net1"],
        );
        let said = second.notices(&known).join("\n");
        assert!(
            said.contains("192.0.2.1 (net1)") && said.contains("forwards packets"),
            "{said}"
        );
        // A virtual machine's link has no address of its own.
        let machine = pod(&[("eth0", "198.18.7.1")], &["lo", "eth0", "tap0"]);
        assert!(machine.notices(&known).join("\n").contains("tap0"));
        let still = Inspection {
            forwards: false,
            ..pod(&[("eth0", "198.18.7.1")], &["lo", "eth0", "tap0"])
        };
        assert_eq!(still.notices(&known), [""; 0]);
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue\n   \
                     0: 00000000:3A9A 00000000:0000 0A 00000000:00000000\n   \
                     1: 0100007F:3A9E 0100007F:9C40 01 00000000:00000000\n";
        assert!(listens(table, 15002));
        assert!(!listens(table, 15006), "a connection is no listener");
        let devices = "Inter-|   Receive\n face |bytes\n    lo: 0 0\n  eth0: 1 2\n";
        assert_eq!(names(devices), ["lo", "eth0"]);
    }
}
