use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use culvert_accounting::{Direction, Opening, Peer};
use culvert_control::{Published, Served};
use culvert_identity::{CertificateRequest, Credentials, SpiffeId, TrustBundle};
use culvert_proto::{security, workload as proto};
use culvert_state::{Pod, Store};
use culvert_telemetry::{LogFormat, Request, Routes, tcp::TcpSettings};
use http::{Method, StatusCode};
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tokio::sync::{Notify, mpsc::unbounded_channel};

use super::{pages, views::rfc3339};
use crate::{readiness::Readiness, seam::Shared, telemetry::Telemetry};

#[test]
fn moments_are_dates() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_795_233_656, "2026-11-21T04:00:56Z"),
        (4_102_444_799, "2099-12-31T23:59:59Z"),
    ] {
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
    }
}

fn identity() -> SpiffeId {
    SpiffeId::new("cluster.local", "shop", "web").unwrap()
}

fn credentials() -> Credentials {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap().pem();
    let request = CertificateRequest::new(&identity()).unwrap();
    let csr = CertificateSigningRequestParams::from_pem(request.csr_pem()).unwrap();
    let leaf = csr.signed_by(&Issuer::new(params, key)).unwrap().pem();
    request
        .complete(&[leaf], &TrustBundle::from_pem(root.as_bytes()).unwrap())
        .unwrap()
}

fn store() -> Store {
    let mut store = Store::new("", "cluster.local", true);
    let service = "shop/cart.shop.svc.cluster.local";
    let port = proto::Port {
        service_port: 80,
        target_port: 8080,
        app_protocol: 1,
    };
    let workload = proto::Workload {
        uid: "Kubernetes//Pod/shop/cart".into(),
        name: "cart".into(),
        namespace: "shop".into(),
        addresses: vec![vec![198, 18, 0, 2]],
        tunnel_protocol: proto::TunnelProtocol::Hbone as i32,
        services: [(service.to_owned(), proto::PortList { ports: vec![port] })].into(),
        ..Default::default()
    };
    let cart = proto::Service {
        name: "cart".into(),
        namespace: "shop".into(),
        hostname: "cart.shop.svc.cluster.local".into(),
        addresses: vec![proto::NetworkAddress {
            address: vec![198, 19, 0, 1],
            ..Default::default()
        }],
        ports: vec![port],
        ..Default::default()
    };
    let mut put = |name: &str, address| {
        let bytes = proto::Address { r#type: Some(address) }.encode_to_vec();
        store.put_address(name, &bytes).unwrap();
    };
    put("Kubernetes//Pod/shop/cart", proto::address::Type::Workload(workload));
    put(service, proto::address::Type::Service(cart));
    let policy = security::Authorization {
        name: "nobody".into(),
        namespace: "shop".into(),
        scope: security::Scope::Namespace as i32,
        ..Default::default()
    };
    store.put_policy("shop/nobody", &policy.encode_to_vec()).unwrap();
    store.put_policy("shop/broken", b"\xff").unwrap_err();
    store
}

fn pod() -> Arc<Pod> {
    Arc::new(Pod {
        uid: "1".into(),
        name: "web".into(),
        namespace: "shop".into(),
        identity: identity(),
        addresses: vec![[198, 18, 0, 1].into()],
        node: "node-a".into(),
    })
}

async fn ask(routes: &Routes, method: Method, path: &str) -> (StatusCode, String) {
    let response = routes.answer(Request::new(method, path)).await;
    (response.code(), String::from_utf8(response.body().to_vec()).unwrap())
}

#[tokio::test]
async fn pages_show_what_decides_and_never_a_key() {
    let (asks, _asked) = unbounded_channel();
    let (socket_requests, _wanted) = unbounded_channel();
    let (datagram_requests, _wanted) = unbounded_channel();
    let published = Published::default();
    let shared = Arc::new(Shared {
        mesh: Arc::clone(&published.mesh),
        credentials: Arc::clone(&published.credentials),
        asks,
        socket_requests,
        datagram_requests,
        names: Default::default(),
        same_node: crate::seam::SameNodeTargets::new(tokio::sync::mpsc::unbounded_channel().0),
        telemetry: Telemetry::new(TcpSettings::default()),
    });
    let served = Arc::new(Served::default());
    served.insert(pod());
    let ready = Arc::new(Readiness::new(Arc::clone(&served), published));
    let logging = culvert_telemetry::init("test", LogFormat::Json, "error").unwrap();
    let drain = Arc::new(Notify::new());
    let pages = pages(&shared, &served, &ready, logging, Arc::clone(&drain));

    let (status, body) = ask(&pages.readiness, Method::GET, "/healthz/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    for missing in [
        "pods from the agent",
        "configuration from the controller",
        identity().as_str(),
    ] {
        assert!(body.contains(missing), "{missing} is not in {body}");
    }
    let mut store = store();
    store.set_synced();
    shared.mesh.store(store.snapshot());
    shared
        .credentials
        .store(Arc::new([(identity(), Arc::new(credentials()))].into_iter().collect()));
    ready.set_complete();
    assert_eq!(
        ask(&pages.readiness, Method::GET, "/healthz/ready").await.0,
        StatusCode::OK
    );

    let peer = Peer {
        identity: Some(identity()),
        workload: shared.mesh.load().workload_at([198, 18, 0, 2].into()),
    };
    let record = shared.telemetry.accounting().opened(Opening {
        dialled: None,
        hostname: None,
        direction: Direction::Outbound,
        pod: pod(),
        own: None,
        source: "198.18.0.1:40000".parse().unwrap(),
        destination: "198.18.0.2:8080".parse().unwrap(),
        peer,
        service: None,
        hbone_addr: None,
        encrypted: true,
        key_exchange: Some("X25519MLKEM768"),
        remarks: None,
        by_kernel: false,
    });
    let get =
        async |path: &str| -> Value { serde_json::from_str(&ask(&pages.admin, Method::GET, path).await.1).unwrap() };
    // What `culvert` prints.
    let workload = &get("/workloads").await["workloads"][0];
    assert_eq!(workload["addresses"][0], "198.18.0.2");
    assert_eq!(
        (&workload["protocol"], &workload["open_connections"]),
        (&"HBONE".into(), &1.into())
    );
    assert_eq!(workload["identity"], "spiffe://cluster.local/ns/shop/sa/default");
    let service = &get("/services").await["services"][0];
    assert_eq!(
        (&service["ports"][0], &service["addresses"][0]),
        (&"80->8080/HTTP11".into(), &"198.19.0.1".into())
    );
    assert_eq!(service["endpoints"][0], "Kubernetes//Pod/shop/cart");
    assert_eq!(get("/recent").await["recent"], Value::Array(Vec::new()));
    let connection = &get("/connections").await["connections"][0];
    assert_eq!(
        (&connection["encrypted"], &connection["direction"]),
        (&true.into(), &"outbound".into())
    );
    assert_eq!(connection["destination_identity"], identity().as_str());
    let policies = get("/policies").await;
    assert_eq!(policies["policies"][0]["scope"], "namespace");
    assert_eq!(policies["policies"][1]["refused"], true);
    let certificate = &get("/certificates").await["certificates"][0];
    assert_eq!(
        (&certificate["identity"], &certificate["valid"]),
        (&identity().as_str().into(), &true.into())
    );
    let dump = ask(&pages.admin, Method::GET, "/config_dump").await.1;
    assert!(
        dump.contains("198.18.0.2") && !dump.to_lowercase().contains("key"),
        "{dump}"
    );
    record.close(Ok(()));

    assert_eq!(ask(&pages.admin, Method::GET, "/logging").await.1, "error\n");
    assert_eq!(ask(&pages.admin, Method::POST, "/logging?level=warn").await.1, "warn\n");
    assert_eq!(
        ask(&pages.admin, Method::POST, "/logging?level=a=b=c").await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        ask(&pages.admin, Method::POST, "/logging").await.0,
        StatusCode::BAD_REQUEST
    );
    assert!(
        ask(&pages.metrics, Method::GET, "/metrics")
            .await
            .1
            .contains("istio_tcp_connections_opened_total")
    );
    assert_eq!(
        ask(&pages.admin, Method::GET, "/quitquitquit").await.0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    ask(&pages.admin, Method::POST, "/quitquitquit").await;
    drain.notified().await;
    ready.set_draining();
    assert_eq!(
        ask(&pages.readiness, Method::GET, "/healthz/ready").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
}
