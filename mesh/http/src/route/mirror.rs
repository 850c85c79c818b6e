//! Copies of requests that go to another cluster, whose answers nobody waits for.

use culvert_envoy::pb::envoy::config::route::v3::route_action::RequestMirrorPolicy;
use http::request::Parts;

use crate::error::{CompileError, Within as _, take};
use crate::request::{host, set_host};
use crate::value::Fraction;

/// Where copies go. One copy a request, whatever the retries.
#[derive(Debug)]
pub struct Mirror {
    cluster: String,
    fraction: Fraction,
    append_suffix: bool,
}

impl Mirror {
    pub(super) fn compile_all(policies: &[RequestMirrorPolicy]) -> Result<Vec<Self>, CompileError> {
        let compile = |(index, policy)| Self::compile(policy).within(|| format!("request_mirror_policies[{index}]"));
        policies.iter().enumerate().map(compile).collect()
    }

    fn compile(policy: &RequestMirrorPolicy) -> Result<Self, CompileError> {
        take!(policy => RequestMirrorPolicy { cluster, runtime_fraction, disable_shadow_host_suffix_append, trace_sampled } unserved {
            cluster_header, request_headers_mutations, host_rewrite_literal,
        });
        // There is no tracing here that a copy could take part in.
        let _ = trace_sampled;
        if cluster.is_empty() {
            return Err(CompileError::missing("cluster"));
        }
        let fraction = match runtime_fraction {
            Some(fraction) => Fraction::compile_runtime(fraction).within(|| "runtime_fraction".into())?,
            None => Fraction::ALL,
        };
        Ok(Self {
            cluster: cluster.clone(),
            fraction,
            append_suffix: !disable_shadow_host_suffix_append,
        })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Of which share of the requests a copy is made.
    pub fn fraction(&self) -> Fraction {
        self.fraction
    }

    /// Changes the head of a copy, which is rewritten for its way upstream already: the host gets `-shadow` in front of its port.
    pub fn rewrite(&self, copy: &mut Parts) {
        if !self.append_suffix {
            return;
        }
        let before = host(copy);
        let shadow = match before.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                format!("{name}-shadow:{port}")
            }
            _ => format!("{before}-shadow"),
        };
        set_host(copy, shadow.as_bytes());
    }
}
