use std::{
    io,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use culvert_identity::SpiffeId;
use culvert_proto::workload as proto;
use culvert_state::{Pod, Store, Workload};
use culvert_telemetry::{
    prometheus::{encoding::text, registry::Registry},
    tcp::{ResponseFlags, TcpSettings},
};
use prost::Message as _;
use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

use super::{Accounting, Carried, Direction, Opening, Peer};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What is logged while `act` runs, a line each.
fn logged(act: impl FnOnce()) -> Vec<Value> {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(log.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, act);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn workload(name: &str) -> Arc<Workload> {
    let wire = proto::Workload {
        uid: format!("Kubernetes//Pod/shop/{name}"),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        addresses: vec![vec![198, 18, 0, 2]],
        workload_name: "carts".to_owned(),
        canonical_name: "cart".to_owned(),
        canonical_revision: "v2".to_owned(),
        cluster_id: "east".to_owned(),
        locality: Some(proto::Locality {
            region: "r1".to_owned(),
            zone: "r1a".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut store = Store::new("", "cluster.local", false);
    let name = wire.uid.clone();
    let address = proto::Address {
        r#type: Some(proto::address::Type::Workload(wire)),
    };
    store.put_address(&name, &address.encode_to_vec()).unwrap();
    store.snapshot().workload_at([198, 18, 0, 2].into()).unwrap()
}

fn identity(account: &str) -> SpiffeId {
    SpiffeId::new("cluster.local", "shop", account).unwrap()
}

pub(crate) fn opening(direction: Direction, peer: &Arc<Workload>) -> Opening {
    let pod = Pod {
        uid: "1".into(),
        name: "web-1".into(),
        namespace: "shop".into(),
        identity: identity("web"),
        addresses: vec![[198, 18, 0, 1].into()],
        node: "node-a".into(),
    };
    Opening {
        direction,
        pod: Arc::new(pod),
        own: None,
        source: "198.18.0.1:40000".parse().unwrap(),
        destination: "198.18.0.2:8080".parse().unwrap(),
        dialled: Some("198.19.0.1:80".parse().unwrap()),
        hostname: None,
        peer: Peer {
            identity: Some(identity("cart")),
            workload: Some(peer.clone()),
        },
        service: Some("shop/cart.shop.svc.cluster.local".into()),
        hbone_addr: Some("198.18.0.2:15008".parse().unwrap()),
        encrypted: true,
        key_exchange: Some("X25519MLKEM768"),
        remarks: None,
        by_kernel: false,
    }
}

fn begin() -> (Registry, Arc<Accounting>) {
    let mut registry = Registry::default();
    let accounting = Accounting::register(&mut registry, TcpSettings::default());
    (registry, accounting)
}

fn metric(registry: &Registry, name: &str) -> Vec<String> {
    let mut all = String::new();
    text::encode(&mut all, registry).unwrap();
    all.lines()
        .filter(|line| line.starts_with(&format!("{name}{{")))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_connection_is_one_line_and_moves_the_metrics_while_it_is_open() {
    let (registry, accounting) = begin();
    let peer = workload("cart-1");
    let lines = logged(|| {
        let mut record = accounting.opened(opening(Direction::Outbound, &peer));
        assert_eq!(peer.open.load(Ordering::Relaxed), 1);
        record.add_sent(10);
        record.add_sent(5);
        record.add_received(7);
        record.publish();
        assert_eq!(accounting.connections()[0].bytes(), (15, 7));
        // Istio's received bytes are the request's: what the source sent.
        assert!(metric(&registry, "istio_tcp_received_bytes_total")[0].ends_with("} 15"));
        assert!(metric(&registry, "istio_tcp_sent_bytes_total")[0].ends_with("} 7"));
        assert!(metric(&registry, "istio_tcp_connections_closed_total")[0].ends_with("} 0"));
        record.add_received(1);
        record.close(Ok(()));
    });
    assert_eq!(peer.open.load(Ordering::Relaxed), 0);
    assert!(accounting.connections().is_empty());
    assert!(metric(&registry, "istio_tcp_sent_bytes_total")[0].ends_with("} 8"));
    let closed = &metric(&registry, "istio_tcp_connections_closed_total")[0];
    for pair in [
        r#"reporter="source""#,
        r#"source_workload="web-1""#,
        r#"source_principal="spiffe://cluster.local/ns/shop/sa/web""#,
        r#"destination_workload="carts""#,
        r#"destination_canonical_service="cart""#,
        r#"destination_version="v2""#,
        r#"destination_principal="spiffe://cluster.local/ns/shop/sa/cart""#,
        r#"destination_service_name="cart""#,
        r#"destination_cluster="east""#,
        r#"destination_region="r1""#,
        r#"destination_zone="r1a""#,
        r#"source_zone="unknown""#,
        r#"response_flags="-""#,
        r#"connection_security_policy="mutual_tls""#,
    ] {
        assert!(closed.contains(pair), "{pair} is not in {closed}");
    }
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    for (field, expected) in [
        ("target", "access"),
        ("level", "INFO"),
        ("direction", "outbound"),
        ("src.addr", "198.18.0.1:40000"),
        ("src.workload", "web-1"),
        ("src.namespace", "shop"),
        ("src.identity", "spiffe://cluster.local/ns/shop/sa/web"),
        ("dst.addr", "198.18.0.2:8080"),
        ("dst.hbone_addr", "198.18.0.2:15008"),
        ("dst.service", "cart.shop.svc.cluster.local"),
        ("dst.workload", "cart-1"),
        ("dst.identity", "spiffe://cluster.local/ns/shop/sa/cart"),
        ("dst.namespace", "shop"),
        ("dst.cluster", "east"),
        ("duration", "0ms"),
    ] {
        assert_eq!(line[field], expected, "{field}");
    }
    assert_eq!((&line["bytes_sent"], &line["bytes_recv"]), (&15.into(), &8.into()));
    assert_eq!(
        (&line["encrypted"], &line["key_exchange"]),
        (&true.into(), &"X25519MLKEM768".into())
    );
    assert!(line["duration_ms"].is_f64() && line.get("error").is_none(), "{line}");
}

#[test]
fn inbound_ends_change_places_and_bytes_their_names() {
    let (registry, accounting) = begin();
    let peer = workload("cart-1");
    let lines = logged(|| {
        let mut record = accounting.opened(opening(Direction::Inbound, &peer));
        assert_eq!(
            peer.open.load(Ordering::Relaxed),
            0,
            "only outbound connections load an endpoint"
        );
        record.add_received(3);
        record.add_sent(4);
        record.close(Err("reset by peer".into()));
    });
    assert!(metric(&registry, "istio_tcp_received_bytes_total")[0].ends_with("} 3"));
    let sent = &metric(&registry, "istio_tcp_sent_bytes_total")[0];
    assert!(
        sent.contains(r#"reporter="destination""#) && sent.contains(r#"source_workload="carts""#),
        "{sent}"
    );
    assert_eq!(lines[0]["src.workload"], "cart-1");
    assert_eq!(lines[0]["dst.workload"], "web-1");
    assert_eq!(
        (&lines[0]["level"], &lines[0]["error"]),
        (&"WARN".into(), &"reset by peer".into())
    );
}

#[test]
fn what_never_opened_is_one_line_too_and_what_was_forgotten_as_well() {
    let (registry, accounting) = begin();
    let peer = workload("cart-1");
    let lines = logged(|| {
        let tried_for = std::time::Duration::from_millis(1500);
        let opened = opening(Direction::Outbound, &peer);
        accounting.failed(&opened, ResponseFlags::ConnectFailed, tried_for, &"connection refused");
        drop(accounting.opened(opening(Direction::Outbound, &peer)));
    });
    let errors: Vec<_> = lines.iter().map(|line| line["error"].as_str().unwrap()).collect();
    assert_eq!(errors, ["connection refused", "the proxy let go of the connection"]);
    assert_eq!(lines[0]["duration_ms"], 1500.0);
    assert_eq!(lines[0]["duration"], "1500ms");
    assert_eq!(lines[0]["dst.dialled_addr"], "198.19.0.1:80");
    for (name, flags) in [
        ("failed", r#"response_flags="CONNECT""#),
        ("opened", r#"response_flags="-""#),
    ] {
        let series = metric(&registry, &format!("istio_tcp_connections_{name}_total"));
        let counted: Vec<_> = series.iter().filter(|line| line.ends_with("} 1")).collect();
        assert!(
            matches!(counted.as_slice(), [line] if line.contains(flags)),
            "{name}: {series:?}"
        );
    }
    assert!(accounting.connections().is_empty());
    assert_eq!(peer.open.load(Ordering::Relaxed), 0);
}

#[test]
fn plaintext_from_outside_has_no_identity_and_no_policy() {
    let (registry, accounting) = begin();
    let peer = workload("cart-1");
    let plain = Opening {
        encrypted: false,
        key_exchange: None,
        hbone_addr: None,
        service: None,
        peer: Peer::default(),
        ..opening(Direction::Inbound, &peer)
    };
    let lines = logged(|| accounting.opened(plain).close(Ok(())));
    assert!(
        ["src.identity", "dst.identity", "src.workload", "dst.hbone_addr"]
            .iter()
            .all(|f| lines[0].get(f).is_none())
    );
    let opened = &metric(&registry, "istio_tcp_connections_opened_total")[0];
    for pair in [
        r#"connection_security_policy="none""#,
        r#"source_workload="unknown""#,
        r#"destination_service="unknown""#,
    ] {
        assert!(opened.contains(pair), "{pair} is not in {opened}");
    }
}

#[test]
fn connections_with_the_same_labels_share_a_series_also_across_versions_of_a_workload() {
    let (registry, accounting) = begin();
    for _ in 0..3 {
        let peer = workload("cart-1");
        accounting.opened(opening(Direction::Outbound, &peer)).close(Ok(()));
    }
    let opened = metric(&registry, "istio_tcp_connections_opened_total");
    assert_eq!(opened.len(), 1);
    assert!(opened[0].ends_with("} 3"), "{opened:?}");
}

#[test]
fn what_somebody_else_has_carried_is_counted_and_logged_as_any_other_and_says_so() {
    let (registry, accounting) = begin();
    let peer = workload("cart-1");
    let carried = |error| Carried {
        sent: 10,
        received: 300,
        duration: Duration::from_millis(7),
        error,
    };
    let lines = logged(|| {
        for direction in [Direction::Outbound, Direction::Inbound] {
            let opening = Opening {
                by_kernel: true,
                ..opening(direction, &peer)
            };
            accounting.carried(&opening, &carried(None));
            accounting.carried(&opening, &carried(Some(&"reset")));
        }
    });
    assert_eq!(lines.len(), 4);
    for line in &lines {
        assert_eq!(
            (&line["message"], &line["via"]),
            (&"connection closed".into(), &"kernel".into())
        );
        assert_eq!((&line["bytes_sent"], &line["bytes_recv"]), (&10.into(), &300.into()));
        assert_eq!(line["duration"], "7ms");
    }
    assert_eq!((&lines[0]["level"], lines[0].get("error")), (&"INFO".into(), None));
    assert_eq!(
        (&lines[1]["level"], &lines[1]["error"]),
        (&"WARN".into(), &"reset".into())
    );
    for (name, source, destination) in [
        ("istio_tcp_connections_opened_total", 2, 2),
        ("istio_tcp_connections_closed_total", 2, 2),
        // Named after response and request, whoever reports.
        ("istio_tcp_sent_bytes_total", 600, 20),
        ("istio_tcp_received_bytes_total", 20, 600),
    ] {
        for (reporter, value) in [("source", source), ("destination", destination)] {
            let found = metric(&registry, name);
            let is_one = |line: &&String| line.contains(&format!("reporter=\"{reporter}\""));
            let line = found.iter().find(is_one).unwrap();
            assert!(line.ends_with(&format!("}} {value}")), "{line}");
        }
    }
    assert!(accounting.connections().is_empty());
    assert_eq!(accounting.recent().len(), 1);
}
