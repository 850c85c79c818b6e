//! What is traced and logged: the golden case of telemetry, and what is better of ours.

use culvert_envoy::pb::envoy::config::listener::v3::{Listener, filter::ConfigType};
use culvert_envoy::pb::envoy::config::trace::v3::{OpenTelemetryConfig, tracing::http};
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use culvert_envoy::{CLUSTER_TYPE, LISTENER_TYPE, unpack};
use culvert_http::{access_log::AccessLog, trace::Tracing};
use culvert_xds::server::Resources as _;
use prost::Message as _;

#[test]
fn spans_and_lines_are_as_istio_recorded_them_and_a_service_has_a_word_too() {
    let case = super::golden().join("29-telemetry");
    let model = super::modelled(&case);
    let snapshot = model.snapshot();
    let mut listeners = snapshot.all(LISTENER_TYPE).unwrap();
    let (_, inbound) = listeners.find(|(name, _)| name.ends_with("/inbound")).unwrap();
    let inbound = Listener::decode(&*inbound.body).unwrap();
    let mut seen = 0;
    for chain in &inbound.filter_chains {
        let Some(ConfigType::TypedConfig(config)) = &chain.filters.last().unwrap().config_type else {
            panic!("{}", chain.name);
        };
        let Ok(manager) = unpack::<HttpConnectionManager>(config) else {
            continue;
        };
        seen += 1;
        let tracing = manager.tracing.unwrap();
        Tracing::compile(&tracing, &|_| None).unwrap();
        assert_eq!(tracing.random_sampling.unwrap().value, 12.5, "{}", chain.name);
        let tags: Vec<&str> = tracing.custom_tags.iter().map(|tag| &*tag.tag).collect();
        assert_eq!(tags, ["agent", "who"]);
        let Some(http::ConfigType::TypedConfig(provider)) = tracing.provider.unwrap().config_type else {
            panic!("no provider");
        };
        let provider: OpenTelemetryConfig = unpack(&provider).unwrap();
        assert_eq!(provider.service_name, "wp.shop");
        let [log] = &*manager.access_log else {
            panic!("{}: {:?}", chain.name, manager.access_log);
        };
        AccessLog::compile(log).unwrap();
        // Istio passes over the object that is for the Service.
        let expected = if chain.name.contains("/cart.") { "none" } else { "lines" };
        assert_eq!(log.name, expected, "{}", chain.name);
        assert!(log.filter.is_some());
    }
    assert_eq!(seen, 5);
    let mut clusters = snapshot.all(CLUSTER_TYPE).unwrap();
    assert!(clusters.any(|(name, _)| name.ends_with("bank/spans.bank.svc.cluster.local:4317")));
}
