//! A tap on the link between the nodes.

use crate::World;
use culvert_lab::{Capture, Namespace, Seen};
use std::{
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

/// What passes between a node and all others, seen at the bridge between them.
#[derive(Debug)]
pub struct Wire {
    capture: Capture,
}

/// What passed between some pods.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// Payload in clear, from or to one of the pods, with whom and how much.
    pub clear: Vec<(SocketAddr, SocketAddr, u64)>,
    /// Connections opened in clear, from or to one of the pods.
    pub opened_in_clear: Vec<(SystemTime, SocketAddr, SocketAddr)>,
}

impl Traffic {
    /// Bytes of payload in clear.
    pub fn clear_bytes(&self) -> u64 {
        self.clear.iter().map(|(_, _, bytes)| bytes).sum()
    }

    /// When the last connection was opened in clear.
    pub fn last_opened_in_clear(&self) -> Option<SystemTime> {
        self.opened_in_clear.iter().map(|(at, _, _)| *at).max()
    }
}

impl Wire {
    /// Taps the link of a node.
    pub fn tap(world: &World, node: &str) -> Self {
        let netns = Namespace::open(&world.cluster().netns()).unwrap();
        let capture = Capture::start(&netns, world.node(node).link(), &["culvert-probe-answer"]);
        Self {
            capture: capture.unwrap_or_else(|error| panic!("{error:#}")),
        }
    }

    /// All that was seen since the beginning or the last [`take`](Self::take). Its `encrypted_bytes` are those in the tunnel.
    pub fn seen(&self) -> Seen {
        self.capture.seen()
    }

    /// As [`seen`](Self::seen), and begins to count again.
    pub fn take(&self) -> Seen {
        self.capture.take()
    }

    /// What of `seen` had one of these addresses on one side and a pod's on the other.
    ///
    /// A pod's traffic with the control plane and with its own node's kubelet is no business of the mesh; names are asked for
    /// over UDP, which is not captured.
    pub fn between_pods(seen: &Seen, pods: &[IpAddr]) -> Traffic {
        let concerns = |one: &SocketAddr, other: &SocketAddr| {
            let is_dns = one.port() == 53 || other.port() == 53;
            let named = pods.contains(&one.ip()) || pods.contains(&other.ip());
            named && !is_dns && is_pod(one.ip()) && is_pod(other.ip())
        };
        let clear = seen.clear_flows.iter().filter(|((one, other), _)| concerns(one, other));
        let opened = seen.opened_in_clear.iter();
        Traffic {
            clear: clear.map(|((one, other), bytes)| (*one, *other, *bytes)).collect(),
            opened_in_clear: opened.filter(|(_, one, other)| concerns(one, other)).copied().collect(),
        }
    }
}

/// Whether an address is a pod's: of 198.19.0.0/16, or of the prefix of pods in IPv6.
fn is_pod(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets()[..2] == [198, 19],
        IpAddr::V6(address) => address.segments()[..3] == [0xfd00, 0xc01e, 1],
    }
}
