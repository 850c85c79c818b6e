use std::net::IpAddr;

use culvert_identity::SpiffeId;
use culvert_policy::istio::{Mode, Mtls};
use culvert_proto::{
    security::Scope,
    workload::{Address, GatewayAddress, NetworkAddress, TunnelProtocol, Workload, address::Type, gateway_address},
};
use culvert_state::Store;
use prost::Message as _;
use tokio::sync::mpsc::unbounded_channel;

use super::*;

mod services;

const CLIENT: &str = "198.18.0.1";
const SERVER: &str = "198.18.0.2";

fn pod(name: &str, address: &str) -> Arc<Pod> {
    Arc::new(Pod {
        uid: name.into(),
        name: name.into(),
        namespace: "shop".into(),
        identity: SpiffeId::new("cluster.local", "shop", name).unwrap(),
        addresses: vec![address.parse().unwrap()],
        node: "node1".into(),
    })
}

fn workload(name: &str, address: &str) -> Workload {
    let address: IpAddr = address.parse().unwrap();
    Workload {
        uid: format!("Kubernetes//Pod/shop/{name}"),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        addresses: vec![bytes(address)],
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        trust_domain: "cluster.local".to_owned(),
        service_account: name.to_owned(),
        ..Workload::default()
    }
}

fn put(store: &mut Store, workload: Workload) {
    let uid = workload.uid.clone();
    let bytes = Address {
        r#type: Some(Type::Workload(workload)),
    };
    store.put_address(&uid, &bytes.encode_to_vec()).unwrap();
}

struct World {
    store: Store,
    same_node: SameNode,
    targets: SameNodeTargets,
    now: Instant,
}

impl World {
    /// In which the pair is proposed, and may be.
    fn new() -> Self {
        let mut store = Store::new("", "cluster.local", false);
        store.set_synced();
        put(&mut store, workload("front", CLIENT));
        put(&mut store, workload("cart", SERVER));
        let mut same_node = SameNode::default();
        same_node.add(pod("front", CLIENT));
        same_node.add(pod("cart", SERVER));
        same_node.want(vec!["cart".to_owned()]);
        same_node.propose(proposal());
        Self {
            store,
            same_node,
            targets: SameNodeTargets::new(unbounded_channel().0),
            now: Instant::now(),
        }
    }

    fn news(&mut self) -> Vec<zds::SameNode> {
        self.same_node.news(&self.store.snapshot(), &self.targets, self.now)
    }
}

fn pair() -> Together {
    Together {
        client: "front".into(),
        source: CLIENT.parse().unwrap(),
        destination: SocketAddr::new(SERVER.parse().unwrap(), 80),
    }
}

fn proposal() -> Proposal {
    Proposal {
        pair: pair(),
        service: None,
    }
}

fn said(open_only: Option<bool>) -> Vec<zds::SameNode> {
    let pair = |open_only| zds::SameNodePair {
        client: "front".to_owned(),
        source: vec![198, 18, 0, 1],
        address: vec![198, 18, 0, 2],
        port: 80,
        open_only,
        services: vec![],
    };
    vec![zds::SameNode {
        uid: "cart".to_owned(),
        pairs: open_only.map(pair).into_iter().collect(),
    }]
}

#[test]
fn an_allowed_pair_is_said_once_and_taken_back_when_a_policy_denies_it() {
    let mut world = World::new();
    assert_eq!(world.news(), said(Some(false)));
    assert_eq!(world.news(), []);
    // Nobody may: an ALLOW policy without rules.
    let mut policy = Mtls {
        mode: Mode::Strict,
        exceptions: [].into(),
    }
    .policy("shop", "nobody")
    .unwrap();
    policy.scope = Scope::Namespace.into();
    world.store.put_policy("shop/nobody", &policy.encode_to_vec()).unwrap();
    assert_eq!(world.news(), [], "the client has a certificate");
    policy.action = culvert_proto::security::Action::Allow.into();
    policy.rules.clear();
    world.store.put_policy("shop/nobody", &policy.encode_to_vec()).unwrap();
    assert_eq!(world.news(), said(None));
    // It is not remembered: the proxy decides about the next connection.
    world.store.remove_policy("shop/nobody");
    assert_eq!(world.news(), []);
    world.same_node.propose(proposal());
    assert_eq!(world.news(), said(Some(false)));
}

/// Lines and counts are the proxy's, and so are the connections that have some.
#[test]
fn new_connections_go_by_the_proxy_while_policies_that_decide_nothing_speak_of_them() {
    let mut world = World::new();
    assert_eq!(world.news(), said(Some(false)));
    let trial = culvert_proto::security::Authorization {
        name: "trial".to_owned(),
        namespace: "shop".to_owned(),
        scope: Scope::Namespace.into(),
        action: culvert_proto::security::Action::Deny.into(),
        rules: vec![culvert_proto::security::Rule::default()],
        dry_run: true,
        ..Default::default()
    };
    world.store.put_policy("shop/trial", &trial.encode_to_vec()).unwrap();
    assert_eq!(world.news(), said(Some(true)), "what is open stays");
    world.store.remove_policy("shop/trial");
    assert_eq!(world.news(), said(Some(false)));
}

#[test]
fn a_pair_goes_with_its_pods_their_addresses_the_wish_and_a_waypoint() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 6] = [
        ("no client", |world| world.same_node.remove("front")),
        ("no server", |world| world.same_node.remove("cart")),
        ("another address", |world| {
            world.same_node.add(pod("front", "198.18.0.9"))
        }),
        ("no wish", |world| world.same_node.want(vec![])),
        ("not in the mesh", |world| {
            let mut cart = workload("cart", SERVER);
            cart.tunnel_protocol = TunnelProtocol::None.into();
            put(&mut world.store, cart);
        }),
        ("another identity", |world| {
            let mut cart = workload("cart", SERVER);
            cart.service_account = "other".to_owned();
            put(&mut world.store, cart);
        }),
    ];
    for (what, change) in changes {
        let mut world = World::new();
        assert_eq!(world.news(), said(Some(false)), "{what}");
        change(&mut world);
        assert_eq!(world.news(), said(None), "{what}");
    }
    let mut world = World::new();
    assert_eq!(world.news(), said(Some(false)));
    let mut cart = workload("cart", SERVER);
    cart.waypoint = Some(GatewayAddress {
        destination: Some(gateway_address::Destination::Address(NetworkAddress {
            network: String::new(),
            address: vec![198, 18, 0, 7],
            length: None,
        })),
        hbone_mtls_port: 15008,
    });
    put(&mut world.store, cart);
    assert_eq!(world.news(), said(None), "a waypoint");
}

#[test]
fn what_is_open_outlives_a_policy_that_is_late_for_a_while_and_nothing_new_is_let_in() {
    let mut world = World::new();
    assert_eq!(world.news(), said(Some(false)));
    let mut cart = workload("cart", SERVER);
    cart.authorization_policies = vec!["shop/late".to_owned()];
    put(&mut world.store, cart);
    assert_eq!(world.news(), said(Some(true)));
    world.now += GRACE;
    assert_eq!(world.news(), said(None));
}

#[test]
fn loops_speak_of_pods_alone_that_want_it() {
    let (proposals, mut proposed) = unbounded_channel();
    let mut world = World::new();
    world.targets = SameNodeTargets::new(proposals);
    let tell = |world: &World| {
        let pair = pair();
        if world.targets.contain(pair.destination.ip()) {
            let front = pod("front", CLIENT);
            world.targets.tell(&front, pair.source, pair.destination, None);
        }
    };
    tell(&world);
    assert!(proposed.try_recv().is_err());
    world.news();
    tell(&world);
    assert_eq!(proposed.try_recv(), Ok(proposal()));
}

#[test]
fn a_pair_that_is_new_is_said_with_those_that_were_said_before() {
    let mut world = World::new();
    assert_eq!(world.news(), said(Some(false)));
    let other = Together {
        destination: SocketAddr::new(SERVER.parse().unwrap(), 81),
        ..pair()
    };
    let other = Proposal {
        pair: other,
        service: None,
    };
    world.same_node.propose(other.clone());
    let [news] = &world.news()[..] else {
        panic!("of one pod")
    };
    let ports: Vec<_> = news.pairs.iter().map(|pair| pair.port).collect();
    assert_eq!((&*news.uid, &ports[..]), ("cart", &[80, 81][..]));
    world.same_node.propose(other);
    assert_eq!(world.news(), []);
}

#[test]
fn a_pod_that_has_taken_over_an_address_is_the_one_that_is_reached() {
    let mut world = World::new();
    assert_eq!(world.news(), said(Some(false)));
    world.same_node.add(pod("other", SERVER));
    assert_eq!(world.news(), said(None), "it does not want that");
    world.same_node.remove("other");
    world.same_node.propose(proposal());
    assert_eq!(world.news(), said(Some(false)));
}

#[test]
fn a_pair_that_nobody_uses_is_taken_back_and_may_be_proposed_anew() {
    let mut world = World::new();
    assert_eq!(world.news(), said(Some(false)));
    let unused = said(Some(false)).remove(0).pairs;
    world.same_node.forget(unused.clone());
    assert_eq!(world.news(), said(None));
    world.same_node.forget(unused);
    assert_eq!(world.news(), [], "once");
    world.same_node.propose(proposal());
    assert_eq!(world.news(), said(Some(false)));
}

#[test]
fn what_has_ended_is_said_of_both_pods_and_of_one_where_the_other_is_gone() {
    use culvert_proto::zds::{SameNodeConnection, same_node_connection::End};
    let mut registry = culvert_telemetry::prometheus::registry::Registry::default();
    let accounting = culvert_accounting::Accounting::register(&mut registry, Default::default());
    let mut world = World::new();
    let mesh = world.store.snapshot();
    let ended = |end: End, source: Vec<u8>| zds::SameNodeEnded {
        connections: vec![SameNodeConnection {
            client: "front".to_owned(),
            source,
            source_port: 40000,
            address: vec![198, 18, 0, 2],
            port: 80,
            sent: 10,
            received: 300,
            duration_us: 5000,
            end: end.into(),
            service: None,
        }],
    };
    let count = |name: &str, reporter: &str| {
        let mut text = String::new();
        culvert_telemetry::prometheus::encoding::text::encode(&mut text, &registry).unwrap();
        let words = [format!("{name}{{"), format!("reporter=\"{reporter}\"")];
        let lines = text.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum::<u64>()
    };
    let opened = |reporter: &str| count("istio_tcp_connections_opened_total", reporter);
    let account = |world: &mut World, end, source| world.same_node.account(ended(end, source), &mesh, &accounting);
    account(&mut world, End::Closed, vec![198, 18, 0, 1]);
    assert_eq!((opened("source"), opened("destination")), (1, 1));
    assert_eq!(count("istio_tcp_sent_bytes_total", "source"), 300);
    assert_eq!(count("istio_tcp_sent_bytes_total", "destination"), 300);
    account(&mut world, End::Failed, vec![198, 18, 0, 1]);
    account(&mut world, End::Closed, vec![198]);
    assert_eq!(
        (opened("source"), opened("destination")),
        (1, 1),
        "never open, or no connection"
    );
    world.same_node.remove("cart");
    account(&mut world, End::Broken, vec![198, 18, 0, 1]);
    assert_eq!((opened("source"), opened("destination")), (2, 1));
    assert_eq!(count("istio_tcp_connections_closed_total", "source"), 2);
}
