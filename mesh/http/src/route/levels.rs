//! What is around a route: the virtual host and the whole configuration, and in which order their header changes come.

use std::sync::Arc;

use culvert_envoy::pb::envoy::config::core::v3::HeaderValueOption;
use culvert_envoy::pb::envoy::config::route::v3::{
    RetryPolicy, RouteConfiguration, VirtualHost, route_action::RequestMirrorPolicy,
};
use http::HeaderMap;
use http::request::Parts;

use crate::error::{CompileError, Within as _, take};
use crate::filters::Overrides;
use crate::headers::format::Context;
use crate::headers::mutations::Mutations;
use crate::request::Peer;

/// Header changes of one level.
#[derive(Clone, Debug, Default)]
pub(crate) struct Level {
    request: Arc<Mutations>,
    response: Arc<Mutations>,
}

impl Level {
    pub(crate) fn compile(
        request_add: &[HeaderValueOption],
        request_remove: &[String],
        response_add: &[HeaderValueOption],
        response_remove: &[String],
    ) -> Result<Self, CompileError> {
        Ok(Self {
            request: Arc::new(Mutations::compile(request_add, request_remove, "request_headers")?),
            response: Arc::new(Mutations::compile(response_add, response_remove, "response_headers")?),
        })
    }

    pub(crate) fn request(&self) -> &Mutations {
        &self.request
    }

    pub(crate) fn response(&self) -> &Mutations {
        &self.response
    }
}

/// Header changes of several levels, in the order in which they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stack(Vec<Arc<Mutations>>);

impl Stack {
    /// Changes the fields of an answer.
    pub(crate) fn apply(&self, headers: &mut HeaderMap, context: &Context<'_>) {
        for mutations in &self.0 {
            mutations.apply(headers, context);
        }
    }

    /// Changes the fields of a request, `first` in front of the rest. Commands see the request as the level before left it.
    pub(crate) fn apply_to_request(&self, request: &mut Parts, peer: &Peer<'_>, first: &Mutations) {
        for mutations in std::iter::once(first).chain(self.0.iter().map(Arc::as_ref)) {
            let values = mutations.values(&Context { request, peer });
            mutations.apply_values(&mut request.headers, values);
        }
    }
}

/// The levels around routes.
#[derive(Clone)]
pub(crate) struct Levels<'a> {
    most_specific_wins: bool,
    table: Level,
    host: Level,
    host_message: Option<&'a VirtualHost>,
    overrides: Overrides,
}

impl<'a> Levels<'a> {
    pub(crate) fn of_table(table: &'a RouteConfiguration) -> Result<Self, CompileError> {
        Ok(Self {
            most_specific_wins: table.most_specific_header_mutations_wins,
            table: Level::compile(
                &table.request_headers_to_add,
                &table.request_headers_to_remove,
                &table.response_headers_to_add,
                &table.response_headers_to_remove,
            )?,
            host: Level::default(),
            host_message: None,
            overrides: Overrides::default(),
        })
    }

    pub(crate) fn with_host(&self, host: &'a VirtualHost) -> Result<Self, CompileError> {
        take!(host => VirtualHost {
            name, domains, routes, require_tls, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
            response_headers_to_remove, typed_per_filter_config, include_request_attempt_count,
            include_attempt_count_in_response, retry_policy, request_mirror_policies, metadata,
        } unserved {
            matcher, virtual_clusters, rate_limits, cors, retry_policy_typed_config, hedge_policy,
            include_is_timeout_retry_header, per_request_buffer_limit_bytes, request_body_buffer_limit, route_specifiers,
        });
        let _ = (
            name,
            domains,
            routes,
            metadata,
            include_attempt_count_in_response,
            retry_policy,
            request_mirror_policies,
        );
        // The count always goes upstream: see `retry`.
        let _ = include_request_attempt_count;
        if *require_tls != 0 {
            return Err(CompileError::unserved("require_tls"));
        }
        let mut overrides = self.overrides.clone();
        overrides
            .add(typed_per_filter_config)
            .within(|| "typed_per_filter_config".into())?;
        Ok(Self {
            host: Level::compile(
                request_headers_to_add,
                request_headers_to_remove,
                response_headers_to_add,
                response_headers_to_remove,
            )?,
            host_message: Some(host),
            overrides,
            ..self.clone()
        })
    }

    pub(crate) fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    pub(crate) fn attempts_in_response(&self) -> bool {
        self.host_message
            .is_some_and(|host| host.include_attempt_count_in_response)
    }

    /// The retry policy of routes that have none.
    pub(crate) fn retry_policy(&self) -> Option<&'a RetryPolicy> {
        self.host_message.and_then(|host| host.retry_policy.as_ref())
    }

    /// The mirrors of routes that have none.
    pub(crate) fn mirrors(&self) -> &'a [RequestMirrorPolicy] {
        self.host_message.map_or(&[], |host| &host.request_mirror_policies)
    }

    pub(crate) fn request_with(&self, route: &Level) -> Stack {
        self.ordered(&route.request, &self.host.request, &self.table.request)
    }

    pub(crate) fn response_with(&self, route: &Level) -> Stack {
        self.ordered(&route.response, &self.host.response, &self.table.response)
    }

    fn ordered(&self, route: &Arc<Mutations>, host: &Arc<Mutations>, table: &Arc<Mutations>) -> Stack {
        let mut levels = vec![Arc::clone(route), Arc::clone(host), Arc::clone(table)];
        if self.most_specific_wins {
            levels.reverse();
        }
        Stack(levels)
    }
}
