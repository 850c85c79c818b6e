//! A pod under capture, and the world outside it.

use super::{
    node::{self, Node},
    sock::{self, accept, listen, stream},
    space::Space,
};
use culvert_agent::kernel::{Kernel, PodCapture, PodListeners};
use culvert_net::{
    dns,
    hold::{self, SynTap},
};
use culvert_objects::Hold as Held;
use socket2::Socket;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
};

pub(crate) const POD4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 7, 1));
pub(crate) const PEER4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 7, 2));
pub(crate) const POD6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc01e, 7, 0, 0, 0, 0, 1));
pub(crate) const PEER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc01e, 7, 0, 0, 0, 0, 2));

/// A node with one pod, joined to a namespace that is not in the mesh.
pub(crate) struct World {
    pub(crate) pod: Space,
    pub(crate) peer: Space,
    pub(crate) listeners: Option<Listeners>,
    /// Which connections the pod wants held.
    pub(crate) held: Held,
    /// Whether its links are guarded.
    pub(crate) guarded: bool,
    pub(crate) kernel: Kernel,
    // Last, so that it is dropped last.
    pub(crate) node: Node,
}

/// What an agent opens for the proxy inside a pod.
pub(crate) struct Listeners {
    pub(crate) outbound4: Socket,
    pub(crate) outbound6: Socket,
    pub(crate) plaintext: Socket,
    pub(crate) hbone: Socket,
    /// Of a proxy that can hold connections.
    pub(crate) hold: Option<Hold>,
    /// Of a proxy that answers DNS queries.
    pub(crate) dns: Option<[OwnedFd; dns::SLOTS]>,
}

/// What it takes to hold connections.
pub(crate) struct Hold {
    pub(crate) silent: OwnedFd,
    pub(crate) taps: [SynTap; 2],
}

impl World {
    /// Nothing enrolled yet; the listeners are there, made by the agent.
    pub(crate) fn new(change: impl FnOnce(&mut Node)) -> Self {
        let mut node = Node::new();
        change(&mut node);
        let kernel = node.open();
        let (pod, peer) = (Space::new(), Space::new());
        pod.join(&[POD4, POD6], &peer, &[PEER4, PEER6]);
        let listeners = Some(Listeners::open(&pod));
        node.enter(node::PODS);
        Self {
            pod,
            peer,
            listeners,
            held: Held::None,
            guarded: false,
            kernel,
            node,
        }
    }

    /// Lets the kernel side look for the other end of the pod's link where that is.
    pub(crate) fn see_node(&mut self) {
        self.node.config.node_network = self.peer.path();
        restart(self);
    }

    /// With the pod enrolled both ways.
    pub(crate) fn enrolled() -> Self {
        let mut world = Self::new(|_| {});
        world.enrol(true, true);
        world
    }

    /// With a proxy that can hold connections, and a pod that wants these held.
    pub(crate) fn holding(held: Held) -> Self {
        let mut world = Self::new(|_| {});
        world.node.enter("agent");
        let hold = world.pod.run(|| Hold {
            silent: hold::silent_listener().expect("a silent listener"),
            taps: [POD4, POD6].map(|address| SynTap::open(address).expect("a tap")),
        });
        world.node.enter(node::PODS);
        world.held = held;
        world.listeners.as_mut().expect("not closed").hold = Some(hold);
        world.enrol(true, true);
        world
    }

    /// With a proxy that answers DNS queries, and serves.
    pub(crate) fn asking() -> Self {
        let mut world = Self::new(|_| {});
        world.node.enter("agent");
        let sockets = world.pod.run(|| dns::listeners().expect("sockets for DNS"));
        world.node.enter(node::PODS);
        world.listeners.as_mut().expect("not closed").dns = Some(sockets);
        world
            .kernel
            .set_serving(culvert_abi::Serving::UNTIL_TOLD)
            .expect("say that a proxy serves");
        world.enrol(true, true);
        world
    }

    pub(crate) fn enrol(&mut self, outbound: bool, inbound: bool) {
        let cookie = self.pod.cookie();
        let listeners = self.listeners.as_ref().expect("not closed");
        let sockets = [listeners.outbound4.as_fd(), listeners.outbound6.as_fd()];
        let listeners = PodListeners {
            outbound: &sockets,
            inbound_plaintext: listeners.plaintext.as_fd(),
            inbound_hbone: listeners.hbone.as_fd(),
            hold: listeners.hold.as_ref().map(|hold| hold.silent.as_fd()),
            dns: listeners
                .dns
                .as_ref()
                .map(|sockets| sockets.each_ref().map(AsFd::as_fd)),
        };
        let capture = PodCapture {
            name: "shop/pod",
            cookie,
            netns: self.pod.as_fd(),
            addresses: &[POD4, POD6],
            listeners: Some(listeners),
            outbound,
            inbound,
            hold: &self.held,
            fallback: false,
            dns: listeners.dns.is_some(),
            guard: self.guarded,
        };
        self.kernel.enrol(&capture).expect("enrol");
    }

    /// Takes a captured connection as the proxy does: the socket, and what it says of its original destination.
    pub(crate) fn take(&self, v6: bool) -> (Socket, SocketAddr) {
        let listeners = self.listeners.as_ref().expect("not closed");
        let listener = if v6 { &listeners.outbound6 } else { &listeners.outbound4 };
        let (socket, _) = accept(listener);
        let destination = self
            .node
            .as_proxy(|| sock::original_destination(&socket, v6))
            .expect("original destination");
        (socket, destination)
    }

    /// A listener of an application in the pod, or outside.
    pub(crate) fn serve(&self, at: &Space, address: SocketAddr) -> Socket {
        at.run(move || listen(address, None))
    }

    pub(crate) fn count(&self, hook: &str, outcome: &str) -> u64 {
        let counters = self.kernel.counters().expect("counters");
        let found = counters.into_iter().find(|(h, o, _)| (*h, *o) == (hook, outcome));
        found.unwrap_or_else(|| panic!("no counter {hook} {outcome}")).2
    }

    pub(crate) fn open_flows(&self) -> u64 {
        let maps = self.kernel.occupancy().expect("occupancy");
        maps.into_iter()
            .find(|(name, ..)| *name == "flows")
            .expect("a map of flows")
            .1
    }
}

impl Listeners {
    pub(crate) fn open(pod: &Space) -> Self {
        pod.run(|| Self {
            outbound4: listen(SocketAddr::new(POD4, 15001), None),
            outbound6: listen(SocketAddr::new(POD6, 15001), None),
            plaintext: listen("[::]:15006".parse().expect("an address"), None),
            hbone: listen("[::]:15008".parse().expect("an address"), None),
            hold: None,
            dns: None,
        })
    }
}

/// From the pod to the world outside.
pub(crate) fn dial(pod: &Space) -> io::Result<Socket> {
    pod.run(|| {
        let socket = stream(false, None);
        socket.connect(&SocketAddr::new(PEER4, 80).into()).map(|()| socket)
    })
}

/// What another process would find.
pub(crate) fn restart(world: &mut World) {
    world.node.enter("agent");
    let old = std::mem::replace(&mut world.kernel, world.node.open());
    drop(old);
    world.node.enter(node::PODS);
}

/// From outside into the pod; who answers there.
pub(crate) fn reach(world: &World) -> io::Result<(Socket, &'static str)> {
    let application = world.serve(&world.pod, SocketAddr::new(POD4, 80));
    let client = world.peer.run(|| {
        let socket = stream(false, None);
        socket.connect(&SocketAddr::new(POD4, 80).into()).map(|()| socket)
    })?;
    application.set_nonblocking(true)?;
    Ok((
        client,
        if application.accept().is_ok() {
            "application"
        } else {
            "proxy"
        },
    ))
}
