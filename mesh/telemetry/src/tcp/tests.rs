use prometheus_client::registry::Registry;

use super::*;

/// What Istio's ztunnel puts on its TCP metrics (`CommonTrafficLabels` in its `src/proxy/metrics.rs`), of which Istio's
/// standard metrics are the first part.
const ISTIOS: [&str; 27] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_service",
    "destination_service_namespace",
    "destination_service_name",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
    "source_region",
    "source_zone",
    "destination_region",
    "destination_zone",
];

fn labels(workload: &str) -> TcpLabels {
    TcpLabels {
        reporter: "source",
        source: EndLabels {
            workload: workload.into(),
            ..EndLabels::default()
        },
        service: "shop/cart.shop.svc.cluster.local".into(),
        security: SecurityPolicy::MutualTls,
        ..TcpLabels::default()
    }
}

fn metrics(settings: TcpSettings) -> (Registry, Arc<TcpMetrics>) {
    let metrics = Arc::new(TcpMetrics::new(settings));
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Arc::clone(&metrics)));
    (registry, metrics)
}

/// The lines of one metric.
fn lines(registry: &Registry, name: &str) -> Vec<String> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let is_of = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    text.lines().filter(is_of).map(str::to_owned).collect()
}

fn line(registry: &Registry, name: &str) -> String {
    let all = lines(registry, name);
    let [one] = all.as_slice() else { panic!("{all:?}") };
    one.clone()
}

#[test]
fn names_and_labels_are_istios() {
    let (registry, metrics) = metrics(TcpSettings::default());
    let series = metrics.series(&labels("web"));
    series.open();
    series.transferred(7, 11);
    let opened = line(&registry, "istio_tcp_connections_opened_total");
    assert!(opened.ends_with("} 1"), "{opened}");
    assert!(line(&registry, "istio_tcp_sent_bytes_total").ends_with("} 7"));
    assert!(line(&registry, "istio_tcp_received_bytes_total").ends_with("} 11"));
    let shown = opened.split_once('{').unwrap().1.rsplit_once('}').unwrap().0;
    let names: Vec<&str> = shown.split(',').map(|pair| pair.split_once('=').unwrap().0).collect();
    assert_eq!(names, ISTIOS);
    for pair in [
        r#"reporter="source""#,
        r#"source_workload="web""#,
        r#"source_principal="unknown""#,
        r#"source_zone="unknown""#,
        r#"destination_service="cart.shop.svc.cluster.local""#,
        r#"destination_service_name="cart""#,
        r#"destination_service_namespace="shop""#,
        r#"connection_security_policy="mutual_tls""#,
        r#"request_protocol="tcp""#,
        r#"response_flags="-""#,
    ] {
        assert!(opened.contains(pair), "{pair} is not in {opened}");
    }
}

#[test]
fn a_series_expires_when_idle_and_never_while_a_connection_is_open() {
    let metrics = TcpMetrics::new(TcpSettings {
        idle: Duration::from_secs(60),
        ..TcpSettings::default()
    });
    let (ended, open) = (metrics.series(&labels("ended")), metrics.series(&labels("open")));
    ended.open();
    ended.close();
    open.open();
    metrics.sweep_at(Duration::from_secs(10));
    metrics.sweep_at(Duration::from_secs(69));
    assert_eq!(metrics.len(), 2);
    metrics.sweep_at(Duration::from_secs(71));
    assert!(ended.expired() && !open.expired());
    assert_eq!(metrics.len(), 1);
    assert!(
        !metrics.series(&labels("ended")).expired(),
        "asked for again, there is a new one"
    );
}

#[test]
fn a_label_that_is_left_out_makes_one_series_of_those_that_differ_in_it_alone() {
    let (registry, metrics) = metrics(TcpSettings {
        dropped: "source_workload, source_app,".parse().unwrap(),
        ..TcpSettings::default()
    });
    for (workload, sent) in [("web", 5), ("api", 8)] {
        let series = metrics.series(&labels(workload));
        series.open();
        series.transferred(sent, 0);
    }
    let opened = line(&registry, "istio_tcp_connections_opened_total");
    assert!(opened.ends_with("} 2"), "{opened}");
    assert!(!opened.contains("source_workload=") && !opened.contains("source_app="));
    assert!(opened.contains("source_workload_namespace="), "{opened}");
    assert!(line(&registry, "istio_tcp_sent_bytes_total").ends_with("} 13"));
}

#[test]
fn a_label_that_there_is_not_is_refused_with_the_names_of_those_that_there_are() {
    let error = "source_workload,source_wrkload".parse::<DroppedLabels>().unwrap_err();
    assert_eq!(error, LabelError::Unknown("source_wrkload".to_owned()));
    let text = error.to_string();
    assert!(ISTIOS.iter().all(|name| text.contains(name)), "{text}");
    assert_eq!("reporter".parse::<DroppedLabels>(), Err(LabelError::Needed));
    for nothing in ["", " ", ","] {
        assert_eq!(nothing.parse(), Ok(DroppedLabels::default()), "{nothing:?}");
    }
}

#[test]
fn beyond_the_limit_new_series_are_counted_together_and_it_shows() {
    let (registry, metrics) = metrics(TcpSettings {
        limit: 3,
        idle: Duration::from_secs(60),
        ..TcpSettings::default()
    });
    for number in 0..10 {
        let series = metrics.series(&labels(&format!("web-{number}")));
        series.open();
        series.close();
    }
    let opened = lines(&registry, "istio_tcp_connections_opened_total");
    assert_eq!(opened.len(), 4, "{opened:?}");
    let together: Vec<_> = opened.iter().filter(|line| line.contains("overflow")).collect();
    let [together] = together.as_slice() else {
        panic!("{opened:?}")
    };
    assert!(together.ends_with("} 7"), "{together}");
    for pair in [
        r#"source_workload="overflow""#,
        r#"destination_service="overflow""#,
        r#"reporter="source""#,
        r#"connection_security_policy="mutual_tls""#,
    ] {
        assert!(together.contains(pair), "{pair} is not in {together}");
    }
    assert_eq!(line(&registry, "culvert_tcp_series"), "culvert_tcp_series 4");
    assert_eq!(
        line(&registry, "culvert_tcp_series_limit"),
        "culvert_tcp_series_limit 3"
    );
    assert_eq!(
        line(&registry, "culvert_tcp_series_overflows_total"),
        "culvert_tcp_series_overflows_total 7"
    );
    metrics.sweep_at(Duration::from_secs(10));
    metrics.sweep_at(Duration::from_secs(71));
    metrics.series(&labels("late")).open();
    let opened = line(&registry, "istio_tcp_connections_opened_total");
    assert!(
        opened.contains(r#"source_workload="late""#),
        "there is room again: {opened}"
    );
}
