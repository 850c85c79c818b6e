//! What Telemetry objects and the mesh's providers say of a Service's requests, and what is wrong with such an object.

use std::sync::Arc;

use culvert_objects::mesh_config::{MeshConfig, ProviderKind};
use culvert_objects::{Gateway, Key, ObjectName, Target, Telemetry as Object};
use culvert_proto::workload::Service;
use serde_json::Value;

use super::super::mesh_config;
use super::super::reader::Reader;
use super::super::wire;
use super::{hosts, ports, scope};
use crate::routing::envoy::telemetry::refused;
use crate::routing::read::metrics;
use crate::routing::read::notes::Notes;
use crate::routing::read::providers::providers;
use crate::routing::read::telemetry::{self, Level};
use crate::routing::telemetry::{Log, Receiver, Telemetry, Tracing};
use culvert_envoy::names;

/// What an object is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Aim {
    /// All waypoints of its namespace; of the root namespace, all of the mesh.
    Namespace,
    Targets(Vec<Target>),
    /// Pods, at which nobody reads requests.
    Pods,
}

/// What holds for a Service that is behind the waypoint of `gateway`.
pub(super) fn of_service(reader: &Reader<'_>, gateway: &ObjectName, service: &Service) -> Telemetry {
    let levels: Vec<Level> = levels(reader, gateway, service)
        .into_iter()
        .map(|(_, object)| telemetry::level(&object.spec, &mut Notes::default()))
        .collect();
    let nothing = MeshConfig::default();
    let config = mesh_config::of(reader).map_or(&nothing, |config| &**config);
    let defaults = config.default_providers.clone().unwrap_or_default();
    let logs = telemetry::logging(&levels, &defaults.access_logging);
    let tracing = telemetry::tracing(&levels, &defaults.tracing);
    let counted = levels.iter().flat_map(|level| &level.metrics);
    let counted = counted.filter(|one| is_counted(config, &one.providers));
    Telemetry {
        metrics: metrics::merged(counted),
        logs: logs.map(|logs| {
            logs.into_iter()
                .filter_map(|(name, filter)| log(config, name, filter))
                .collect()
        }),
        tracing: tracing.and_then(|spec| {
            let (receiver, cluster, host) = receiver(reader, config, &scope::of_gateway(gateway), &spec.provider)?;
            Some(Tracing {
                receiver,
                cluster,
                host,
                sampling: spec.sampling,
                tags: spec.tags,
            })
        }),
    }
}

/// Whether an entry of these providers is for the metrics that Prometheus fetches, of which alone there are any.
fn is_counted(config: &MeshConfig, providers: &[String]) -> bool {
    let kind = |name: &String| config.provider(name).map(|provider| &provider.kind);
    let is_prometheus = |name: &String| kind(name) == Some(&ProviderKind::Prometheus);
    providers.is_empty() || providers.iter().any(is_prometheus)
}

/// Whether requests to a Service that is behind the waypoint `scope` are traced.
pub(super) fn is_traced(reader: &Reader<'_>, scope: &str, service: &Service) -> bool {
    let gateway = scope
        .split_once('/')
        .map(|(namespace, name)| ObjectName::new(namespace, name));
    gateway.is_some_and(|gateway| of_service(reader, &gateway, service).tracing.is_some())
}

/// A provider's log, if it is one that a waypoint can write.
fn log(config: &MeshConfig, name: String, filter: Option<String>) -> Option<Log> {
    match &config.provider(&name)?.kind {
        ProviderKind::FileAccessLog(file) => {
            let log = Log {
                name,
                file: file.clone(),
                filter,
            };
            refused(&log).is_none().then_some(log)
        }
        _ => None,
    }
}

/// A provider of spans: what it takes, its cluster and its host.
fn receiver(
    reader: &Reader<'_>,
    config: &MeshConfig,
    scope: &str,
    provider: &str,
) -> Option<(Receiver, String, String)> {
    let receiver = match &config.provider(provider)?.kind {
        ProviderKind::OpenTelemetry(provider) => Receiver::OpenTelemetry(provider.clone()),
        ProviderKind::Zipkin(provider) => Receiver::Zipkin(provider.clone()),
        _ => return None,
    };
    let exporter = match &receiver {
        Receiver::OpenTelemetry(provider) => &provider.exporter,
        Receiver::Zipkin(provider) => &provider.exporter,
    };
    if unreachable(reader, &config.provider(provider)?.kind).is_some() {
        return None;
    }
    let (resource, host) = named(reader, &exporter.service);
    let service = reader.derived_service(&resource)?;
    ports::of_service(&service).find(|port| *port == exporter.port)?;
    let cluster = names::cluster(scope, &resource, exporter.port, None);
    Some((receiver, cluster, host))
}

/// The resource name and host of a Service that a provider calls `[NAMESPACE/]HOST`.
fn named(reader: &Reader<'_>, service: &str) -> (String, String) {
    match service.split_once('/') {
        Some((namespace, host)) => (hosts::resource_name(reader, host, namespace), host.to_owned()),
        None => {
            let root = reader.settings().root_namespace.clone();
            (hosts::resource_name(reader, service, &root), service.to_owned())
        }
    }
}

/// The waypoints that may send spans to a Service: all, where a provider names it.
pub(super) fn scopes(reader: &Reader<'_>, service: &str) -> Vec<Arc<str>> {
    let Some(config) = mesh_config::of(reader) else {
        return Vec::new();
    };
    let names_it = config.providers.iter().any(|provider| {
        let exporter = match &provider.kind {
            ProviderKind::OpenTelemetry(provider) => &provider.exporter,
            ProviderKind::Zipkin(provider) => &provider.exporter,
            _ => return false,
        };
        named(reader, &exporter.service).0 == service
    });
    if !names_it {
        return Vec::new();
    }
    let gateways: Vec<ObjectName> = reader.all::<Gateway>().map(|(name, _)| name.clone()).collect();
    let ours = gateways.iter().filter(|name| scope::gateway(reader, name).is_some());
    ours.map(scope::of_gateway).collect()
}

/// The objects for a Service, the widest first: of each width the oldest alone.
fn levels<'a>(reader: &Reader<'a>, gateway: &ObjectName, service: &Service) -> Vec<(&'a ObjectName, &'a Arc<Object>)> {
    let root = reader.settings().root_namespace.clone();
    let class = scope::gateway(reader, gateway).and_then(|gateway| gateway.spec["gatewayClassName"].as_str());
    let of_root = in_namespace(reader, &root);
    let of_gateway = in_namespace(reader, &gateway.namespace);
    let of_service = in_namespace(reader, &service.namespace);
    let is_target = |object: &Object, name: &ObjectName, kind: &str, wanted: &ObjectName| match aim(&object.spec) {
        Aim::Targets(targets) => targets
            .iter()
            .any(|target| &*target.kind == kind && scope::is_target_group(target) && target.object(name) == *wanted),
        Aim::Namespace | Aim::Pods => false,
    };
    let wide = |list: &[Found<'a>]| {
        list.iter()
            .copied()
            .find(|(_, object)| aim(&object.spec) == Aim::Namespace)
    };
    let mut found: Vec<Found<'a>> = wide(&of_root).into_iter().collect();
    if let Some(class) = class {
        let class = ObjectName::cluster(class);
        let mut all = of_root.iter().copied();
        found.extend(all.find(|(name, object)| is_target(object, name, "GatewayClass", &class)));
    }
    if root != *gateway.namespace {
        found.extend(wide(&of_gateway));
    }
    let mut all = of_gateway.iter().copied();
    found.extend(all.find(|(name, object)| is_target(object, name, "Gateway", gateway)));
    let mut all = of_service.iter().copied();
    found.extend(match wire::object_of_host(reader.settings(), &service.hostname) {
        Some(object_name) if *object_name.namespace == *service.namespace => {
            all.find(|(name, object)| is_target(object, name, "Service", &object_name))
        }
        _ => None,
    });
    found
}

type Found<'a> = (&'a ObjectName, &'a Arc<Object>);

/// All of a namespace, the oldest first.
fn in_namespace<'a>(reader: &Reader<'a>, namespace: &str) -> Vec<Found<'a>> {
    let mut found: Vec<Found<'a>> = reader.find::<Object>(Key::all_in("Telemetry", namespace)).collect();
    found.retain(|(name, _)| *name.namespace == *namespace);
    found.sort_by(|a, b| {
        let age = |found: &Found<'_>| found.1.created.as_ref().map(|time| time.0);
        (age(a), a.0).cmp(&(age(b), b.0))
    });
    found
}

fn aim(spec: &Value) -> Aim {
    let one = (!spec["targetRef"].is_null()).then_some(&spec["targetRef"]);
    let many = spec["targetRefs"].as_array().into_iter().flatten();
    let targets: Vec<&Value> = one.into_iter().chain(many).collect();
    if !targets.is_empty() {
        return Aim::Targets(targets.into_iter().filter_map(Target::of).collect());
    }
    let labels = spec["selector"]["matchLabels"].as_object();
    match labels.is_some_and(|labels| !labels.is_empty()) {
        true => Aim::Pods,
        false => Aim::Namespace,
    }
}

/// What of an object is not in force, and why.
pub(super) fn findings(reader: &Reader<'_>, name: &ObjectName, object: &Object) -> Vec<(String, String)> {
    let mut notes = Notes::default();
    let level = telemetry::level(&object.spec, &mut notes);
    let mut found: Vec<_> = notes
        .all()
        .iter()
        .map(|note| (note.field.clone(), note.message.clone()))
        .collect();
    let nothing = MeshConfig::default();
    let config = mesh_config::of(reader).map_or(&nothing, |config| &**config);
    for (field, is_right, what) in [
        ("tracing", is_of_spans as fn(&ProviderKind) -> bool, "spans"),
        ("accessLogging", is_of_lines, "lines of access logs"),
    ] {
        for (index, entry) in object.spec[field].as_array().into_iter().flatten().enumerate() {
            for (at, provider) in providers(entry).iter().enumerate() {
                let at = format!("spec.{field}[{index}].providers[{at}]");
                match config.provider(provider) {
                    None => found.push((at, format!("there is no provider {provider:?}: nothing goes there"))),
                    Some(known) if !is_right(&known.kind) => {
                        found.push((at, format!("provider {provider:?} takes no {what}: nothing goes there")));
                    }
                    Some(known) => found.extend(unreachable(reader, &known.kind).map(|why| (at, why))),
                }
            }
        }
    }
    for (index, entry) in object.spec["metrics"].as_array().into_iter().flatten().enumerate() {
        let at = format!("spec.metrics[{index}]");
        if !is_counted(config, &providers(entry)) {
            let why = "metrics are for Prometheus alone: nothing follows from the entry";
            found.push((format!("{at}.providers"), why.to_owned()));
        }
        if !entry["reportingInterval"].is_null() {
            let why = "has no effect: metrics are there whenever they are fetched";
            found.push((format!("{at}.reportingInterval"), why.to_owned()));
        }
        if has_envoy(reader) && entry["overrides"].as_array().is_some_and(|list| !list.is_empty()) {
            let why = "waypoints of class culvert-envoy count no metrics of Istio's: it holds at the others alone";
            found.push((format!("{at}.overrides"), why.to_owned()));
        }
    }
    let logs = level.logging.iter().enumerate();
    for (index, entry) in logs {
        for provider in &entry.providers {
            let Some(ProviderKind::FileAccessLog(file)) = config.provider(provider).map(|found| &found.kind) else {
                continue;
            };
            let log = Log {
                name: provider.clone(),
                file: file.clone(),
                filter: entry.filter.clone(),
            };
            if let Some(why) = refused(&log) {
                found.push((
                    format!("spec.accessLogging[{index}]"),
                    format!("{why}: no line goes there"),
                ));
            }
        }
    }
    match aim(&object.spec) {
        Aim::Pods => found.push((
            "spec.selector".to_owned(),
            "waypoints alone log, count and trace requests, and it names pods: nothing follows from it. Use `targetRefs`"
                .to_owned(),
        )),
        Aim::Namespace => {}
        Aim::Targets(targets) => {
            for (index, target) in targets.iter().enumerate() {
                if let Err(why) = reached(reader, name, target) {
                    found.push((format!("spec.targetRefs[{index}]"), why));
                }
            }
        }
    }
    let older = in_namespace(reader, &name.namespace);
    let mut older = older.into_iter().take_while(|(other, _)| *other != name);
    if let Some((other, _)) = older.find(|(_, other)| aim(&other.spec) == aim(&object.spec)) {
        found.push((
            "spec".to_owned(),
            format!("Telemetry {other} is for the same and older, and holds instead"),
        ));
    }
    found
}

/// Whether there is a waypoint that is Envoy.
fn has_envoy(reader: &Reader<'_>) -> bool {
    let mut gateways = reader.all::<Gateway>();
    gateways.any(|(_, gateway)| gateway.spec["gatewayClassName"] == "culvert-envoy")
}

fn is_of_spans(kind: &ProviderKind) -> bool {
    matches!(kind, ProviderKind::OpenTelemetry(_) | ProviderKind::Zipkin(_))
}

fn is_of_lines(kind: &ProviderKind) -> bool {
    matches!(kind, ProviderKind::FileAccessLog(_))
}

/// Why a provider's Service cannot be sent anything.
fn unreachable(reader: &Reader<'_>, kind: &ProviderKind) -> Option<String> {
    let exporter = match kind {
        ProviderKind::OpenTelemetry(provider) => &provider.exporter,
        ProviderKind::Zipkin(provider) => &provider.exporter,
        _ => return None,
    };
    let is_bad = |(name, value): &&(String, String)| {
        http::HeaderName::try_from(&**name).is_err() || http::HeaderValue::try_from(&**value).is_err()
    };
    if let Some((name, _)) = exporter.headers.iter().find(is_bad) {
        return Some(format!("its header {name:?} is none: nothing goes there"));
    }
    let (resource, host) = named(reader, &exporter.service);
    let Some(service) = reader.derived_service(&resource) else {
        return Some(format!("there is no service {host}: nothing goes there"));
    };
    let port = exporter.port;
    if !ports::of_service(&service).any(|known| known == port) {
        return Some(format!("service {host} has no port {port}: nothing goes there"));
    }
    None
}

/// Whether a target is there, and behind a waypoint, or one.
fn reached(reader: &Reader<'_>, name: &ObjectName, target: &Target) -> Result<(), String> {
    let object = target.object(name);
    let kind = &target.kind;
    match &**kind {
        _ if !scope::is_target_group(target) => Err(format!("waypoints are for no {kind} of group {:?}", target.group)),
        "GatewayClass" if *name.namespace != *reader.settings().root_namespace => Err(format!(
            "only an object of namespace {} is for a class: nothing follows from it",
            reader.settings().root_namespace
        )),
        "GatewayClass" => Ok(()),
        _ if *object.namespace != *name.namespace => Err(format!("{kind} {object} is in another namespace")),
        "Gateway" if scope::gateway(reader, &object).is_some() => Ok(()),
        "Gateway" => Err(format!("there is no waypoint {object} of Culvert")),
        "ServiceEntry" => Err("ServiceEntries are not served here: nothing follows from it".to_owned()),
        _ if scope::of_target(reader, name, target) => Ok(()),
        _ => Err(format!(
            "{kind} {object} is behind no waypoint of Culvert, or is not there"
        )),
    }
}
