//! Our messages, reduced to what a request meets.

use std::collections::BTreeMap;

use culvert_controller::model::Model;
use culvert_envoy::pb::envoy::config::cluster::v3::{
    Cluster,
    cluster::{ClusterDiscoveryType, DiscoveryType},
};
use culvert_envoy::pb::envoy::config::core::v3::data_source::Specifier;
use culvert_envoy::pb::envoy::config::core::v3::{
    HeaderValueOption, address::Address, header_value_option::HeaderAppendAction, socket_address::PortSpecifier,
};
use culvert_envoy::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier};
use culvert_envoy::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use culvert_envoy::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use culvert_envoy::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use culvert_envoy::pb::envoy::config::route::v3::route::Action;
use culvert_envoy::pb::envoy::config::route::v3::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use culvert_envoy::pb::envoy::config::route::v3::route_action::{HashPolicy, hash_policy::PolicySpecifier};
use culvert_envoy::pb::envoy::config::route::v3::route_match::PathSpecifier;
use culvert_envoy::pb::envoy::config::route::v3::{
    RedirectAction, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch,
};
use culvert_envoy::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use culvert_envoy::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use culvert_envoy::pb::envoy::extensions::filters::http::fault::v3::{HttpFault, fault_abort::ErrorType};
use culvert_envoy::pb::envoy::r#type::matcher::v3::{
    StringMatcher, filter_state_matcher, string_matcher::MatchPattern,
};
use culvert_envoy::pb::envoy::r#type::v3::FractionalPercent;
use culvert_envoy::pb::google::protobuf::Duration;
use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, ROUTE_TYPE, unpack};
use culvert_xds::server::Resources as _;
use prost::Message as _;
use serde_json::{Map, Value, json};

/// `HOST:PORT` without the domain of the cluster, of a resource's name.
pub(super) fn short(name: &str) -> String {
    let name = name.strip_prefix("shop/wp/").unwrap();
    match name.split_once('/') {
        Some((_, host)) => host.replace(".svc.cluster.local", ""),
        None => "missing".to_owned(),
    }
}

/// Routes by host name, by chain.
pub(super) fn chains(model: &Model) -> BTreeMap<String, Value> {
    let all = model.snapshot().all(ROUTE_TYPE).unwrap();
    all.map(|(name, entry)| {
        let made = RouteConfiguration::decode(&*entry.body).unwrap();
        let hosts = made.virtual_hosts.iter().map(|host| {
            let routes: Vec<Value> = host.routes.iter().map(route).collect();
            (host.domains.join(","), routes.into())
        });
        (short(name), Value::Object(hosts.collect()))
    })
    .collect()
}

fn route(route: &Route) -> Value {
    let mut to = Map::new();
    match route.action.as_ref().unwrap() {
        Action::DirectResponse(direct) => {
            to.insert("fail".to_owned(), direct.status.into());
            if let Some(Specifier::InlineBytes(body)) = direct.body.as_ref().and_then(|body| body.specifier.as_ref()) {
                to.insert("body".to_owned(), json!(String::from_utf8_lossy(body)));
            }
        }
        Action::Redirect(redirect) => drop(to.insert("redirect".to_owned(), reduce_redirect(redirect))),
        Action::Route(action) => forward(action, &mut to),
        other => panic!("{other:?}"),
    }
    headers(&route.request_headers_to_add, "request", &mut to);
    headers(&route.response_headers_to_add, "response", &mut to);
    removed(&route.request_headers_to_remove, "requestRemove", &mut to);
    removed(&route.response_headers_to_remove, "responseRemove", &mut to);
    if let Some(cors) = route.typed_per_filter_config.get("envoy.filters.http.cors") {
        to.insert("cors".to_owned(), reduce_cors(&unpack(cors).unwrap()));
    }
    if let Some(fault) = route.typed_per_filter_config.get("envoy.filters.http.fault") {
        to.insert("fault".to_owned(), reduce_fault(&unpack(fault).unwrap()));
    }
    json!({"match": reduce_match(route.r#match.as_ref().unwrap()), "to": to})
}

fn forward(action: &RouteAction, to: &mut Map<String, Value>) {
    let clusters: Vec<Value> = match action.cluster_specifier.as_ref().unwrap() {
        ClusterSpecifier::Cluster(name) => vec![json!([short(name), 1])],
        ClusterSpecifier::WeightedClusters(all) => all
            .clusters
            .iter()
            .map(|one| {
                let mut more = Map::new();
                headers(&one.request_headers_to_add, "request", &mut more);
                headers(&one.response_headers_to_add, "response", &mut more);
                let mut made = json!([short(&one.name), one.weight.unwrap().value]);
                made.as_array_mut()
                    .unwrap()
                    .extend((!more.is_empty()).then_some(more.into()));
                made
            })
            .collect(),
        other => panic!("{other:?}"),
    };
    to.insert("clusters".to_owned(), clusters.into());
    to.insert("timeout".to_owned(), seconds(action.timeout.as_ref().unwrap()));
    to.insert(
        "retry".to_owned(),
        action.retry_policy.as_ref().map_or(Value::Null, retry),
    );
    if !action.hash_policy.is_empty() {
        to.insert("hash".to_owned(), action.hash_policy.iter().map(hash).collect());
    }
    if !action.prefix_rewrite.is_empty() {
        to.insert("prefixRewrite".to_owned(), json!(action.prefix_rewrite));
    }
    if let Some(rewrite) = &action.regex_rewrite {
        to.insert(
            "regexRewrite".to_owned(),
            json!([rewrite.pattern.as_ref().unwrap().regex, rewrite.substitution]),
        );
    }
    if let Some(HostRewriteSpecifier::HostRewriteLiteral(host)) = &action.host_rewrite_specifier {
        to.insert("host".to_owned(), json!(host));
    }
    let mirrors: Vec<Value> = action
        .request_mirror_policies
        .iter()
        .map(|mirror| {
            let fraction = mirror
                .runtime_fraction
                .as_ref()
                .unwrap()
                .default_value
                .as_ref()
                .unwrap();
            json!([short(&mirror.cluster), fraction.numerator])
        })
        .collect();
    if !mirrors.is_empty() {
        to.insert("mirrors".to_owned(), mirrors.into());
    }
}

fn headers(options: &[HeaderValueOption], key: &str, to: &mut Map<String, Value>) {
    let one = |option: &HeaderValueOption| {
        let header = option.header.as_ref().unwrap();
        let how = match option.append_action() {
            HeaderAppendAction::OverwriteIfExistsOrAdd => "set",
            _ => "append",
        };
        format!("{how} {}: {}", header.key, header.value)
    };
    if !options.is_empty() {
        to.insert(key.to_owned(), options.iter().map(one).collect());
    }
}

fn removed(names: &[String], key: &str, to: &mut Map<String, Value>) {
    if !names.is_empty() {
        to.insert(key.to_owned(), json!(names));
    }
}

fn seconds(duration: &Duration) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "they are few")]
    let seconds = duration.seconds as f64 + f64::from(duration.nanos) / 1e9;
    json!(seconds)
}

fn retry(policy: &RetryPolicy) -> Value {
    let mut made = json!({"on": policy.retry_on, "attempts": policy.num_retries.unwrap().value});
    if !policy.retriable_status_codes.is_empty() {
        made["codes"] = json!(policy.retriable_status_codes);
    }
    if let Some(timeout) = &policy.per_try_timeout {
        made["perTry"] = seconds(timeout);
    }
    if let Some(backoff) = &policy.retry_back_off {
        made["backoff"] = seconds(backoff.base_interval.as_ref().unwrap());
    }
    made
}

fn reduce_match(from: &RouteMatch) -> Value {
    let mut made = Map::new();
    let (key, value) = match from.path_specifier.as_ref().unwrap() {
        PathSpecifier::Path(path) => ("path", path),
        PathSpecifier::Prefix(path) => ("prefix", path),
        PathSpecifier::PathSeparatedPrefix(path) => ("pathSeparatedPrefix", path),
        PathSpecifier::SafeRegex(regex) => ("regex", &regex.regex),
        other => panic!("{other:?}"),
    };
    made.insert(key.to_owned(), json!(value));
    if from.case_sensitive.is_some_and(|flag| !flag.value) {
        made.insert("ignoresCase".to_owned(), true.into());
    }
    let headers: Vec<Value> = from
        .headers
        .iter()
        .map(|header| match header.header_match_specifier.as_ref().unwrap() {
            HeaderMatchSpecifier::StringMatch(text) if header.invert_match => {
                json!({"not": named(&header.name, text)})
            }
            HeaderMatchSpecifier::StringMatch(text) => named(&header.name, text),
            HeaderMatchSpecifier::PresentMatch(true) if header.invert_match => json!({"not": [header.name]}),
            HeaderMatchSpecifier::PresentMatch(true) => json!([header.name]),
            other => panic!("{other:?}"),
        })
        .collect();
    let query: Vec<Value> = from
        .query_parameters
        .iter()
        .map(
            |parameter| match parameter.query_parameter_match_specifier.as_ref().unwrap() {
                QueryParameterMatchSpecifier::StringMatch(text) => named(&parameter.name, text),
                other @ QueryParameterMatchSpecifier::PresentMatch(_) => panic!("{other:?}"),
            },
        )
        .collect();
    let clients: Vec<Value> = from
        .filter_state
        .iter()
        .map(|state| match state.matcher.as_ref().unwrap() {
            filter_state_matcher::Matcher::StringMatch(text) => named(&state.key, text),
            other @ filter_state_matcher::Matcher::AddressMatch(_) => panic!("{other:?}"),
        })
        .collect();
    for (key, list) in [("headers", headers), ("query", query), ("clients", clients)] {
        if !list.is_empty() {
            made.insert(key.to_owned(), list.into());
        }
    }
    made.into()
}

fn named(name: &str, text: &StringMatcher) -> Value {
    match text.match_pattern.as_ref().unwrap() {
        MatchPattern::Exact(text) => json!([name, "exact", text]),
        MatchPattern::SafeRegex(regex) => json!([name, "regex", regex.regex]),
        MatchPattern::Contains(text) => json!([name, "contains", text]),
        MatchPattern::Prefix(text) => json!([name, "prefix", text]),
        other => panic!("{other:?}"),
    }
}

fn reduce_redirect(from: &RedirectAction) -> Value {
    let path = match &from.path_rewrite_specifier {
        Some(PathRewriteSpecifier::PathRedirect(path)) => json!(path),
        other => json!(format!("{other:?}")),
    };
    let scheme = match &from.scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => json!(scheme),
        _ => Value::Null,
    };
    let code = match from.response_code() {
        RedirectResponseCode::MovedPermanently => 301,
        RedirectResponseCode::Found => 302,
        RedirectResponseCode::SeeOther => 303,
        RedirectResponseCode::TemporaryRedirect => 307,
        RedirectResponseCode::PermanentRedirect => 308,
    };
    json!({"host": from.host_redirect, "path": path, "scheme": scheme, "code": code})
}

fn reduce_fault(from: &HttpFault) -> Value {
    let share = |share: Option<FractionalPercent>| share.unwrap().numerator;
    let delay = from.delay.as_ref().map(|delay| match &delay.fault_delay_secifier {
        Some(FaultDelaySecifier::FixedDelay(time)) => json!([seconds(time), share(delay.percentage)]),
        other => panic!("{other:?}"),
    });
    let abort = from.abort.as_ref().map(|abort| match &abort.error_type {
        Some(ErrorType::HttpStatus(status)) => json!([status, share(abort.percentage)]),
        other => panic!("{other:?}"),
    });
    json!({"delay": delay, "abort": abort})
}

fn hash(from: &HashPolicy) -> Value {
    match from.policy_specifier.as_ref().unwrap() {
        PolicySpecifier::Header(header) => json!(["header", header.header_name]),
        PolicySpecifier::QueryParameter(query) => json!(["query", query.name]),
        PolicySpecifier::Cookie(cookie) => {
            json!([
                "cookie",
                cookie.name,
                cookie.path,
                seconds(cookie.ttl.as_ref().unwrap())
            ])
        }
        PolicySpecifier::ConnectionProperties(_) => json!(["source"]),
        other => panic!("{other:?}"),
    }
}

fn reduce_cors(from: &CorsPolicy) -> Value {
    let origins = from
        .allow_origin_string_match
        .iter()
        .map(|origin| match origin.match_pattern.as_ref().unwrap() {
            MatchPattern::Exact(text) => json!(["exact", text]),
            MatchPattern::SafeRegex(regex) => json!(["regex", regex.regex]),
            other => panic!("{other:?}"),
        });
    json!({
        "origins": origins.collect::<Vec<_>>(),
        "methods": from.allow_methods, "headers": from.allow_headers, "expose": from.expose_headers,
        "maxAge": from.max_age, "credentials": from.allow_credentials.is_some_and(|flag| flag.value),
    })
}

/// Addresses or names of endpoints with their localities, by `HOST:PORT`.
pub(super) fn endpoints(model: &Model) -> BTreeMap<String, Vec<String>> {
    let told = model.snapshot().all(ENDPOINT_TYPE).unwrap();
    let told = told.map(|(name, entry)| (short(name), ClusterLoadAssignment::decode(&*entry.body).unwrap()));
    let clusters = model.snapshot().all(CLUSTER_TYPE).unwrap();
    let named = clusters.filter_map(|(name, entry)| {
        let cluster = Cluster::decode(&*entry.body).unwrap();
        let is_named = matches!(kind(&cluster), DiscoveryType::StrictDns | DiscoveryType::LogicalDns);
        Some((short(name), cluster.load_assignment.filter(|_| is_named)?))
    });
    told.chain(named).map(|(name, made)| (name, listed(&made))).collect()
}

/// How the endpoints of a cluster are found.
pub(super) fn kind(cluster: &Cluster) -> DiscoveryType {
    match cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(kind).unwrap(),
        ref other => panic!("{other:?}"),
    }
}

fn listed(made: &ClusterLoadAssignment) -> Vec<String> {
    let mut list = Vec::new();
    for group in &made.endpoints {
        let locality = group.locality.clone().unwrap_or_default();
        let parts = [locality.region, locality.zone, locality.sub_zone];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        for endpoint in &group.lb_endpoints {
            let Some(HostIdentifier::Endpoint(place)) = &endpoint.host_identifier else {
                panic!("{endpoint:?}")
            };
            let at = match place.address.as_ref().unwrap().address.as_ref() {
                Some(Address::EnvoyInternalAddress(at)) => at.endpoint_id.clone(),
                Some(Address::SocketAddress(at)) => match at.port_specifier {
                    Some(PortSpecifier::PortValue(port)) => format!("{}:{port}", at.address),
                    _ => panic!("{place:?}"),
                },
                _ => panic!("{place:?}"),
            };
            let weight = endpoint
                .load_balancing_weight
                .map(|weight| format!("weight {}", weight.value));
            let text = format!("{at} {} {}", parts.join("/"), weight.unwrap_or_default());
            list.push(text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    list.sort();
    list
}
