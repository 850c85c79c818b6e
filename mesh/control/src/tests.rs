//! Control against a controller in this process, over real TLS and gRPC.

mod controller;
mod hosts;
mod proxy;

use std::{sync::Arc, time::Duration};

use culvert_identity::SpiffeId;
use culvert_proto::{
    ADDRESS_TYPE, AUTHORIZATION_TYPE, RANGES_ALIAS, ROOTS_TYPE, WILDCARDS_ALIAS, discovery::Resource, security,
    workload,
};
use culvert_state::{Outbound, Pod};
use tokio::time::timeout;

use self::{
    controller::{Connection, Controller, resource},
    proxy::{Mode, Proxy},
};
use super::{Ask, Caller, Published, Role};

fn workload(name: &str, address: [u8; 4]) -> Resource {
    let uid = format!("Kubernetes//Pod/shop/{name}");
    let wire = workload::Workload {
        uid: uid.clone(),
        name: name.into(),
        namespace: "shop".into(),
        addresses: vec![address.to_vec()],
        tunnel_protocol: workload::TunnelProtocol::Hbone as i32,
        ..Default::default()
    };
    let address = workload::Address {
        r#type: Some(workload::address::Type::Workload(wire)),
    };
    resource(&uid, "1", ADDRESS_TYPE, &address)
}

fn policy(name: &str, port: u32) -> Resource {
    let one = security::Match {
        destination_ports: vec![port],
        ..Default::default()
    };
    let wire = security::Authorization {
        name: name.into(),
        namespace: "shop".into(),
        rules: vec![security::Rule {
            clauses: vec![security::Clause { matches: vec![one] }],
        }],
        ..Default::default()
    };
    resource(&format!("shop/{name}"), "", AUTHORIZATION_TYPE, &wire)
}

/// Takes the first requests and answers both types with nothing.
async fn greet(connection: &mut Connection) {
    for _ in 0..2 {
        connection.request().await;
    }
    connection.answer(ADDRESS_TYPE, vec![], &[]);
    connection.answer(AUTHORIZATION_TYPE, vec![], &[]);
    for _ in 0..2 {
        assert!(connection.request().await.error_detail.is_none());
    }
}

#[tokio::test]
async fn the_first_requests_say_who_asks_and_the_first_answers_complete_the_configuration() {
    let mut controller = Controller::start().await;
    let proxy = Proxy::start(&controller, Mode::Wildcard);
    let mut connection = controller.connection().await;
    assert_eq!(connection.authorization, "Bearer node-a-token");
    let first = [connection.request().await, connection.request().await];
    let node = first[0].node.clone().unwrap();
    assert!(
        node.id.starts_with("ztunnel~") && node.id.ends_with(".svc.cluster.local"),
        "{}",
        node.id
    );
    let metadata = node.metadata.unwrap().fields;
    assert!(metadata.contains_key("NODE_NAME") && metadata.contains_key("CLUSTER_ID"));
    for request in &first {
        assert!(
            request.resource_names_subscribe.is_empty(),
            "the wildcard is a request without names"
        );
    }

    connection.answer(ADDRESS_TYPE, vec![workload("a", [198, 18, 0, 2])], &[]);
    let ack = connection.request().await;
    assert_eq!(
        (ack.type_url.as_str(), ack.response_nonce.as_str()),
        (ADDRESS_TYPE, "1")
    );
    assert!(ack.error_detail.is_none());
    assert!(!proxy.published.mesh.load().synced(), "policies are still missing");
    connection.answer(AUTHORIZATION_TYPE, vec![], &[]);
    proxy
        .until("a complete configuration", |published| published.mesh.load().synced())
        .await;
    assert!(proxy.knows("198.18.0.2"));
}

#[tokio::test]
async fn a_bad_resource_is_refused_by_name_and_the_good_ones_beside_it_are_used() {
    let mut controller = Controller::start().await;
    let proxy = Proxy::start(&controller, Mode::Wildcard);
    let mut connection = controller.connection().await;
    greet(&mut connection).await;
    let mut garbage = workload("broken", [198, 18, 0, 3]);
    garbage.resource.as_mut().unwrap().value = vec![0xff; 7];
    connection.answer(ADDRESS_TYPE, vec![garbage, workload("a", [198, 18, 0, 2])], &[]);
    let nack = connection.request().await.error_detail.expect("a refusal");
    assert!(
        nack.message.starts_with("Kubernetes//Pod/shop/broken: does not decode"),
        "{}",
        nack.message
    );
    proxy
        .until("the good one", |published| {
            published.mesh.load().workload_at([198, 18, 0, 2].into()).is_some()
        })
        .await;
    connection.answer(AUTHORIZATION_TYPE, vec![policy("wide", 70_000)], &[]);
    let nack = connection.request().await.error_detail.expect("a refusal");
    assert_eq!(nack.message, "shop/wide: port 70000 is beyond 65535");
    for kind in ["address", "authorization"] {
        let of = |family: &super::metrics::ByType| family.get_or_create(&[("type", kind)]).get();
        let metrics = &proxy.metrics;
        assert_eq!((of(&metrics.nacks), of(&metrics.rejected)), (1, 1), "{kind}");
        assert!(
            of(&metrics.received) >= 1 && of(&metrics.received_bytes) > of(&metrics.received),
            "{kind}"
        );
        assert!(metrics.last_response.get() > 0);
    }

    // What was refused is named after a reconnect, so that its end is told, but no version of it is claimed.
    drop(connection);
    let mut connection = controller.connection().await;
    let mut named = std::collections::BTreeMap::new();
    for _ in 0..2 {
        named.extend(connection.request().await.initial_resource_versions);
    }
    let claimed = named.iter().map(|(name, version)| (&**name, !version.is_empty()));
    assert_eq!(
        claimed.collect::<Vec<_>>(),
        [
            ("Kubernetes//Pod/shop/a", true),
            ("Kubernetes//Pod/shop/broken", false),
            ("shop/wide", false)
        ]
    );
    assert!(proxy.knows("198.18.0.2"), "the last state stays in force");
}

#[tokio::test]
async fn a_controller_whose_name_cannot_be_resolved_is_found_by_its_address() {
    let mut controller = Controller::start().await;
    let _proxy = Proxy::start_with(&controller, Mode::Wildcard, |settings| {
        settings.controller = controller.url().replace("localhost", "controller.invalid");
        settings.controller_name = Some("localhost".into());
        settings.controller_host = Some([127, 0, 0, 1].into());
    });
    greet(&mut controller.connection().await).await;
}

#[tokio::test]
async fn what_holds_for_the_whole_mesh_is_taken_over_and_ranges_given_by_hand_stay() {
    use culvert_proto::{MESH_NAME, MESH_TYPE, config};
    let mut controller = Controller::start().await;
    let proxy = Proxy::start_with(&controller, Mode::Wildcard, |settings| {
        settings.mesh_ranges = vec!["198.19.0.0/16".parse().unwrap()];
    });
    let mut connection = controller.connection().await;
    greet(&mut connection).await;
    let list = |published: &Published| {
        let mesh = published.mesh.load();
        let (ranges, complete) = mesh.ranges();
        (ranges.iter().map(ToString::to_string).collect::<Vec<_>>(), complete)
    };
    assert_eq!(list(&proxy.published), (vec!["198.19.0.0/16".to_owned()], false));
    let range = |address: &[u8], length| config::Range {
        address: address.to_vec(),
        length,
    };
    let mesh = config::Mesh {
        ranges: vec![range(&[198, 18, 0, 0], 16)],
        registry_only_namespaces: vec!["shop".to_owned()],
    };
    connection.answer(MESH_TYPE, vec![resource(MESH_NAME, "1", MESH_TYPE, &mesh)], &[]);
    let both = vec!["198.18.0.0/16".to_owned(), "198.19.0.0/16".to_owned()];
    proxy
        .until("the controller's ranges", |published| {
            list(published) == (both.clone(), true)
        })
        .await;
    // What makes no sense changes nothing.
    let nonsense = config::Mesh {
        ranges: vec![range(&[198, 18, 0], 16)],
        ..Default::default()
    };
    connection.answer(MESH_TYPE, vec![resource(MESH_NAME, "2", MESH_TYPE, &nonsense)], &[]);
    connection.answer(AUTHORIZATION_TYPE, vec![], &[]);
    connection.request().await;
    assert_eq!(list(&proxy.published), (both, true));
    let registry_only = |published: &Published| published.mesh.load().registry_only().eq(["shop"]);
    assert!(registry_only(&proxy.published));
    connection.answer(MESH_TYPE, vec![], &[MESH_NAME]);
    proxy
        .until("no namespace that is registry-only", |published| {
            !registry_only(published)
        })
        .await;
}

#[tokio::test]
async fn an_address_is_asked_for_once_and_its_answer_decides() {
    let mut controller = Controller::start().await;
    let proxy = Proxy::start(&controller, Mode::OnDemand);
    let mut connection = controller.connection().await;
    let first = [connection.request().await, connection.request().await];
    let addresses = first.iter().find(|request| request.type_url == ADDRESS_TYPE).unwrap();
    assert_eq!(addresses.resource_names_subscribe, ["*", RANGES_ALIAS, WILDCARDS_ALIAS]);
    assert_eq!(addresses.resource_names_unsubscribe, ["*"]);
    connection.answer(ADDRESS_TYPE, vec![], &[]);
    connection.answer(AUTHORIZATION_TYPE, vec![], &[]);
    for _ in 0..2 {
        connection.request().await;
    }
    proxy
        .until("a complete configuration", |published| published.mesh.load().synced())
        .await;

    let pod = proxy.pod("web");
    for _ in 0..3 {
        assert!(matches!(proxy.outbound(&pod, "198.18.0.2:80"), Outbound::Pending(_)));
        assert!(matches!(proxy.outbound(&pod, "198.18.0.99:80"), Outbound::Pending(_)));
    }
    let asked = [connection.request().await, connection.request().await].map(|r| r.resource_names_subscribe);
    assert_eq!(asked, [["/198.18.0.2"], ["/198.18.0.99"]]);
    connection.answer(ADDRESS_TYPE, vec![workload("a", [198, 18, 0, 2])], &["/198.18.0.99"]);
    let ack = connection.request().await;
    assert_eq!(ack.resource_names_subscribe, [""; 0], "nothing is asked for twice");
    assert_eq!(ack.response_nonce, "3");
    proxy
        .until("an answer", |published| {
            published.mesh.load().workload_at([198, 18, 0, 2].into()).is_some()
        })
        .await;
    assert!(matches!(proxy.outbound(&pod, "198.18.0.2:80"), Outbound::Tunnel { .. }));
    assert!(matches!(
        proxy.outbound(&pod, "198.18.0.99:80"),
        Outbound::Direct { workload: None, .. }
    ));

    // The one that nobody had appears; the one that was there goes.
    connection.answer(
        ADDRESS_TYPE,
        vec![workload("b", [198, 18, 0, 99])],
        &["Kubernetes//Pod/shop/a"],
    );
    proxy
        .until("the new one", |published| {
            published.mesh.load().workload_at([198, 18, 0, 99].into()).is_some()
        })
        .await;
    assert!(matches!(
        proxy.outbound(&pod, "198.18.0.99:80"),
        Outbound::Tunnel { .. }
    ));
    assert!(matches!(
        proxy.outbound(&pod, "198.18.0.2:80"),
        Outbound::Direct { workload: None, .. }
    ));
    connection.request().await;

    // What is asked while the controller is away is part of the next first request.
    drop(connection);
    proxy.asks.send(Ask::Address([198, 18, 0, 50].into())).unwrap();
    let mut names = Vec::new();
    // The ask may have gone out on the connection that was just given up; the one after it has it in any case.
    while !names.contains(&"/198.18.0.50".to_owned()) {
        let mut connection = controller.connection().await;
        for _ in 0..2 {
            names.extend(connection.request().await.resource_names_subscribe);
        }
        if names.contains(&"/198.18.0.2".to_owned()) && !names.contains(&"/198.18.0.50".to_owned()) {
            names.extend(connection.request().await.resource_names_subscribe);
        }
    }
    assert!(names.contains(&"/198.18.0.2".to_owned()), "{names:?}");
}

#[tokio::test]
async fn pods_get_certificates_and_keep_them_until_the_next_is_there() {
    let mut controller = Controller::start().await;
    controller.sign_for(Duration::from_secs(4));
    let proxy = Proxy::start(&controller, Mode::Wildcard);
    greet(&mut controller.connection().await).await;
    let pod = proxy.pod("web");
    let serial = |published: &Published| {
        published
            .credentials
            .load()
            .get(&pod.identity)
            .map(|c| c.serial().to_owned())
    };
    proxy
        .until("a certificate", |published| serial(published).is_some())
        .await;
    let first = serial(&proxy.published).unwrap();
    assert_eq!(
        controller.signed().await,
        ("Bearer node-a-token".into(), pod.identity.to_string())
    );
    assert!(!proxy.served.is_refused(&pod.identity));

    // Renewed within the first half of its life; no moment without a valid one.
    proxy
        .until("a renewal", |published| {
            serial(published).expect("the old one stays until then") != first
        })
        .await;

    // The authority refuses from now on: the old one serves until it expires, and is not used then.
    controller.refuse();
    let renewed = proxy.published.credentials.load().get(&pod.identity).unwrap().clone();
    proxy
        .until("expiry", |published| published.credentials.load().is_empty())
        .await;
    assert!(std::time::SystemTime::now() >= renewed.not_after());
    // A pod that the authority does not want must not hold the whole node up.
    proxy
        .until("the refusal", |_| proxy.served.is_refused(&pod.identity))
        .await;

    controller.sign_for(Duration::from_secs(3600));
    proxy
        .until("a certificate again", |published| serial(published).is_some())
        .await;
    assert!(!proxy.served.is_refused(&pod.identity));
}

/// The API server is away from the moment at which a certificate is due. How often the authority is asked meanwhile: see `renewal`.
#[tokio::test]
async fn a_certificate_that_is_due_stays_while_nobody_can_sign() {
    const HOUR: Duration = Duration::from_secs(3600);
    let mut controller = Controller::start().await;
    controller.sign_for(24 * HOUR);
    let proxy = Proxy::start(&controller, Mode::Wildcard);
    let mut connection = controller.connection().await;
    greet(&mut connection).await;
    connection.answer(ADDRESS_TYPE, vec![workload("web", [198, 18, 0, 2])], &[]);
    proxy.until("a workload", |_| proxy.knows("198.18.0.2")).await;
    let pod = proxy.pod("web");
    let serial = |published: &Published| Some(published.credentials.load().get(&pod.identity)?.serial().to_owned());
    proxy
        .until("a certificate", |published| serial(published).is_some())
        .await;
    let first = serial(&proxy.published);

    controller.know_nothing();
    // One step of the clock by which tasks wait, to the moment at which it is due; from then on only conditions count.
    tokio::time::pause();
    tokio::time::advance(12 * HOUR).await;
    tokio::time::resume();
    proxy.until("several requests", |_| controller.unanswered() > 2).await;
    assert_eq!(serial(&proxy.published), first);
    assert!(proxy.knows("198.18.0.2"));

    controller.sign_for(24 * HOUR);
    proxy.until("a renewal", |published| serial(published) != first).await;
}

#[tokio::test]
async fn roots_that_the_controller_tells_are_trusted_at_once_with_the_certificates_that_are_there() {
    let mut controller = Controller::start().await;
    let next = Controller::start().await;
    let proxy = Proxy::start(&controller, Mode::Wildcard);
    let mut connection = controller.connection().await;
    greet(&mut connection).await;
    let pod = proxy.pod("web");
    let held = |published: &Published| published.credentials.load().get(&pod.identity).cloned();
    proxy
        .until("a certificate", |published| held(published).is_some())
        .await;
    let before = held(&proxy.published).unwrap();
    assert_eq!(before.bundle().roots().len(), 1);

    let garbage = "not a certificate".to_owned();
    connection.answer(ROOTS_TYPE, vec![resource("roots", "0", ROOTS_TYPE, &garbage)], &[]);
    let both = format!("{}{}", controller.root_pem(), next.root_pem());
    connection.answer(ROOTS_TYPE, vec![resource("roots", "1", ROOTS_TYPE, &both)], &[]);
    proxy
        .until("the next root", |published| {
            held(published).is_some_and(|held| held.bundle().roots().len() > 1)
        })
        .await;
    assert_eq!(held(&proxy.published).unwrap().serial(), before.serial());

    // A pod that comes later has them, too.
    let late = proxy.pod("late");
    proxy
        .until("another certificate", |published| {
            let all = published.credentials.load();
            all.get(&late.identity)
                .is_some_and(|held| held.bundle().roots().len() > 1)
        })
        .await;
}

#[tokio::test]
async fn a_controller_that_comes_back_is_asked_for_what_is_missing() {
    let mut controller = Controller::start().await;
    controller.refuse();
    let proxy = Proxy::start(&controller, Mode::Wildcard);
    let mut connection = controller.connection().await;
    greet(&mut connection).await;
    let pod = proxy.pod("web");
    // Refused for so long that pauses are no longer short.
    proxy
        .until("the last word", |_| proxy.served.is_refused(&pod.identity))
        .await;
    controller.sign_for(Duration::from_secs(3600));
    drop(connection);
    // That it is asked at once: see `renewal`.
    let _connection = controller.connection().await;
    proxy
        .until("a certificate", |published| {
            published.credentials.load().contains_key(&pod.identity)
        })
        .await;
}

#[tokio::test]
async fn a_controller_that_others_signed_for_is_not_talked_to() {
    let mut controller = Controller::start().await;
    let stranger = Controller::start().await;
    controller.pretend_root(&stranger);
    let proxy = Proxy::start(&controller, Mode::Wildcard);
    proxy.pod("web");
    let refused = timeout(Duration::from_millis(500), controller.connection()).await;
    assert!(refused.is_err(), "no call passes a handshake that fails");
    assert!(!proxy.published.mesh.load().synced());
}

/// A waypoint: the authority signs for whoever calls, and the controller is told who that is.
#[tokio::test]
async fn a_workload_asks_for_itself_and_names_nobody_else() {
    let mut controller = Controller::start().await;
    let pod = Arc::new(Pod {
        uid: "1".into(),
        name: "waypoint-7d9".into(),
        namespace: "shop".into(),
        identity: SpiffeId::new("cluster.local", "shop", "waypoint").unwrap(),
        addresses: vec![[198, 18, 0, 9].into()],
        node: "node-a".into(),
    });
    let proxy = Proxy::start_with(&controller, Mode::Wildcard, |settings| {
        settings.caller = Caller::Workload {
            role: Role::Waypoint,
            pod: Arc::clone(&pod),
        };
    });
    let mut connection = controller.connection().await;
    let node = connection.request().await.node.unwrap();
    assert_eq!(node.id, "waypoint~198.18.0.9~waypoint-7d9.shop~shop.svc.cluster.local");
    let metadata = node.metadata.unwrap().fields;
    let fields: Vec<&str> = metadata.keys().map(|key| &**key).collect();
    assert_eq!(fields, ["CLUSTER_ID", "NAMESPACE", "NODE_NAME", "SERVICE_ACCOUNT"]);

    proxy.serve(&pod);
    proxy
        .until("a certificate", |published| {
            published.credentials.load().contains_key(&pod.identity)
        })
        .await;
    assert_eq!(
        controller.signed().await,
        ("Bearer node-a-token".into(), String::new()),
        "no identity is named"
    );
}
