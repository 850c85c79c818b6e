//! What the filters of a chain make of a request, in their order.

use std::time::{Instant, SystemTime};

use culvert_http::{
    Peer, Route,
    filters::{
        Abort, Attributes, Compressor, Cors, Fault, Limited, Override, Preflight, RateLimit, Rbac,
        ext_authz::{Changes, Shadow},
        jwt::Verified,
    },
    grpc_reply,
};
use http::{HeaderMap, Response, StatusCode, header, request::Parts};
use http_body::Body as _;

use super::{ask::Asking, counter};
use crate::{
    answer::{AnswerBody, local, whole},
    config::filters::{Filter, NamedFilter},
    telemetry::Record,
};

/// What is left to do when the answer is there, in the order of the filters.
#[derive(Debug, Default)]
pub(super) struct Marks<'a> {
    list: Vec<Mark<'a>>,
    /// Whether the route is to be chosen anew.
    pub(super) reroutes: bool,
}

/// What a filter does with the answer.
#[derive(Debug)]
enum Mark<'a> {
    Cors(&'a Cors),
    /// Whoever was asked about the request has changes for its answer.
    Authorized(Changes),
    Limited(&'a RateLimit, Limited),
    /// The service that counts has fields for it.
    Counted(HeaderMap),
    Compressor(&'a Compressor),
}

impl<'a> Marks<'a> {
    /// Whether anything looks at the request once more.
    pub(super) fn looks_back(&self) -> bool {
        // A route may take away what the client accepts.
        let looks = |mark: &Mark<'_>| matches!(mark, Mark::Cors(_) | Mark::Compressor(_));
        self.list.iter().any(looks)
    }

    /// Changes the head of an answer, the last filter first. What the request is to be like says [`looks_back`](Self::looks_back): as the
    /// filters left it.
    pub(super) fn apply(&self, request: &Parts, response: &mut HeaderMap) {
        for mark in self.list.iter().rev() {
            match mark {
                Mark::Cors(cors) => cors.mark(request, response),
                Mark::Authorized(changes) => changes.apply_response(response),
                Mark::Limited(limit, decision) => limit.tell(decision, response),
                Mark::Counted(fields) => counter::add(fields, response),
                // Chosen once the head is as it will be.
                Mark::Compressor(_) => {}
            }
        }
    }

    fn compressors(&self) -> Vec<&'a Compressor> {
        let compressor = |mark: &Mark<'a>| match mark {
            Mark::Compressor(compressor) => Some(*compressor),
            _ => None,
        };
        self.list.iter().filter_map(compressor).collect()
    }

    /// Compresses an answer to a client that accepts it.
    pub(super) fn compress(&self, request: &Parts, response: Response<AnswerBody>) -> Response<AnswerBody> {
        let compressors = self.compressors();
        if compressors.is_empty() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return response;
        }
        let accepted: Vec<&str> = request
            .headers
            .get_all(header::ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let accepted = (!accepted.is_empty()).then(|| accepted.join(","));
        let has_body = !response.body().is_end_stream();
        let (mut head, body) = response.into_parts();
        let (status, headers) = (head.status, &mut head.headers);
        let chosen = Compressor::choose(&compressors, accepted.as_deref(), status, headers, has_body);
        let body = match chosen {
            Some(algorithm) => body.compressed(algorithm),
            None => body,
        };
        Response::from_parts(head, body)
    }
}

/// A request on its way through the filters.
pub(super) struct Filtering<'a> {
    pub(super) filters: &'a [NamedFilter],
    pub(super) route: Option<&'a Route>,
    /// What says who is asked about the request, beside the filters: the route, also where none is followed.
    pub(super) asking_route: Option<&'a Route>,
    pub(super) peer: &'a Peer<'a>,
    pub(super) cluster: &'a str,
    pub(super) asking: Asking<'a>,
}

/// What became of it.
pub(super) enum Filtered<'a> {
    /// It goes on.
    On(Box<Record>, Marks<'a>),
    /// It is answered.
    Answered(Box<Response<AnswerBody>>, Marks<'a>),
}

impl<'a> Filtered<'a> {
    /// What is left to do in any case.
    pub(super) fn marks(&self) -> &Marks<'a> {
        match self {
            Self::On(_, marks) | Self::Answered(_, marks) => marks,
        }
    }
}

impl<'a> Filtering<'a> {
    /// Changes the head where a filter does.
    pub(super) async fn run(&self, head: &mut Parts, mut record: Box<Record>) -> Filtered<'a> {
        let mut marks = Marks::default();
        let mut tokens = None;
        let mut shadow = Shadow::new();
        for named in self.filters {
            let route = match named.filter {
                Filter::RouteAuth => self.asking_route,
                _ => self.route,
            };
            let Some(setting) = named.setting(route) else {
                continue;
            };
            let answered = match (&named.filter, setting) {
                (Filter::Router, _) => break,
                (Filter::Rbac(_), Some(Override::Rbac(rbac))) | (Filter::Rbac(rbac), _) => {
                    self.rbac(rbac, head, tokens.as_ref(), &mut shadow, record)
                }
                (Filter::ExtAuthz(authz), _) if !authz.asks(&shadow) => Ok(record),
                (Filter::ExtAuthz(authz), _) | (Filter::RouteAuth, Some(Override::ExtAuthz(authz))) => {
                    match self.asking.ask(authz, head, self.peer, record).await {
                        Ok((changes, record)) => {
                            marks.reroutes |= authz.clears_route_cache();
                            marks.list.push(Mark::Authorized(changes));
                            Ok(record)
                        }
                        Err(response) => Err(response),
                    }
                }
                (Filter::Jwt(jwt), setting) => {
                    let of_route = match setting {
                        Some(Override::Jwt(of_route)) => Some(of_route),
                        _ => None,
                    };
                    match jwt.verify(head, self.peer, of_route, SystemTime::now()) {
                        Ok(verified) => {
                            tokens = Some(verified);
                            Ok(record)
                        }
                        Err(status) => {
                            record.flags.set("UAEX");
                            record.details =
                                format!("jwt_authn_access_denied{{{}}}", status.to_string().replace(' ', "_"));
                            let mut response = local(status.http_status(), &jwt.body(status), record);
                            let challenge = jwt.challenge(head, status);
                            let told = challenge.map(|value| (header::WWW_AUTHENTICATE, value));
                            response.headers_mut().extend(told);
                            Err(Box::new(response))
                        }
                    }
                }
                (Filter::Cors, Some(Override::Cors(cors))) => match cors.decide(head, fastrand::u64(..)) {
                    Preflight::Pass => Ok(record),
                    Preflight::Mark => {
                        marks.list.push(Mark::Cors(cors));
                        Ok(record)
                    }
                    Preflight::Answer(headers) => {
                        "cors_response".clone_into(&mut record.details);
                        let mut response = whole(Response::new(Vec::new()), record);
                        response.headers_mut().extend(headers);
                        Err(Box::new(response))
                    }
                },
                (Filter::RouteAuth, _) => Ok(record),
                (Filter::GlobalRateLimit(limit), _) => {
                    match counter::count(&self.asking, limit, head, self.peer, record).await {
                        Ok((record, fields)) => {
                            marks.list.push(Mark::Counted(fields));
                            Ok(record)
                        }
                        Err(response) => Err(response),
                    }
                }
                (Filter::Compressor(compressor), _) => {
                    marks.list.push(Mark::Compressor(compressor));
                    Ok(record)
                }
                // What it says counts where an endpoint is chosen.
                (Filter::Session(_), _) => Ok(record),
                (Filter::Cors, _) => Ok(record),
                (Filter::Fault(_), Some(Override::Fault(fault))) => self.fault(fault, head, record).await,
                (Filter::Fault(fault), _) => self.fault(fault, head, record).await,
                (Filter::RateLimit(_), Some(Override::RateLimit(limit))) => {
                    self.rate_limit(limit, head, record, &mut marks)
                }
                (Filter::RateLimit(limit), _) => self.rate_limit(limit, head, record, &mut marks),
            };
            match answered {
                Ok(goes_on) => record = goes_on,
                Err(response) => return Filtered::Answered(response, marks),
            }
        }
        Filtered::On(record, marks)
    }

    fn rbac(
        &self,
        rbac: &Rbac,
        head: &Parts,
        tokens: Option<&Verified>,
        shadow: &mut Shadow,
        mut record: Box<Record>,
    ) -> Result<Box<Record>, Box<Response<AnswerBody>>> {
        let attributes = Attributes {
            request: head,
            peer: self.peer,
            tokens,
        };
        if let Some(remark) = rbac.remark(&attributes) {
            shadow.extend(remark.metadata());
            record.remark(&remark);
        }
        let access = rbac.decide(&attributes);
        if access.allowed {
            return Ok(record);
        }
        // No flag: Envoy has none for it.
        record.details = access.details();
        Err(Box::new(local(StatusCode::FORBIDDEN, "RBAC: access denied", record)))
    }

    async fn fault(
        &self,
        fault: &Fault,
        head: &Parts,
        mut record: Box<Record>,
    ) -> Result<Box<Record>, Box<Response<AnswerBody>>> {
        let random = [fastrand::u64(..), fastrand::u64(..)];
        let injected = fault.decide(head, self.cluster, random);
        if let Some(delay) = injected.delay {
            record.flags.set("DI");
            tokio::time::sleep(delay).await;
        }
        let Some(abort) = injected.abort else {
            return Ok(record);
        };
        record.flags.set("FI");
        "fault_filter_abort".clone_into(&mut record.details);
        const TEXT: &str = "fault filter abort";
        Err(Box::new(match abort {
            Abort::Http(status) => local(status, TEXT, record),
            Abort::Grpc(status) if record.is_grpc => whole(grpc_reply(status, TEXT), record),
            Abort::Grpc(_) => local(StatusCode::OK, TEXT, record),
        }))
    }

    fn rate_limit(
        &self,
        limit: &'a RateLimit,
        head: &Parts,
        mut record: Box<Record>,
        marks: &mut Marks<'a>,
    ) -> Result<Box<Record>, Box<Response<AnswerBody>>> {
        let decision = limit.decide(head, self.peer, Instant::now(), fastrand::u64(..));
        marks.list.push(Mark::Limited(limit, decision.clone()));
        if decision.allowed {
            return Ok(record);
        }
        const TEXT: &str = "local_rate_limited";
        record.flags.set("RL");
        TEXT.clone_into(&mut record.details);
        let mut response = match record.is_grpc {
            true => whole(grpc_reply(limit.grpc_status(), TEXT), record),
            false => local(limit.status(), TEXT, record),
        };
        limit.mark(head, self.peer, &decision, response.headers_mut());
        Err(Box::new(response))
    }
}
