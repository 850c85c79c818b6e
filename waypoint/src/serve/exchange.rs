//! One request, from its head to its answer.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use culvert_http::{
    Action, Found, Peer, Route, RouteTable,
    filters::{Override, Session},
    route::Target,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    ask::Asking,
    connection::Connection,
    direct,
    filtering::{Filtered, Filtering},
    forward::{Forwarding, Sent},
    upgrade::Upgrade,
};
use crate::{
    answer::{AnswerBody, local, refuse},
    body::Upload,
    config::{
        filters::{Filter, NamedFilter},
        http_chain::HttpChain,
    },
    headers::{self, BadRequest},
    limits::TimeLimits,
    state::Snapshot,
    telemetry::{Observed, Record},
};

/// Bytes of a request's body that are kept for another attempt.
const KEPT: usize = 64 << 10;

/// Answers a request.
pub(super) async fn serve(connection: Arc<Connection>, request: Request<Incoming>) -> Response<AnswerBody> {
    let version = request.version();
    let response = respond(&connection, request).await;
    match connection.is_ending() {
        true => last(version, response),
        false => response,
    }
}

async fn respond(connection: &Connection, request: Request<Incoming>) -> Response<AnswerBody> {
    let inner = &connection.worker.0;
    let begun = Instant::now();
    // Policies that changed hold for requests of open connections, too.
    let (chain, snapshot) = connection.in_force();
    let (mut head, body) = request.into_parts();
    let upgrade = Upgrade::of(&mut head);
    let mut record = Box::new(Record::new(
        &inner.telemetry,
        &connection.client,
        &chain.service,
        connection.destination,
        &head,
    ));
    record.underway = Some(connection.begin());
    record.metrics.clone_from(&chain.observing.metrics);
    record.observed = Observed::new(&chain.observing, &inner.spans, &inner.lines, &head);
    let (version, is_connect) = (head.version, head.method == Method::CONNECT);
    let upload = Upload::new(body, KEPT);
    if record.is_grpc {
        upload.count_messages();
    }
    record.upload = Some(upload.clone());
    if head.version == Version::HTTP_10
        && let Some(host) = &chain.http10_host
    {
        // Names no host where it is as old as its version.
        head.headers.entry(header::HOST).or_insert_with(|| host.clone());
    } else if head.version == Version::HTTP_10 {
        return last(
            version,
            refuse(record, StatusCode::UPGRADE_REQUIRED, "DPE", "low_version", ""),
        );
    }
    let Some(held) = inner.request() else {
        return refuse(record, StatusCode::SERVICE_UNAVAILABLE, "UO", "overload", "overloaded");
    };
    head.extensions.clear();
    let received = headers::receive(&mut head, &connection.client_address);
    let normalized = received.and_then(|()| headers::normalize(&mut head, chain.normalize_path, chain.merge_slashes));
    if let Err(bad) = normalized {
        let (status, details) = match bad {
            BadRequest::Host => (StatusCode::BAD_REQUEST, "missing_host_header"),
            BadRequest::Path => (StatusCode::BAD_REQUEST, "path_rejected"),
            BadRequest::Coding => (StatusCode::NOT_IMPLEMENTED, "unsupported_transfer_encoding"),
        };
        return last(version, refuse(record, status, "DPE", details, ""));
    }
    if let Some(observed) = &mut record.observed {
        observed.trace(&mut head);
    }
    record.request_id = headers::text(&head.headers, "x-request-id");
    let sent = upload.clone();
    let exchange = Exchange {
        connection,
        chain,
        snapshot,
        head,
        upload,
        upgrade,
        begun,
    };
    let response = exchange.answer(record).await.map(|body| body.holding(held));
    match response.status() {
        // What follows may be meant for the tunnel that is not there.
        status if is_connect && !status.is_success() => last(version, response),
        // What follows is the rest of the request that took too long (RFC 9110 section 15.5.9).
        StatusCode::REQUEST_TIMEOUT if !sent.has_ended() => last(version, response),
        _ => response,
    }
}

/// The last answer of a connection of HTTP/1: nobody knows what the bytes after such a request mean.
fn last(version: Version, mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    if version < Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// By what it is found where a request leads.
struct Ways<'a> {
    routes: Option<&'a RouteTable>,
    filters: &'a [NamedFilter],
    snapshot: &'a Snapshot,
}

impl Ways<'_> {
    /// The route of a request, and where it leads.
    fn find(&self, head: &Parts, peer: &Peer<'_>) -> (Option<Arc<Route>>, Option<Arc<Target>>) {
        let route = match self.routes.map(|routes| routes.find(head, peer)) {
            Some(Found::Route(route)) => Some(route),
            Some(Found::NoRoute) | None => None,
        };
        let target = route.as_deref().and_then(|route| self.target(route, head));
        (route, target)
    }

    fn target(&self, route: &Route, head: &Parts) -> Option<Arc<Target>> {
        let Action::Forward(forward) = route.action() else {
            return None;
        };
        // A session stays with its backend, whatever the weights are.
        let session = session(self.filters, route);
        let asked = session.and_then(|session| session.endpoint(head, SystemTime::now()));
        let has = |name: &str, address| {
            let cluster = self.snapshot.clusters.get(name);
            cluster.is_some_and(|cluster| cluster.endpoint_of_session(address).is_some())
        };
        let of_session = asked.and_then(|address| forward.targets().find(|name| has(name, address)));
        of_session.or_else(|| forward.targets().choose(head, fastrand::u64(..)))
    }
}

struct Exchange<'a> {
    connection: &'a Connection,
    chain: Arc<HttpChain>,
    snapshot: Arc<Snapshot>,
    head: Parts,
    upload: Upload,
    /// What the client asks to change to.
    upgrade: Option<Upgrade>,
    /// When the request came.
    begun: Instant,
}

impl Exchange<'_> {
    async fn answer(mut self, mut record: Box<Record>) -> Response<AnswerBody> {
        let seen = record.observed.as_ref().map(|observed| Arc::clone(&observed.heads));
        let connection = self.connection;
        let client = &connection.client;
        let principal = Arc::clone(&client.principal);
        let peer = Peer {
            principal: Some(&principal),
            address: Some(SocketAddr::new(client.address, client.port)),
            destination: Some(self.connection.destination),
        };
        let chain = Arc::clone(&self.chain);
        let asks_routes = || {
            chain
                .filters
                .iter()
                .any(|filter| matches!(filter.filter, Filter::RouteAuth))
        };
        let is_early = self.snapshot.awaited.until(&chain.routes).is_some();
        if is_early && (self.connection.direct.is_none() || asks_routes()) {
            // Apart, since few requests need the room.
            self.snapshot = Box::pin(connection.worker.0.with_routes(self.snapshot, &chain.routes)).await;
        }
        let snapshot = Arc::clone(&self.snapshot);
        let routes = match &self.connection.direct {
            Some(_) => direct::routes(),
            None => snapshot.routes.get(&chain.routes).map(|routes| &**routes),
        };
        let ways = Ways {
            routes,
            filters: &chain.filters,
            snapshot: &snapshot,
        };
        let found = ways.find(&self.head, &peer);
        let (route, target) = &found;
        // Who is asked by a route is asked about those, too, who go past routes.
        let of_service = match &self.connection.direct {
            Some(_) if asks_routes() => {
                let Some(routes) = snapshot.routes.get(&chain.routes) else {
                    let details = "route_configuration_not_found";
                    return refuse(record, StatusCode::NOT_FOUND, "NR", details, "");
                };
                match routes.find(&self.head, &peer) {
                    Found::Route(route) => Some(route),
                    Found::NoRoute => None,
                }
            }
            _ => None,
        };
        if let Some(name) = route.as_deref().map(Route::name).filter(|name| !name.is_empty()) {
            record.route = Some(name.into());
        }
        if let (Some(observed), Some(operation)) = (&mut record.observed, route.as_deref().and_then(Route::operation)) {
            observed.operation = operation.to_owned();
        }
        let upload = self.upload.clone();
        let forward = route.as_deref().and_then(|route| match route.action() {
            Action::Forward(forward) => Some(&**forward),
            _ => None,
        });
        let filtering = Filtering {
            filters: &chain.filters,
            route: route.as_deref(),
            asking_route: of_service.as_deref().or(route.as_deref()),
            peer: &peer,
            cluster: target.as_deref().map_or("", Target::cluster),
            asking: Asking {
                upstream: &connection.worker.0.upstream,
                snapshot: &snapshot,
                upload: &upload,
                version: self.head.version,
                limits: TimeLimits {
                    // That counts once the request goes on.
                    response: None,
                    ..TimeLimits::of(&chain, forward, self.begun, &mut self.head.headers)
                },
            },
        };
        let filtered = filtering.run(&mut self.head, record).await;
        // What routes change is not to be seen by those who look at the request as it was asked.
        let asked = filtered.marks().looks_back().then(|| self.head.clone());
        let again = match &filtered {
            Filtered::On(_, marks) if marks.reroutes => ways.find(&self.head, &peer),
            _ => found.clone(),
        };
        let (route, target) = &again;
        let session = route.as_deref().and_then(|route| session(&chain.filters, route));
        let (mut response, sent, marks) = match filtered {
            Filtered::Answered(response, marks) => (*response, Sent::nowhere(self.head), marks),
            Filtered::On(record, marks) => match route {
                None => {
                    let (flag, details) = match routes {
                        Some(_) => ("NR", "route_not_found"),
                        None => ("NR", "route_configuration_not_found"),
                    };
                    (
                        refuse(record, StatusCode::NOT_FOUND, flag, details, ""),
                        Sent::nowhere(self.head),
                        marks,
                    )
                }
                Some(route) => {
                    let (response, sent) = self.act(route, target.clone(), session, &peer, record).await;
                    (response, sent, marks)
                }
            },
        };
        if let Some(route) = route {
            let mut empty = Response::new(());
            *empty.status_mut() = response.status();
            *empty.headers_mut() = std::mem::take(response.headers_mut());
            let (mut parts, ()) = empty.into_parts();
            route.rewrite_response(&mut parts, &sent.head, &peer, target.as_deref());
            if let Some(attempts) = sent.attempts.filter(|_| route.attempts_in_response()) {
                parts
                    .headers
                    .insert(culvert_envoy::ATTEMPT_HEADER, HeaderValue::from(attempts));
            }
            *response.status_mut() = parts.status;
            *response.headers_mut() = parts.headers;
        }
        let asked = asked.as_ref().unwrap_or(&sent.head);
        marks.apply(asked, response.headers_mut());
        let response = marks.compress(asked, response);
        if let Some(seen) = seen {
            seen.set(&sent.head, response.headers());
        }
        response
    }

    /// Does what the route says.
    async fn act(
        self,
        route: &Arc<Route>,
        target: Option<Arc<Target>>,
        session: Option<&Session>,
        peer: &Peer<'_>,
        mut record: Box<Record>,
    ) -> (Response<AnswerBody>, Sent) {
        let forward = match route.action() {
            Action::Forward(forward) => forward,
            Action::Redirect(redirect) => {
                let Some(location) = redirect.location(&self.head) else {
                    let response = refuse(record, StatusCode::BAD_REQUEST, "DPE", "bad_location", "");
                    return (response, Sent::nowhere(self.head));
                };
                "direct_response".clone_into(&mut record.details);
                let mut response = local(redirect.status(), "", record);
                response.headers_mut().insert(header::LOCATION, location);
                return (response, Sent::nowhere(self.head));
            }
            Action::Direct(direct) => {
                "direct_response".clone_into(&mut record.details);
                let body = String::from_utf8_lossy(direct.body());
                let mut response = local(direct.status(), &body, record);
                if let Some(location) = direct.location(&self.head) {
                    response.headers_mut().insert(header::LOCATION, location);
                }
                return (response, Sent::nowhere(self.head));
            }
        };
        let Some(target) = target else {
            let response = refuse(record, StatusCode::SERVICE_UNAVAILABLE, "NC", "cluster_not_found", "");
            return (response, Sent::nowhere(self.head));
        };
        let cluster = match &self.connection.direct {
            Some(direct) => Some(&direct.cluster),
            None => self.snapshot.clusters.get(target.cluster()),
        };
        let name = cluster.map(|cluster| &cluster.config.name);
        let known = name.filter(|name| ***name == *target.cluster()).cloned();
        record.cluster = Some(known.unwrap_or_else(|| target.cluster().into()));
        let Some(cluster) = cluster else {
            let response = refuse(record, forward.cluster_not_found(), "NC", "cluster_not_found", "");
            return (response, Sent::nowhere(self.head));
        };
        let cluster = match cluster.at(self.connection.destination) {
            Ok(cluster) => cluster,
            Err(why) => {
                tracing::debug!(destination = %self.connection.destination, %why, "a request goes nowhere");
                let response = refuse(record, StatusCode::SERVICE_UNAVAILABLE, "UH", "of_the_mesh", "");
                return (response, Sent::nowhere(self.head));
            }
        };
        if let Some(Upgrade { protocol, .. }) = &self.upgrade {
            let of_chain = || self.chain.upgrades.iter().any(|allowed| **allowed == **protocol);
            if !forward.upgrade(protocol).unwrap_or_else(of_chain) {
                let response = refuse(record, StatusCode::FORBIDDEN, "", "upgrade_failed", "");
                return (response, Sent::nowhere(self.head));
            }
        }
        let forwarding = Forwarding {
            inner: &self.connection.worker.0,
            snapshot: &self.snapshot,
            cluster: &cluster,
            forward,
            target: &target,
            peer,
            upload: &self.upload,
            session,
            chain: &self.chain,
            begun: self.begun,
        };
        forwarding.run(self.head, self.upgrade, record).await
    }
}

/// How clients of a route get back to their endpoints: what it says to the filter of its chain.
fn session<'a>(filters: &'a [NamedFilter], route: &'a Route) -> Option<&'a Session> {
    let mut of_chain = filters.iter().filter_map(|filter| match &filter.filter {
        Filter::Session(session) => Some((&*filter.name, session.as_deref())),
        _ => None,
    });
    let (name, own) = of_chain.next()?;
    match route.overrides().get(name) {
        Some(Override::Session(session)) => Some(session),
        Some(Override::Disabled) => None,
        _ => own,
    }
}
