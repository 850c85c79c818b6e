//! What the service's answer means.

use culvert_envoy::pb::envoy::service::auth::v3::check_response::HttpResponse;
use culvert_envoy::pb::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::changes::{Changes, appends, field};
use super::filter::ExtAuthz;
use super::service::{Http, Service, matches};
use crate::filters::grpc::{self, Answer};

/// Headers of the service's answer that a refused client gets whatever is said.
const ALWAYS: [HeaderName; 4] = [
    header::WWW_AUTHENTICATE,
    header::LOCATION,
    header::PROXY_AUTHENTICATE,
    header::CONTENT_TYPE,
];
/// What belongs to the connection to the service, and to the length of its own answer.
const OWN: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It goes on, with these changes.
    Allowed(Changes),
    /// The service refused it.
    Denied(Denial),
    /// The service gave no answer that counts, and it is refused with this status.
    Failed(StatusCode),
}

/// What a refused client gets.
#[derive(Debug)]
pub struct Denial {
    /// The status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl ExtAuthz {
    /// What holds when the service gave no answer that counts.
    pub fn failed(&self) -> Verdict {
        if self.fail_open {
            return Verdict::Allowed(Changes::default());
        }
        Verdict::Failed(self.status_on_error)
    }

    /// What an answer of the service means.
    pub fn verdict(&self, answer: Answer) -> Verdict {
        match &self.service {
            Service::Http(http) => self.of_http(http, answer),
            Service::Grpc(_) => match grpc::message(&answer) {
                Some(response) => self.of_grpc(response),
                None => self.failed(),
            },
        }
    }

    fn of_http(&self, service: &Http, answer: Answer) -> Verdict {
        let status = answer.head.status;
        if status.is_server_error() {
            return self.failed();
        }
        let headers = answer.head.headers;
        if status == StatusCode::OK {
            let mut changes = Changes::default();
            for (name, value) in headers.iter().filter(|(name, _)| !OWN.contains(name)) {
                if matches(&service.upstream, name) {
                    changes.set(name.clone(), value.clone());
                }
                if matches(&service.upstream_append, name) {
                    changes.append(name.clone(), value.clone());
                }
                if matches(&service.client_on_success, name) {
                    changes.on_response(name.clone(), value.clone());
                }
            }
            return Verdict::Allowed(changes.within(self.rules.as_ref()));
        }
        let is_passed = |name: &HeaderName| {
            let is_listed = || service.client.as_ref().is_none_or(|list| matches(list, name));
            !OWN.contains(name) && (ALWAYS.contains(name) || is_listed())
        };
        let passed = headers.iter().filter(|(name, _)| is_passed(name));
        let mut headers = HeaderMap::new();
        for (name, value) in passed {
            headers.append(name.clone(), value.clone());
        }
        Verdict::Denied(Denial {
            status,
            headers,
            body: answer.body,
        })
    }

    fn of_grpc(&self, response: CheckResponse) -> Verdict {
        let code = response.status.map_or(0, |status| status.code);
        match (code, response.http_response) {
            (_, Some(HttpResponse::ErrorResponse(_))) => self.failed(),
            (0, Some(HttpResponse::OkResponse(ok))) => match Changes::of_grpc(ok) {
                Some(changes) => Verdict::Allowed(changes.within(self.rules.as_ref())),
                // As Envoy: what it cannot do makes the answer one that does not count.
                None => self.failed(),
            },
            (0, _) => Verdict::Allowed(Changes::default()),
            (_, Some(HttpResponse::DeniedResponse(denied))) => match denial(denied) {
                Some(denial) => Verdict::Denied(denial),
                None => self.failed(),
            },
            _ => Verdict::Denied(Denial {
                status: StatusCode::FORBIDDEN,
                headers: HeaderMap::new(),
                body: Vec::new(),
            }),
        }
    }
}

fn denial(denied: DeniedHttpResponse) -> Option<Denial> {
    let status = denied.status.map_or(0, |status| status.code);
    let status = match status {
        0 => StatusCode::FORBIDDEN,
        code => StatusCode::from_u16(u16::try_from(code).ok()?).ok()?,
    };
    let mut headers = HeaderMap::new();
    for option in denied.headers {
        let appends = appends(&option);
        let (name, value): (HeaderName, HeaderValue) = field(option)?;
        if OWN.contains(&name) {
            continue;
        }
        if appends {
            headers.append(name, value);
        } else {
            headers.insert(name, value);
        }
    }
    Some(Denial {
        status,
        headers,
        body: denied.body.into_bytes(),
    })
}
