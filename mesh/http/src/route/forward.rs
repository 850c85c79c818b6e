//! What is forwarded to a cluster.

use culvert_envoy::pb::envoy::config::route::v3::RouteAction;
use culvert_envoy::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, HostRewriteSpecifier, UpgradeConfig,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::hash::{HashPolicies, Hashed};
use super::levels::{Levels, Stack};
use super::mirror::Mirror;
use super::path::PathRewrite;
use super::targets::{Target, Targets};
use super::timeouts::Timeouts;
use crate::error::{CompileError, Within as _, is_set, take};
use crate::matching::path::Path;
use crate::request::{Peer, host, path_and_query, set_host, set_path_and_query};
use crate::retry::RetryPolicy;

/// Where a request goes, and how.
#[derive(Debug)]
pub struct Forward {
    targets: Targets,
    not_found: StatusCode,
    headers: Stack,
    host: Option<HostRewrite>,
    append_forwarded_host: bool,
    path: Option<PathRewrite>,
    timeouts: Timeouts,
    retry: RetryPolicy,
    mirrors: Vec<Mirror>,
    hash: HashPolicies,
    upgrades: Vec<(String, bool)>,
}

/// A rewritten path or host that no request can have.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is what the route makes of the path, and no path of a request")]
pub struct RewriteError(String);

#[derive(Debug)]
enum HostRewrite {
    Literal(String),
    Header(HeaderName),
    PathRegex(PathRewrite),
    /// The endpoint's name, which is not known here.
    Endpoint,
}

impl Forward {
    pub(super) fn compile(
        action: &RouteAction,
        path: &Path,
        headers: Stack,
        levels: &Levels<'_>,
    ) -> Result<Self, CompileError> {
        take!(action => RouteAction {
            cluster_not_found_response_code, prefix_rewrite, regex_rewrite, append_x_forwarded_host, timeout, idle_timeout,
            retry_policy, request_mirror_policies, hash_policy, upgrade_configs, max_stream_duration, cluster_specifier,
            host_rewrite_specifier, priority,
        } unserved {
            metadata_match, path_rewrite_policy, path_rewrite, flush_timeout, early_data_policy, retry_policy_typed_config,
            rate_limits, include_vh_rate_limits, cors, max_grpc_timeout, grpc_timeout_offset, internal_redirect_policy,
            internal_redirect_action, max_internal_redirects, hedge_policy,
        });
        if *priority != 0 {
            return Err(CompileError::unserved("priority"));
        }
        let not_found = match ClusterNotFoundResponseCode::try_from(*cluster_not_found_response_code) {
            Ok(ClusterNotFoundResponseCode::ServiceUnavailable) => StatusCode::SERVICE_UNAVAILABLE,
            Ok(ClusterNotFoundResponseCode::NotFound) => StatusCode::NOT_FOUND,
            Ok(ClusterNotFoundResponseCode::InternalServerError) => StatusCode::INTERNAL_SERVER_ERROR,
            Err(_) => {
                return Err(CompileError::invalid(
                    "cluster_not_found_response_code",
                    "there is no such code",
                ));
            }
        };
        let mirrors = if request_mirror_policies.is_empty() {
            levels.mirrors()
        } else {
            request_mirror_policies
        };
        Ok(Self {
            targets: Targets::compile(cluster_specifier)?,
            not_found,
            headers,
            host: HostRewrite::compile(host_rewrite_specifier)?,
            append_forwarded_host: *append_x_forwarded_host,
            path: PathRewrite::compile(prefix_rewrite, regex_rewrite, path)?,
            timeouts: Timeouts::compile(timeout, idle_timeout, max_stream_duration)?,
            // The route's replaces the virtual host's whole.
            retry: match retry_policy.as_ref().or(levels.retry_policy()) {
                Some(policy) => RetryPolicy::compile(policy).within(|| "retry_policy".into())?,
                None => RetryPolicy::default(),
            },
            mirrors: Mirror::compile_all(mirrors)?,
            hash: HashPolicies::compile(hash_policy)?,
            upgrades: upgrade_configs
                .iter()
                .map(upgrade)
                .collect::<Result<_, _>>()
                .within(|| "upgrade_configs".into())?,
        })
    }

    /// The clusters that it may go to.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// The status where the cluster does not exist. The body is empty, the flag `NC`.
    pub fn cluster_not_found(&self) -> StatusCode {
        self.not_found
    }

    /// How long things may take.
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// When it is tried again.
    pub fn retry(&self) -> &RetryPolicy {
        &self.retry
    }

    /// Where copies go.
    pub fn mirrors(&self) -> &[Mirror] {
        &self.mirrors
    }

    /// The hash by which a load balancer of the hashing kind chooses. Reads the request as the client sent it.
    pub fn hash(&self, request: &Parts, peer: &Peer<'_>) -> Hashed {
        self.hash.hash(request, peer)
    }

    /// Whether the route says something of upgrades to this protocol: `Some(false)` refuses them, none leaves it to the listener.
    pub fn upgrade(&self, protocol: &str) -> Option<bool> {
        self.upgrades
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(protocol))
            .map(|(_, enabled)| *enabled)
    }

    /// Whether the host becomes the name of the endpoint that is chosen: [`rewrite_host`](Self::rewrite_host) does it.
    pub fn needs_endpoint_host(&self) -> bool {
        matches!(self.host, Some(HostRewrite::Endpoint))
    }

    /// Changes the head of a request for its way to `target`, once for all tries: fields, then host, then path.
    ///
    /// # Errors
    /// Where what becomes of the path is none. The request must not go anywhere then.
    pub fn rewrite(&self, request: &mut Parts, peer: &Peer<'_>, target: &Target) -> Result<(), RewriteError> {
        self.headers.apply_to_request(request, peer, target.request());
        let new_host = match (target.host(), &self.host) {
            (Some(host), _) => Some(host.as_bytes().to_vec()),
            (None, Some(HostRewrite::Literal(host))) => Some(host.as_bytes().to_vec()),
            (None, Some(HostRewrite::Header(name))) => request
                .headers
                .get(name)
                .map(|value| value.as_bytes().to_vec())
                .filter(|value| !value.is_empty()),
            (None, Some(HostRewrite::PathRegex(rewrite))) => Some(rewrite.path(request.uri.path())),
            (None, Some(HostRewrite::Endpoint) | None) => None,
        };
        if let Some(new_host) = new_host {
            self.rewrite_host(request, &new_host);
        }
        if let Some(rewrite) = &self.path {
            let before = path_and_query(request).to_owned();
            let after = rewrite.path_and_query(request.uri.path(), request.uri.query());
            if after.starts_with(b"/") && set_path_and_query(request, &after) {
                if let Ok(before) = HeaderValue::try_from(before) {
                    request.headers.insert(ORIGINAL_PATH, before);
                }
            } else {
                return Err(RewriteError(String::from_utf8_lossy(&after).into_owned()));
            }
        }
        Ok(())
    }

    /// Changes the host, with the one that was in `x-envoy-original-host`.
    pub fn rewrite_host(&self, request: &mut Parts, new: &[u8]) {
        let Ok(before) = HeaderValue::from_str(host(request)) else {
            return;
        };
        if before.as_bytes() == new {
            return;
        }
        if self.append_forwarded_host {
            request.headers.append(FORWARDED_HOST, before.clone());
        }
        request.headers.insert(ORIGINAL_HOST, before);
        set_host(request, new);
    }
}

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

impl HostRewrite {
    fn compile(specifier: &Option<HostRewriteSpecifier>) -> Result<Option<Self>, CompileError> {
        Ok(Some(match specifier {
            None => return Ok(None),
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
                HeaderValue::from_str(host).map_err(|_| {
                    CompileError::invalid("host_rewrite_literal", format_args!("{host:?} is not a host"))
                })?;
                Self::Literal(host.clone())
            }
            Some(HostRewriteSpecifier::AutoHostRewrite(yes)) if yes.value => Self::Endpoint,
            Some(HostRewriteSpecifier::AutoHostRewrite(_)) => return Ok(None),
            Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
                let name = HeaderName::from_bytes(name.as_bytes())
                    .ok()
                    .filter(|name| *name != header::HOST);
                Self::Header(
                    name.ok_or_else(|| CompileError::invalid("host_rewrite_header", "is no header field's name"))?,
                )
            }
            Some(HostRewriteSpecifier::HostRewritePathRegex(regex)) => {
                Self::PathRegex(PathRewrite::compile_regex(regex).within(|| "host_rewrite_path_regex".into())?)
            }
            Some(HostRewriteSpecifier::HostRewrite(_)) => return Err(CompileError::unserved("host_rewrite")),
        }))
    }
}

fn upgrade(config: &UpgradeConfig) -> Result<(String, bool), CompileError> {
    take!(config => UpgradeConfig { upgrade_type, enabled } unserved { connect_config });
    if !is_set(upgrade_type) {
        return Err(CompileError::missing("upgrade_type"));
    }
    Ok((
        upgrade_type.clone(),
        enabled.as_ref().is_none_or(|enabled| enabled.value),
    ))
}
