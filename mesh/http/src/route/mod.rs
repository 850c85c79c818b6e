//! A route: what it matches and what becomes of a request ([`Action`]): it is forwarded ([`forward`]), redirected
//! ([`redirect`]) or answered ([`direct`]). [`levels`] are the virtual host and the configuration around it.

mod direct;
mod forward;
mod hash;
mod levels;

mod mirror;
mod path;
mod redirect;
mod targets;
mod timeouts;

use culvert_envoy::pb::envoy::config::route::v3::{self as pb, route};
use http::request::Parts;
use http::response;

pub use direct::Direct;
pub use forward::{Forward, RewriteError};
pub use hash::{HashCookie, Hashed};
pub(crate) use levels::Levels;

pub use mirror::Mirror;
pub use redirect::Redirect;
pub use targets::{Target, Targets};
pub use timeouts::{RequestTimeouts, Timeouts};

use crate::error::{CompileError, Within as _, take};
use crate::filters::Overrides;
use crate::headers::format::Context;
use crate::matching::route::RouteMatcher;
use crate::request::Peer;
use levels::Stack;

/// A compiled route.
#[derive(Debug)]
pub struct Route {
    name: String,
    pub(crate) matcher: RouteMatcher,
    action: Action,
    response: Stack,
    overrides: Overrides,
    attempts_in_response: bool,
    operation: Option<Box<str>>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Action {
    /// It goes to a cluster.
    Forward(Box<Forward>),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// It is answered here.
    Direct(Direct),
}

impl Route {
    pub(crate) fn compile(message: &pb::Route, levels: &Levels<'_>, limit: usize) -> Result<Self, CompileError> {
        take!(message => pb::Route {
            name, r#match, metadata, decorator, typed_per_filter_config, request_headers_to_add, request_headers_to_remove,
            response_headers_to_add, response_headers_to_remove, action, stat_prefix,
        } unserved {
            tracing, per_request_buffer_limit_bytes, request_body_buffer_limit, route_specifiers,
        });
        // For people and for other components; nothing of it changes what becomes of a request.
        let _ = (metadata, stat_prefix);
        let operation = decorator.as_ref().map(|decorator| decorator.operation.as_str().into());
        let matcher = r#match.as_ref().ok_or_else(|| CompileError::missing("match"))?;
        let matcher = RouteMatcher::compile(matcher).within(|| "match".into())?;
        let own = levels::Level::compile(
            request_headers_to_add,
            request_headers_to_remove,
            response_headers_to_add,
            response_headers_to_remove,
        )?;
        let request = levels.request_with(&own);
        let action = match action {
            Some(route::Action::Route(action)) => {
                let forward = Forward::compile(action, &matcher.path, request, levels).within(|| "route".into())?;
                Action::Forward(Box::new(forward))
            }
            Some(route::Action::Redirect(redirect)) => {
                Action::Redirect(Redirect::compile(redirect, &matcher.path).within(|| "redirect".into())?)
            }
            Some(route::Action::DirectResponse(direct)) => {
                Action::Direct(Direct::compile(direct, limit).within(|| "direct_response".into())?)
            }
            Some(route::Action::FilterAction(_)) => return Err(CompileError::unserved("filter_action")),
            Some(route::Action::NonForwardingAction(_)) => return Err(CompileError::unserved("non_forwarding_action")),
            None => return Err(CompileError::missing("action")),
        };
        let mut overrides = levels.overrides().clone();
        overrides
            .add(typed_per_filter_config)
            .within(|| "typed_per_filter_config".into())?;
        Ok(Self {
            name: name.clone(),
            matcher,
            action,
            response: levels.response_with(&own),
            overrides,
            attempts_in_response: levels.attempts_in_response(),
            operation,
        })
    }

    /// The route's name. Empty for one that has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What spans of its requests are called, if it says so.
    pub fn operation(&self) -> Option<&str> {
        self.operation.as_deref()
    }

    /// What becomes of a request.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// What filters do otherwise for requests that take this route.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Whether answers carry [`ATTEMPT_HEADER`](culvert_envoy::ATTEMPT_HEADER), local replies too.
    pub fn attempts_in_response(&self) -> bool {
        self.attempts_in_response
    }

    /// Changes the head of an answer as the route and what is around it say: of redirects, direct and local replies too, but not of the
    /// 404 for what has no route. `request` is as it was sent upstream; `target` is where it went, if anywhere.
    pub fn rewrite_response(
        &self,
        response: &mut response::Parts,
        request: &Parts,
        peer: &Peer<'_>,
        target: Option<&Target>,
    ) {
        let context = Context { request, peer };
        if let Some(target) = target {
            target.response().apply(&mut response.headers, &context);
        }
        self.response.apply(&mut response.headers, &context);
    }
}

#[cfg(test)]
mod tests;
