//! What holds for any bytes and any name.

use proptest::prelude::*;

use super::*;

fn mesh() -> Arc<Mesh> {
    World::new(false)
        .service(
            "shop",
            "cart.shop.svc.cluster.local",
            &["198.19.0.1", "fd00:c01e:96::1"],
        )
        .service("db", "pg.db.svc.cluster.local", &[])
        .service("ext", "*.com", &["240.240.0.2"])
        .workload("pg-0", &["198.18.0.1"], true, &["db/pg.db.svc.cluster.local"])
        .mesh()
}

/// Names near those of the mesh, and others.
fn name() -> impl Strategy<Value = String> {
    let label = prop_oneof![
        Just("cart".to_owned()),
        Just("pg".to_owned()),
        Just("pg-0".to_owned()),
        Just("shop".to_owned()),
        Just("db".to_owned()),
        Just("svc".to_owned()),
        Just("cluster".to_owned()),
        Just("local".to_owned()),
        Just("Com".to_owned()),
        "[a-zA-Z0-9_-]{1,20}",
    ];
    let domain = prop_oneof![
        Just(""),
        Just(".svc.cluster.local"),
        Just(".shop.svc.cluster.local"),
        Just(".cluster.local")
    ];
    (proptest::collection::vec(label, 1..6), domain).prop_map(|(labels, domain)| labels.join(".") + domain)
}

proptest! {
    #[test]
    fn any_bytes_are_decided_about(bytes in proptest::collection::vec(any::<u8>(), 0..300), tcp in any::<bool>()) {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        check(&bytes, transport, &mesh());
    }

    #[test]
    fn spoiled_queries_are_decided_about(
        name in name(),
        spoiled in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        payload in proptest::option::of(any::<u16>()),
    ) {
        let mut message = query(&name, RecordType::A);
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        let mut bytes = message.to_vec().unwrap();
        for (place, byte) in spoiled {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        check(&bytes, Transport::Udp, &mesh());
    }

    #[test]
    fn a_name_has_both_families_or_none(name in name()) {
        let mesh = mesh();
        let (v4, v6) = (said(&mesh, &name, RecordType::A), said(&mesh, &name, RecordType::AAAA));
        prop_assert_eq!(v4 == "forward", v6 == "forward");
    }
}

/// Every answer is one to the question that was asked, and as short as it must be.
fn check(bytes: &[u8], transport: Transport, mesh: &Mesh) {
    let Decision::Answer { message, .. } = decide(bytes, transport, &CLIENT, mesh) else {
        return;
    };
    let (asked, answer) = (Message::from_vec(bytes).unwrap(), Message::from_vec(&message).unwrap());
    assert_eq!(answer.metadata.id, asked.metadata.id);
    assert_eq!(answer.queries, asked.queries);
    assert!(answer.queries[0].name.eq_case(&asked.queries[0].name));
    assert_eq!(answer.edns.is_some(), asked.edns.is_some());
    if transport == Transport::Udp {
        assert!(message.len() <= if asked.edns.is_some() { 1232 } else { 512 });
    }
}
