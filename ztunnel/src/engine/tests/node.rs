//! A node on loopback: loops with real sockets, real certificates, and a stock that a thread fills as the monitor would.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use culvert_control::Ask;
use culvert_identity::{Credentials, SpiffeId, TrustBundle};
use culvert_net::sockopt::tcp_stream_socket;
use culvert_proto::workload::{Address, TunnelProtocol, Workload as Resource, address::Type};
use culvert_state::{MeshChange, Pod, Store};
use culvert_telemetry::tcp::TcpSettings;
use culvert_tunnel::budget::HeldBytes;
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustc_hash::FxHashMap;

use super::super::{EngineConfig, LoopHandle, config::KernelCalls, socket, spawn};
use crate::{
    seam::{ListenerRole, LoopMessage, Shared},
    telemetry::Telemetry,
};

pub(super) const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/front";
pub(super) const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/cart";
pub(super) const OTHER: &str = "spiffe://cluster.local/ns/shop/sa/other";

/// A limit for whatever a test waits for.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Addresses of their own for each test, the client's and the server's. Peers' tunnel ports are always 15008, so tests
/// that run at the same time need different ones.
pub(super) fn addresses() -> (IpAddr, IpAddr) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = std::process::id();
    let test = NEXT.fetch_add(1, Ordering::Relaxed) as u8;
    let (x, y) = (process as u8, (process >> 8) as u8 ^ test);
    (Ipv4Addr::new(198, 18, x, y).into(), Ipv4Addr::new(198, 19, x, y).into())
}

/// The loopback address in whose place the mesh, which knows no loopback addresses, has this one.
pub(super) fn local(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let [_, b, c, d] = v4.octets();
            Ipv4Addr::new(127, b, c, d).into()
        }
        IpAddr::V6(_) => address,
    }
}

/// An application's listening socket, and its address in the mesh.
pub(super) fn application(address: IpAddr) -> (TcpListener, SocketAddr) {
    let listener = listen(local(address), 0);
    let port = listener.local_addr().unwrap().port();
    (listener, SocketAddr::new(address, port))
}

/// Where connections to a listening socket were going before they were captured, in place of the kernel's memory.
static CAPTURED: LazyLock<Mutex<HashMap<SocketAddr, SocketAddr>>> = LazyLock::new(Mutex::default);

fn captured(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let own = socket::local_address(fd)?;
    CAPTURED
        .lock()
        .unwrap()
        .get(&own)
        .copied()
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// A certificate authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    bundle: TrustBundle,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        Self {
            bundle: TrustBundle::from_pem(root.pem().as_bytes()).unwrap(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(super) fn credentials(&self, identity: &str) -> Arc<Credentials> {
        self.credentials_for(identity, Duration::from_secs(24 * 3600), &self.bundle)
    }

    /// With other roots to check peers against.
    pub(super) fn credentials_that_trust(&self, identity: &str, other: &Self) -> Arc<Credentials> {
        self.credentials_for(identity, Duration::from_secs(24 * 3600), &other.bundle)
    }

    /// That expire soon.
    pub(super) fn short_credentials(&self, identity: &str, life: Duration) -> Arc<Credentials> {
        self.credentials_for(identity, life, &self.bundle)
    }

    fn credentials_for(&self, identity: &str, life: Duration, bundle: &TrustBundle) -> Arc<Credentials> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(identity.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = time::OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now - Duration::from_secs(60), now + life);
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Arc::new(Credentials::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes(), bundle).unwrap())
    }
}

/// What the mesh knows, as control would have published it.
pub(super) struct World {
    store: Store,
}

impl World {
    pub(super) fn new(client: IpAddr, server: IpAddr) -> Self {
        let mut store = Store::new("", "cluster.local", false);
        store.set_synced();
        let mut world = Self { store };
        world.put("front", client, "front", true);
        world.put("cart", server, "cart", true);
        world
    }

    pub(super) fn put(&mut self, name: &str, address: IpAddr, service_account: &str, hbone: bool) {
        self.put_bound(name, address, service_account, hbone, &[]);
    }

    /// As `put`, bound by the policies with these names.
    pub(super) fn put_bound(
        &mut self,
        name: &str,
        address: IpAddr,
        service_account: &str,
        hbone: bool,
        policies: &[&str],
    ) {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let resource = Resource {
            uid: format!("Kubernetes//Pod/shop/{name}"),
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            addresses: vec![octets],
            tunnel_protocol: if hbone {
                TunnelProtocol::Hbone
            } else {
                TunnelProtocol::None
            }
            .into(),
            trust_domain: "cluster.local".to_owned(),
            service_account: service_account.to_owned(),
            authorization_policies: policies.iter().map(|name| (*name).to_owned()).collect(),
            ..Resource::default()
        };
        let uid = resource.uid.clone();
        let bytes = Address {
            r#type: Some(Type::Workload(resource)),
        }
        .encode_to_vec();
        self.store.put_address(&uid, &bytes).unwrap();
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.store.remove_address(&format!("Kubernetes//Pod/shop/{name}"));
    }

    pub(super) fn put_policy(&mut self, policy: &culvert_proto::security::Authorization) {
        let name = format!("{}/{}", policy.namespace, policy.name);
        self.store.put_policy(&name, &policy.encode_to_vec()).unwrap();
    }

    pub(super) fn publish(&mut self, nodes: &[&Node]) {
        let mesh = self.store.snapshot();
        // A node may have been left out before.
        let change = Arc::new(MeshChange {
            everything: true,
            ..MeshChange::default()
        });
        for node in nodes {
            node.shared.mesh.store(Arc::clone(&mesh));
            node.send(|| LoopMessage::MeshChanged(Arc::clone(&change)));
        }
    }
}

/// One proxy.
pub(super) struct Node {
    pub(super) shared: Arc<Shared>,
    pub(super) loops: Arc<Vec<LoopHandle>>,
    pub(super) asks: Mutex<tokio::sync::mpsc::UnboundedReceiver<Ask>>,
    pub(super) held: Arc<HeldBytes>,
}

impl Node {
    pub(super) fn new(world: &mut World) -> Self {
        Self::with(world, |_| {})
    }

    pub(super) fn with(world: &mut World, change: impl FnOnce(&mut EngineConfig)) -> Self {
        let (asks, asked) = tokio::sync::mpsc::unbounded_channel();
        let (socket_requests, mut requested) = tokio::sync::mpsc::unbounded_channel();
        let (datagram_requests, _) = tokio::sync::mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            mesh: Arc::new(ArcSwap::new(world.store.snapshot())),
            credentials: Arc::default(),
            asks,
            socket_requests,
            datagram_requests,
            names: Default::default(),
            same_node: crate::seam::SameNodeTargets::new(tokio::sync::mpsc::unbounded_channel().0),
            telemetry: Telemetry::new(TcpSettings::default()),
        });
        let mut config = EngineConfig {
            calls: KernelCalls {
                original_destination: |fd, _| captured(fd),
                plaintext_destination: captured,
                connect: |fd, to| socket::connect(fd, SocketAddr::new(local(to.ip()), to.port())),
                set_client_address: |_, _| Ok(()),
                resolver: |_| Err(io::ErrorKind::NotFound.into()),
            },
            ..EngineConfig::default()
        };
        change(&mut config);
        let held = Arc::clone(&config.held);
        let loops = Arc::new(spawn(&shared, config, 1).unwrap());
        let monitor = Arc::downgrade(&loops);
        std::thread::spawn(move || {
            while let Some((uid, count)) = requested.blocking_recv() {
                let Some(loops) = monitor.upgrade() else { return };
                let sockets: Vec<OwnedFd> = (0..count).map(|_| tcp_stream_socket().unwrap()).collect();
                loops[0].send(LoopMessage::Sockets(uid, sockets));
            }
        });
        Self {
            shared,
            loops,
            asks: Mutex::new(asked),
            held,
        }
    }

    pub(super) fn send(&self, message: impl Fn() -> LoopMessage) {
        for each in self.loops.iter() {
            each.send(message());
        }
    }

    pub(super) fn certify(&self, credentials: &Arc<Credentials>) {
        let mut map: FxHashMap<SpiffeId, Arc<Credentials>> = (**self.shared.credentials.load()).clone();
        map.insert(credentials.identity().clone(), Arc::clone(credentials));
        self.shared.credentials.store(Arc::new(map));
        self.send(|| LoopMessage::CertificatesChanged);
    }

    /// Adds a pod with one listener of a role.
    pub(super) fn add_pod(
        &self,
        name: &str,
        identity: &str,
        address: IpAddr,
        role: ListenerRole,
        port: u16,
    ) -> SocketAddr {
        let listener = listen(local(address), port);
        let bound = listener.local_addr().unwrap();
        self.put_pod(name, identity, address, role, listener);
        bound
    }

    /// Replaces a pod by one with another address, whose tunnel port is still here.
    pub(super) fn move_pod(&self, name: &str, identity: &str, address: IpAddr, here: IpAddr) {
        self.remove_pod(name);
        wait_until("the port is free", || is_free(SocketAddr::new(here, 15008)));
        let listener = listen(here, 15008);
        self.put_pod(name, identity, address, ListenerRole::InboundHbone, listener);
    }

    fn put_pod(&self, name: &str, identity: &str, address: IpAddr, role: ListenerRole, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let pod = Arc::new(Pod {
            uid: name.into(),
            name: name.into(),
            namespace: "shop".into(),
            identity: SpiffeId::parse(identity).unwrap(),
            addresses: vec![address],
            node: "node-a".into(),
        });
        self.loops[0].send(LoopMessage::PodAdded(pod, vec![(role, listener.into())]));
    }

    pub(super) fn remove_pod(&self, name: &str) {
        self.send(|| LoopMessage::PodRemoved(name.into()));
    }

    pub(super) fn wait_until_drained(&self) {
        wait_until("the loop has ended", || self.loops.iter().all(LoopHandle::is_finished));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.send(|| LoopMessage::Drain);
    }
}

/// Says where connections to a listening socket were going.
pub(super) fn capture(listener: SocketAddr, destination: SocketAddr) {
    CAPTURED.lock().unwrap().insert(listener, destination);
}

/// As `TcpListener::bind`, but with room for all the connections that tests make at once.
fn listen(address: IpAddr, port: u16) -> TcpListener {
    try_listen(SocketAddr::new(address, port)).unwrap()
}

/// Whether nobody listens here. Connecting would tell too, but leave a connection behind.
pub(super) fn is_free(address: SocketAddr) -> bool {
    try_listen(address).is_ok()
}

fn try_listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // With this, only a listening socket is in the way, not what it accepted.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

pub(super) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A client node and a server node, and what is between them: the usual scene.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) authority: Authority,
    pub(super) client: Node,
    pub(super) server: Node,
    pub(super) client_address: IpAddr,
    pub(super) server_address: IpAddr,
    /// The application.
    pub(super) app: TcpListener,
    /// Where the mesh has it.
    pub(super) app_address: SocketAddr,
    /// Where applications on the client's node connect to, to reach it.
    pub(super) front: SocketAddr,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::with_server(|_| {})
    }

    pub(super) fn without_certificates() -> Self {
        Self::with(|_| {})
    }

    /// With certificates, and a server's node that behaves otherwise.
    pub(super) fn with_server(change: impl FnOnce(&mut EngineConfig)) -> Self {
        let scene = Self::with_each(|_| {}, change);
        scene.client.certify(&scene.authority.credentials(CLIENT));
        scene.server.certify(&scene.authority.credentials(SERVER));
        scene
    }

    /// Tunnels through sockets that take little at a time.
    pub(super) fn with_small_buffers() -> Self {
        let scene = Self::with(|config| {
            config.calls.connect = |fd, to| {
                let socket = socket2::SockRef::from(&fd);
                if to.port() == 15008 {
                    socket.set_send_buffer_size(8 << 10)?;
                    socket.set_recv_buffer_size(8 << 10)?;
                }
                socket::connect(fd, SocketAddr::new(local(to.ip()), to.port()))
            };
        });
        scene.client.certify(&scene.authority.credentials(CLIENT));
        scene.server.certify(&scene.authority.credentials(SERVER));
        scene
    }

    /// A scene whose nodes behave in another way.
    pub(super) fn with(change: impl Fn(&mut EngineConfig)) -> Self {
        Self::with_each(&change, &change)
    }

    fn with_each(of_client: impl FnOnce(&mut EngineConfig), of_server: impl FnOnce(&mut EngineConfig)) -> Self {
        let (client_address, server_address) = addresses();
        let mut world = World::new(client_address, server_address);
        let client = Node::with(&mut world, of_client);
        let server = Node::with(&mut world, of_server);
        let (app, app_address) = application(server_address);
        server.add_pod("cart", SERVER, server_address, ListenerRole::InboundHbone, 15008);
        let front = client.add_pod("front", CLIENT, client_address, ListenerRole::Outbound, 0);
        capture(front, app_address);
        Self {
            world,
            authority: Authority::new(),
            client,
            server,
            client_address,
            server_address,
            app,
            app_address,
            front,
        }
    }
}
