//! What the service is asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use culvert_envoy::pb::envoy::config::core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier};
use culvert_envoy::pb::envoy::service::auth::v3::attribute_context::{
    HttpRequest, Peer as PbPeer, Request as PbRequest,
};
use culvert_envoy::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use culvert_envoy::pb::google::protobuf::Timestamp;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Version, header};

use super::filter::ExtAuthz;
use super::service::{Grpc, Http, Service, matches};
use crate::filters::grpc;
use crate::matching::text::Text;
use crate::request::{Peer, host, path_and_query, scheme};

/// Whether the body that the service sees is not all of it.
const PARTIAL: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");
const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// A request that the service is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// Its head.
    pub request: &'a Parts,
    /// Who sent it, and where to.
    pub peer: &'a Peer<'a>,
    /// What the service sees of its body; none where it is to see nothing.
    pub body: Option<Shown<'a>>,
    /// How the client speaks.
    pub version: Version,
    /// When.
    pub now: SystemTime,
}

/// What is shown of a body.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Its beginning.
    pub bytes: &'a [u8],
    /// Whether that is not all.
    pub is_partial: bool,
}

impl ExtAuthz {
    /// The request to the service. None where the request's host or path cannot be passed on.
    pub fn check(&self, check: &Check<'_>) -> Option<Request<Vec<u8>>> {
        match &self.service {
            Service::Http(http) => self.http_check(http, check),
            Service::Grpc(grpc) => self.grpc_check(grpc, check),
        }
    }

    fn http_check(&self, service: &Http, check: &Check<'_>) -> Option<Request<Vec<u8>>> {
        let path = format!("{}{}", service.path_prefix, path_and_query(check.request));
        let body = check.body.map(|body| body.bytes.to_vec()).unwrap_or_default();
        let mut request = Request::new(body);
        *request.method_mut() = check.request.method.clone();
        *request.uri_mut() = grpc::uri(host(check.request), &path)?;
        let length = HeaderValue::from(request.body().len());
        let headers = request.headers_mut();
        for (name, value) in &check.request.headers {
            let is_shown =
                *name == header::AUTHORIZATION || self.allowed.as_ref().is_some_and(|allowed| matches(allowed, name));
            let is_own = *name == header::CONTENT_LENGTH || *name == header::HOST;
            if is_shown && !is_own && !matches(&self.disallowed, name) {
                headers.append(name.clone(), value.clone());
            }
        }
        if let Some(body) = check.body {
            headers.insert(PARTIAL, flag(body.is_partial));
        }
        headers.insert(header::CONTENT_LENGTH, length);
        for (name, value) in &service.add {
            headers.insert(name.clone(), value.clone());
        }
        Some(request)
    }

    fn grpc_check(&self, service: &Grpc, check: &Check<'_>) -> Option<Request<Vec<u8>>> {
        let message = CheckRequest {
            attributes: Some(self.attributes(check)),
        };
        grpc::request(&service.authority, PATH, self.timeout, &service.metadata, &message)
    }

    fn attributes(&self, check: &Check<'_>) -> AttributeContext {
        let request = check.request;
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut headers: HashMap<String, String> = HashMap::new();
        let pseudo = [
            (":method", request.method.as_str()),
            (":path", path_and_query(request)),
            (":authority", host(request)),
            (":scheme", scheme(request)),
        ];
        for (name, value) in pseudo {
            let is_shown = |name: &str| {
                let is_allowed = self.allowed.as_ref().is_none_or(|allowed| named(allowed, name));
                is_allowed && !named(&self.disallowed, name)
            };
            if is_shown(name) {
                headers.insert(name.to_owned(), value.to_owned());
            }
        }
        for (name, value) in &request.headers {
            let is_allowed = self.allowed.as_ref().is_none_or(|allowed| matches(allowed, name));
            if !is_allowed || matches(&self.disallowed, name) {
                continue;
            }
            let here = headers.entry(name.as_str().to_owned()).or_default();
            if !here.is_empty() {
                here.push(',');
            }
            here.push_str(&text(value));
        }
        let mut http = HttpRequest {
            id: request.headers.get("x-request-id").map(text).unwrap_or_default(),
            method: request.method.to_string(),
            path: path_and_query(request).to_owned(),
            host: host(request).to_owned(),
            scheme: scheme(request).to_owned(),
            protocol: format!("{:?}", check.version).replace("HTTP/2.0", "HTTP/2"),
            ..HttpRequest::default()
        };
        if let Some(body) = check.body {
            headers.insert(PARTIAL.as_str().to_owned(), body.is_partial.to_string());
            http.size = i64::try_from(body.bytes.len()).unwrap_or(i64::MAX);
            if self.body.is_some_and(|body| body.as_bytes) {
                http.raw_body = body.bytes.to_vec();
            } else {
                http.body = String::from_utf8_lossy(body.bytes).into_owned();
            }
        }
        http.headers = headers;
        let since = check.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        AttributeContext {
            source: Some(peer(check.peer.address, check.peer.principal)),
            destination: Some(peer(check.peer.destination, None)),
            request: Some(PbRequest {
                time: Some(Timestamp {
                    seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                    nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
                }),
                http: Some(http),
            }),
            ..AttributeContext::default()
        }
    }
}

fn peer(address: Option<SocketAddr>, principal: Option<&str>) -> PbPeer {
    PbPeer {
        address: address.map(|address| Address {
            address: Some(address::Address::SocketAddress(SocketAddress {
                address: address.ip().to_string(),
                port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
                ..SocketAddress::default()
            })),
        }),
        principal: principal.unwrap_or_default().to_owned(),
        ..PbPeer::default()
    }
}

fn flag(yes: bool) -> HeaderValue {
    HeaderValue::from_static(if yes { "true" } else { "false" })
}

fn named(matchers: &[Text], name: &str) -> bool {
    matchers.iter().any(|matcher| matcher.matches(name.as_bytes()))
}
