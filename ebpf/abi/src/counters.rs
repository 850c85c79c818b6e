//! What every hook counts, per CPU, by outcome. Sockets outside enrolled pods are not counted: they must not cost.

macro_rules! counters {
    ($($name:ident => $hook:literal, $outcome:literal, $doc:literal;)*) => {
        /// An index into the map `COUNTERS`.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter {
            $(#[doc = $doc] $name,)*
        }

        /// Hook and outcome of each [`Counter`], in its order.
        pub const COUNTERS: &[(&str, &str)] = &[$(($hook, $outcome),)*];
    };
}

counters! {
    ConnectCaptured => "connect", "captured", "Rewritten to the outbound listener.";
    ConnectProxy => "connect", "proxy", "A proxy's own connection, left alone.";
    ConnectLoopback => "connect", "loopback", "To a loopback address, left alone.";
    ConnectOwn => "connect", "own_address", "To the pod's own address, left alone.";
    ConnectExcluded => "connect", "excluded", "To an excluded address or port, left alone.";
    ConnectLinkLocal => "connect", "link_local", "To an IPv6 link-local address, left alone.";
    ConnectDevice => "connect", "other_interface", "By a socket bound to an interface that has no address of the mesh, left alone.";
    ConnectFamily => "connect", "other_family", "Of a family of which the pod has no address in the mesh, left alone.";
    ConnectFallback => "connect", "fallback", "Left alone, because no proxy serves and the pod may go without one.";
    ConnectSameNode => "connect", "same_node", "Left alone: to a pod of this node, as the proxy has decided before.";
    ConnectSameNodeService => "connect", "same_node_service", "To a service, and turned to a pod of this node, as the proxy has decided before.";
    ConnectFull => "connect", "denied_full", "Denied: the map of flows is full.";
    ConnectShare => "connect", "denied_share", "Denied: the pod has its share of the map of flows.";
    ConnectNoMemory => "connect", "denied_memory", "Denied: the kernel had no memory for the socket's note.";
    ConnectNoAddress => "connect", "denied_family", "Denied: the pod's interface has an address of this family that the mesh does not know.";
    DnsCaptured => "dns", "captured", "A query, or a socket for queries, was turned to the proxy.";
    DnsProxy => "dns", "proxy", "A proxy's own query, left alone.";
    DnsLoopback => "dns", "loopback", "To a loopback address, left alone.";
    DnsOwn => "dns", "own_address", "To the pod's own address, left alone.";
    DnsExcluded => "dns", "excluded", "To an excluded address or port, left alone.";
    DnsLinkLocal => "dns", "link_local", "To an IPv6 link-local address, left alone.";
    DnsDevice => "dns", "other_interface", "By a socket bound to an interface that has no address of the mesh, left alone.";
    DnsSource => "dns", "other_source", "By a socket bound to an address that is not the pod's first of its family, left alone.";
    DnsFamily => "dns", "other_family", "Of a family of which the pod has no address in the mesh, left alone.";
    DnsNoProxy => "dns", "no_proxy", "Left alone, because no proxy serves.";
    DnsNoListener => "dns", "no_listener", "Left alone, because nobody holds the proxy's socket for it.";
    DnsSlots => "dns", "other_resolver", "Left alone, because the pod has asked three other resolvers before.";
    DnsFull => "dns", "full", "Left alone, because the map of resolvers is full.";
    DnsShown => "dns", "answer", "An application was shown the resolver that it asked, as where an answer comes from or as its peer.";
    DnsResolver => "dns", "resolver", "The proxy asked which resolver a socket's queries are meant for.";
    PeerCaptured => "getpeername", "destination", "An application was shown the destination that it asked for.";
    PeerForwarded => "getpeername", "client", "An application was shown the true client.";
    PeerFamily => "getpeername", "wrong_family", "The true client is IPv6 and the application's socket is IPv4.";
    PeerHidden => "getpeername", "hidden", "The client of a forwarded connection is not known: shown as the pod itself, never as loopback.";
    FlowOpened => "sock_ops", "opened", "A flow was noted when its SYN went out.";
    FlowFull => "sock_ops", "full", "A flow could not be noted: the map is full. The proxy will refuse it.";
    FlowAccepted => "sock_ops", "accepted", "A flow reached the socket that accepted it.";
    FlowMet => "sock_ops", "met", "A held connection was answered by the proxy: its far side is there.";
    FlowAbandoned => "sock_ops", "abandoned", "A flow's socket closed before the other side was established.";
    SameNodeOpened => "sock_ops", "same_node", "A connection past the proxy was noted when its SYN went out.";
    SameNodeUnsaid => "sock_ops", "same_node_unsaid", "A connection past the proxy has ended, and the ring in which the agent is told had no room: no log line, no metric.";
    SameNodeFull => "sock_ops", "same_node_full", "A connection past the proxy could not be noted: the other pod will not take it for one.";
    ListenerFound => "sock_ops", "listener", "A proxy listened inside a pod by itself.";
    OriginalAnswered => "getsockopt", "answered", "SO_ORIGINAL_DST was answered.";
    OriginalUnknown => "getsockopt", "unknown", "SO_ORIGINAL_DST on a socket that was not captured.";
    ClientSet => "setsockopt", "client", "A proxy named the client of a connection.";
    HeldClaimed => "setsockopt", "claimed", "The proxy took a held connection.";
    HeldUnknown => "setsockopt", "unclaimed", "The proxy asked for a connection that is not held, or that it has already.";
    ClientInvalid => "setsockopt", "invalid", "A client address that was too short, or on a socket that cannot hold it.";
    LookupOutbound => "sk_lookup", "outbound", "Steered to the outbound listener.";
    LookupHeld => "sk_lookup", "held", "A SYN of a held connection: not answered until the far side is known.";
    LookupNotHeld => "sk_lookup", "not_held", "To be held, but nobody is there who could: accepted first instead.";
    LookupLate => "sk_lookup", "denied_late", "Refused: the far side of a held connection is there, the application's socket no longer.";
    LookupHbone => "sk_lookup", "hbone", "Steered to the tunnel listener.";
    LookupPlaintext => "sk_lookup", "plaintext", "Steered to the plaintext listener.";
    LookupLocal => "sk_lookup", "local", "From the pod itself, left alone.";
    LookupNode => "sk_lookup", "node", "From a process of this node that is in no pod (a kubelet's probe), left alone.";
    LookupSameNode => "sk_lookup", "same_node", "From a pod of this node, as the proxy has decided before, left alone.";
    LookupExcluded => "sk_lookup", "excluded", "To an excluded port, left alone.";
    LookupFallback => "sk_lookup", "fallback", "Left alone, because no proxy serves and the pod may go without one.";
    LookupNoTunnel => "sk_lookup", "denied_tunnel", "Refused: to the tunnel, when no proxy serves and the pod may go without one.";
    LookupNoListener => "sk_lookup", "denied_listener", "Refused: no live listener to steer to.";
    LookupOther => "sk_lookup", "other_address", "To an address that is not the mesh's, left alone.";
    LookupUnknown => "sk_lookup", "denied_address", "Refused: to a link-local address, from elsewhere.";
    LookupSource => "sk_lookup", "denied_source", "Refused: from an address of the proxy's, with no client noted.";
    LookupReserved => "sk_lookup", "denied_reserved", "Refused: from outside to a port of the proxy's own.";
    LookupDns => "sk_lookup", "dns", "A datagram to the proxy's socket for DNS.";
    LookupStranger => "sk_lookup", "denied_dns", "Refused: a datagram from outside to the proxy's socket for DNS.";
    GuardStrict => "guard", "denied_strict", "Dropped on the pod's link: a new connection past the tunnel, to a strict port.";
    GuardHidden => "guard", "denied_hidden", "Dropped on a strict pod's link: a packet that may open a connection and does not show whether it does.";
    GuardUnknown => "guard", "denied_unknown", "Dropped on a pod's link: the guard was told nothing of the pod.";
    GuardNode => "guard", "node", "To a strict port, from a process of this node that is in no pod (a kubelet's probe), left alone.";
    GuardSameNode => "guard", "same_node", "To a strict port, from a pod of this node, as the proxy has decided before, left alone.";
    GuardExcluded => "guard", "excluded", "To a strict pod's excluded port, left alone.";
    LegSender => "legs", "joined", "An application's socket whose leg the kernel may carry.";
    LegNoRoom => "legs", "denied_room", "A leg stays TCP: the map of senders or of receivers is full, or takes no such socket.";
    LegSent => "legs", "redirected", "A piece of what an application sent went straight to the proxy's socket.";
    LegBytes => "legs", "redirected_bytes", "The bytes of these.";
    LegLate => "legs", "tcp_late", "A leg stays TCP: the proxy's socket was not there when the first byte was sent.";
    LegMixed => "legs", "tcp_mixed", "A leg stays TCP: a byte has gone by TCP, or the application has shut its side.";
    LegUnread => "legs", "tcp_unread", "A leg goes on by TCP: the proxy has not read what was sent.";
    LegAbove => "legs", "tcp_above", "A leg stays TCP: something sits above it, as TLS in the kernel.";
    LegGone => "legs", "tcp_gone", "A leg goes on by TCP: the proxy's socket is gone.";
}
