//! TLS of their own that endpoints speak, and what policies about it come to.

use culvert_envoy::cluster::SYSTEM_ROOTS;
use culvert_envoy::pb::envoy::config::cluster::v3::Cluster;
use culvert_envoy::pb::envoy::config::core::v3::{
    TransportSocket, data_source::Specifier, transport_socket::ConfigType,
};
use culvert_envoy::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use culvert_envoy::pb::envoy::extensions::transport_sockets::internal_upstream::v3::InternalUpstreamTransport;
use culvert_envoy::pb::envoy::extensions::transport_sockets::tls::v3::{
    UpstreamTlsContext, common_tls_context::ValidationContextType,
};
use culvert_envoy::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, unpack};

use super::waypoints::{conditions, findings, get, shop};
use super::*;

const ACCEPTED: (&str, bool, &str) = ("Accepted", true, "Accepted");
const RESOLVED: (&str, bool, &str) = ("ResolvedRefs", true, "ResolvedRefs");

/// A certificate that an authority might have.
const PEM: &str = include_str!("ca.pem");

fn config_map(name: &str) -> String {
    let pem = PEM.trim_end().replace('\n', "\n    ");
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\ndata:\n  ca.crt: |\n    {pem}\n"
    )
}

fn policy(name: &str, created: u8, target: &str, validation: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\n\
         metadata: {{name: {name}, namespace: shop, creationTimestamp: '2026-01-01T00:00:0{created}Z'}}\n\
         spec: {{targetRefs: [{{group: '', kind: Service, {target}}}], validation: {{{validation}}}}}\n"
    )
}

fn by_map(hostname: &str) -> String {
    format!("hostname: {hostname}, caCertificateRefs: [{{group: '', kind: ConfigMap, name: ca}}]")
}

fn rule(policy: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: rule, namespace: shop}}\n\
         spec: {{host: web, {policy}}}\n"
    )
}

/// The name that endpoints are asked for, whom is trusted, the names that count, and what is said to be spoken; none in clear.
fn tls(model: &Model, port: &str) -> Option<(String, String, Vec<String>, Vec<String>)> {
    let name = format!("shop/wp/shop/web.shop.svc.cluster.local:{port}");
    let cluster: Cluster = get(model, CLUSTER_TYPE, &name).unwrap();
    let typed = |socket: TransportSocket| {
        let ConfigType::TypedConfig(config) = socket.config_type.unwrap();
        config
    };
    let transport: InternalUpstreamTransport = unpack(&typed(cluster.transport_socket.unwrap())).unwrap();
    let context: UpstreamTlsContext = unpack(&typed(transport.transport_socket.unwrap())).ok()?;
    let common = context.common_tls_context.unwrap();
    let Some(ValidationContextType::ValidationContext(validation)) = common.validation_context_type else {
        return Some((context.sni, "anybody".to_owned(), Vec::new(), common.alpn_protocols));
    };
    let trust = match validation.trusted_ca.unwrap().specifier.unwrap() {
        Specifier::InlineString(pem) if pem == PEM => "ca".to_owned(),
        Specifier::Filename(name) if name == SYSTEM_ROOTS => "system".to_owned(),
        other => format!("{other:?}"),
    };
    let names = validation.match_typed_subject_alt_names.iter();
    let names = names.map(|name| match &name.matcher.as_ref().unwrap().match_pattern {
        Some(MatchPattern::Exact(text)) => format!("{:?} {text}", name.san_type()),
        other => panic!("{other:?}"),
    });
    Some((context.sni, trust, names.collect(), common.alpn_protocols))
}

fn endpoints(model: &Model, port: &str) -> usize {
    let name = format!("shop/wp/shop/web.shop.svc.cluster.local:{port}");
    let made: ClusterLoadAssignment = get(model, ENDPOINT_TYPE, &name).unwrap();
    made.endpoints.iter().map(|group| group.lb_endpoints.len()).sum()
}

fn expected(
    name: &str,
    trust: &str,
    names: &[&str],
    protocols: &[&str],
) -> Option<(String, String, Vec<String>, Vec<String>)> {
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
    Some((name.to_owned(), trust.to_owned(), texts(names), texts(protocols)))
}

fn model_of(yaml: &str) -> Model {
    let mut model = Model::default();
    model.update(&World::of(yaml).objects(), Instant::now());
    model
}

const PORTS: &str = "ports: [{name: http, port: 80, targetPort: 8080}, {name: grpc, port: 81}, {name: tcp, port: 82}]";

fn ports() -> String {
    shop().replacen("ports: [{name: http, port: 80, targetPort: 8080}]", PORTS, 1)
}

#[test]
fn endpoints_are_spoken_to_as_the_policy_says_and_one_for_a_port_comes_before_one_for_all() {
    let all = policy("all", 0, "name: web", &by_map("all.example"));
    let one = policy(
        "one",
        1,
        "name: web, sectionName: grpc",
        "hostname: one.example, wellKnownCACertificates: System",
    );
    let model = model_of(&(ports() + &config_map("ca") + &all + &one));
    let of_all = |protocols| expected("all.example", "ca", &["Dns all.example"], protocols);
    assert_eq!(tls(&model, "80"), of_all(&["http/1.1"]));
    assert_eq!(tls(&model, "82"), of_all(&[]));
    assert_eq!(
        tls(&model, "81"),
        expected("one.example", "system", &["Dns one.example"], &["h2"])
    );
    for name in ["all", "one"] {
        assert_eq!(
            conditions(&model, Kind::BackendTLSPolicy, "shop", name),
            [ACCEPTED, RESOLVED],
            "{name}"
        );
    }
    assert_eq!(endpoints(&model, "80"), 1);
    assert!(
        !findings(&model).iter().any(|text| text.contains("BackendTLSPolicy")),
        "{:?}",
        findings(&model)
    );
}

#[test]
fn without_certificates_there_is_no_endpoint_and_with_them_there_is_one_again() {
    let mut world = World::of(&(shop() + &policy("a", 0, "name: web", &by_map("a.example"))));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert_eq!(endpoints(&model, "80"), 0, "nothing goes in clear");
    let conditions_of = |model: &Model| conditions(model, Kind::BackendTLSPolicy, "shop", "a");
    let missing = [
        ("Accepted", false, "NoValidCACertificate"),
        ("ResolvedRefs", false, "InvalidCACertificateRef"),
    ];
    assert_eq!(conditions_of(&model), missing);
    world.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca, namespace: shop}\ndata: {ca.crt: nothing}\n");
    model.update(&world.objects(), Instant::now());
    assert_eq!((endpoints(&model, "80"), conditions_of(&model)), (0, missing.to_vec()));
    world.apply(&config_map("ca"));
    model.update(&world.objects(), Instant::now());
    assert_eq!(
        (endpoints(&model, "80"), conditions_of(&model)),
        (1, vec![ACCEPTED, RESOLVED])
    );
    assert!(tls(&model, "80").is_some());
    let name = ObjectName::new("shop", "a");
    world.assembly.remove(Kind::BackendTLSPolicy, &name);
    model.update(&world.objects(), Instant::now());
    assert_eq!((endpoints(&model, "80"), tls(&model, "80")), (1, None));
    assert!(model.routes().is_empty());
}

#[test]
fn a_policy_that_does_not_hold_says_why() {
    let of = |name: &str, created: u8, target: &str| policy(name, created, target, &by_map(&format!("{name}.example")));
    let secret = "hostname: a, caCertificateRefs: [{group: '', kind: Secret, name: ca}]";
    let objects = [
        of("young", 2, "name: web"),
        of("old", 1, "name: web"),
        of("nowhere", 0, "name: nobody"),
        of("portless", 0, "name: web, sectionName: nope"),
        of("outside", 0, "name: v1"),
        policy("secret", 0, "name: web, sectionName: http", secret),
        policy(
            "senseless",
            0,
            "name: web, sectionName: tcp",
            "hostname: '*.a', wellKnownCACertificates: System",
        ),
    ];
    let model = model_of(&(ports() + &config_map("ca") + &objects.concat()));
    for (name, expected) in [
        ("old", [ACCEPTED, RESOLVED]),
        ("young", [("Accepted", false, "Conflicted"), RESOLVED]),
        ("nowhere", [("Accepted", false, "TargetNotFound"), RESOLVED]),
        ("portless", [("Accepted", false, "TargetNotFound"), RESOLVED]),
        ("outside", [("Accepted", false, "TargetNotFound"), RESOLVED]),
        (
            "secret",
            [
                ("Accepted", false, "NoValidCACertificate"),
                ("ResolvedRefs", false, "InvalidKind"),
            ],
        ),
        ("senseless", [("Accepted", false, "Invalid"), RESOLVED]),
    ] {
        assert_eq!(
            conditions(&model, Kind::BackendTLSPolicy, "shop", name),
            expected,
            "{name}"
        );
    }
    assert_eq!(["80", "81", "82"].map(|port| endpoints(&model, port)), [0, 1, 0]);
    assert_eq!(tls(&model, "81").unwrap().0, "old.example");
}

#[test]
fn a_destination_rule_says_it_in_its_own_words_and_comes_before_a_policy() {
    let all = policy("all", 0, "name: web", &by_map("all.example"));
    let base = ports() + &config_map("ca") + &all;
    let own = "web.shop.svc.cluster.local";
    let own_name = format!("Dns {own}");
    for (said, at_80) in [
        (
            "tls: {mode: SIMPLE}",
            expected(own, "system", &[&own_name], &["http/1.1"]),
        ),
        (
            "tls: {mode: SIMPLE, caCertificates: system, sni: A.example, subjectAltNames: ['spiffe://a/b', b.example, 198.18.0.1]}",
            expected(
                "a.example",
                "system",
                &["Uri spiffe://a/b", "Dns b.example", "IpAddress 198.18.0.1"],
                &["http/1.1"],
            ),
        ),
        (
            "tls: {mode: SIMPLE, sni: a.example, insecureSkipVerify: true}, connectionPool: {http: {h2UpgradePolicy: UPGRADE}}",
            expected("a.example", "anybody", &[], &["h2"]),
        ),
        ("tls: {mode: DISABLE}", None),
        ("tls: {mode: ISTIO_MUTUAL}", None),
    ] {
        let model = model_of(&(base.clone() + &rule(&format!("trafficPolicy: {{{said}}}"))));
        assert_eq!((tls(&model, "80"), endpoints(&model, "80")), (at_80, 1), "{said}");
        let conflicted = [("Accepted", false, "Conflicted"), RESOLVED];
        assert_eq!(
            conditions(&model, Kind::BackendTLSPolicy, "shop", "all"),
            conflicted,
            "{said}"
        );
    }
    // A subset's own is for its endpoints alone.
    let subset = "subsets: [{name: v, labels: {app: web}, trafficPolicy: {tls: {mode: SIMPLE, sni: v.example}}}]";
    let model = model_of(&(base.clone() + &rule(subset)));
    let names = ["80/v", "80"].map(|port| tls(&model, port).unwrap().0);
    assert_eq!(names, ["v.example", "all.example"]);
    // At one port alone, the others are the policy's.
    let port = "trafficPolicy: {portLevelSettings: [{port: {number: 81}, tls: {mode: DISABLE}}]}";
    let model = model_of(&(base + &rule(port)));
    assert_eq!(
        (tls(&model, "81"), tls(&model, "80").unwrap().0),
        (None, "all.example".to_owned())
    );
}

#[test]
fn what_a_waypoint_does_not_have_for_tls_is_refused_and_not_left_out() {
    for said in [
        "tls: {mode: MUTUAL, credentialName: a}",
        "tls: {mode: SIMPLE, credentialName: a}",
        "tls: {mode: SIMPLE, caCertificates: /etc/certs/ca.pem}",
        "tls: {mode: SIMPLE, caCrl: /etc/certs/crl.pem}",
        "tls: {mode: SIMPLE, sni: '*.a'}",
        "tls: {mode: SIMPLE, subjectAltNames: ['a b']}",
    ] {
        let model = model_of(&(shop() + &rule(&format!("trafficPolicy: {{{said}}}"))));
        assert_eq!(endpoints(&model, "80"), 0, "{said}");
    }
}
