//! Which cluster a request goes to.

use std::sync::Arc;

use culvert_envoy::pb::envoy::config::route::v3::WeightedCluster;
use culvert_envoy::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use culvert_envoy::pb::envoy::config::route::v3::weighted_cluster::{
    ClusterWeight, RandomValueSpecifier, cluster_weight::HostRewriteSpecifier,
};
use http::HeaderName;
use http::request::Parts;

use super::levels::Level;
use crate::error::{CompileError, Within as _, is_set, take};
use crate::headers::mutations::Mutations;

/// The clusters that a route leads to.
#[derive(Debug)]
pub enum Targets {
    /// One.
    One(Arc<Target>),
    /// Several, each with its share.
    Weighted {
        /// The clusters, each with the sum of the weights up to and with it.
        clusters: Vec<(u64, Arc<Target>)>,
        /// A field that chooses instead of chance, if it is a plain number.
        header: Option<HeaderName>,
    },
    /// The one that a field of the request names.
    Header(HeaderName),
}

/// A cluster that a request goes to. It stays the same for all tries.
#[derive(Debug, Default)]
pub struct Target {
    cluster: String,
    level: Level,
    host: Option<String>,
}

impl Targets {
    pub(super) fn compile(specifier: &Option<ClusterSpecifier>) -> Result<Self, CompileError> {
        match specifier {
            Some(ClusterSpecifier::Cluster(name)) if name.is_empty() => Err(CompileError::missing("cluster")),
            Some(ClusterSpecifier::Cluster(name)) => Ok(Self::One(Arc::new(Target::named(name)))),
            Some(ClusterSpecifier::ClusterHeader(name)) => header("cluster_header", name).map(Self::Header),
            Some(ClusterSpecifier::WeightedClusters(weighted)) => {
                Self::weighted(weighted).within(|| "weighted_clusters".into())
            }
            Some(ClusterSpecifier::ClusterSpecifierPlugin(_)) => {
                Err(CompileError::unserved("cluster_specifier_plugin"))
            }
            Some(ClusterSpecifier::InlineClusterSpecifierPlugin(_)) => {
                Err(CompileError::unserved("inline_cluster_specifier_plugin"))
            }
            None => Err(CompileError::missing("cluster_specifier")),
        }
    }

    fn weighted(weighted: &WeightedCluster) -> Result<Self, CompileError> {
        take!(weighted => WeightedCluster { clusters, total_weight, runtime_key_prefix, random_value_specifier } unserved {});
        if is_set(runtime_key_prefix) {
            return Err(CompileError::unserved("runtime_key_prefix"));
        }
        let header = match random_value_specifier {
            Some(RandomValueSpecifier::HeaderName(name)) => Some(header("header_name", name)?),
            Some(RandomValueSpecifier::UseHashPolicy(no)) if !no.value => None,
            Some(RandomValueSpecifier::UseHashPolicy(_)) => return Err(CompileError::unserved("use_hash_policy")),
            None => None,
        };
        let mut sum = 0;
        let mut compiled = Vec::with_capacity(clusters.len());
        for (index, cluster) in clusters.iter().enumerate() {
            let target = Target::compile(cluster).within(|| format!("clusters[{index}]"))?;
            sum += u64::from(cluster.weight.as_ref().map_or(0, |weight| weight.value));
            compiled.push((sum, Arc::new(target)));
        }
        if sum == 0 {
            return Err(CompileError::invalid("clusters", "the sum of the weights is 0"));
        }
        if sum > u64::from(u32::MAX) {
            return Err(CompileError::invalid(
                "clusters",
                "the sum of the weights is above 4294967295",
            ));
        }
        if total_weight
            .as_ref()
            .is_some_and(|total| total.value != 0 && u64::from(total.value) != sum)
        {
            return Err(CompileError::invalid(
                "total_weight",
                format_args!("is not the sum of the weights, {sum}"),
            ));
        }
        Ok(Self::Weighted {
            clusters: compiled,
            header,
        })
    }

    /// The cluster for a request, by a random number. None where a field should name it and does not: that is 503 `NC`.
    pub fn choose(&self, request: &Parts, random: u64) -> Option<Arc<Target>> {
        match self {
            Self::One(target) => Some(Arc::clone(target)),
            Self::Weighted { clusters, header } => {
                let sum = clusters.last()?.0;
                let plain = |name: &HeaderName| {
                    let text = request.headers.get(name)?.to_str().ok()?;
                    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                    digits.then(|| text.parse::<u64>().ok()).flatten()
                };
                let draw = header.as_ref().and_then(plain).unwrap_or(random) % sum;
                let index = clusters.partition_point(|(upto, _)| *upto <= draw);
                clusters.get(index).map(|(_, target)| Arc::clone(target))
            }
            Self::Header(name) => {
                let cluster = request
                    .headers
                    .get(name)?
                    .to_str()
                    .ok()
                    .filter(|name| !name.is_empty())?;
                Some(Arc::new(Target::named(cluster)))
            }
        }
    }

    /// The first of several clusters that fits; none where there is no choice.
    pub fn find(&self, fits: impl Fn(&str) -> bool) -> Option<Arc<Target>> {
        let Self::Weighted { clusters, .. } = self else {
            return None;
        };
        let mut targets = clusters.iter().map(|(_, target)| target);
        targets.find(|target| fits(&target.cluster)).map(Arc::clone)
    }

    /// The names of all clusters that are known beforehand.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        let (one, several) = match self {
            Self::One(target) => (Some(target), None),
            Self::Weighted { clusters, .. } => (None, Some(clusters)),
            Self::Header(_) => (None, None),
        };
        one.into_iter()
            .chain(several.into_iter().flatten().map(|(_, target)| target))
            .map(|target| target.cluster.as_str())
    }
}

impl Target {
    fn named(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            ..Self::default()
        }
    }

    fn compile(weight: &ClusterWeight) -> Result<Self, CompileError> {
        take!(weight => ClusterWeight {
            name, weight, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
            response_headers_to_remove, host_rewrite_specifier,
        } unserved { cluster_header, metadata_match, typed_per_filter_config });
        let _ = weight;
        if name.is_empty() {
            return Err(CompileError::missing("name"));
        }
        Ok(Self {
            cluster: name.clone(),
            level: Level::compile(
                request_headers_to_add,
                request_headers_to_remove,
                response_headers_to_add,
                response_headers_to_remove,
            )?,
            host: host_rewrite_specifier
                .as_ref()
                .map(|HostRewriteSpecifier::HostRewriteLiteral(host)| host.clone()),
        })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// What the host becomes, before what the route says.
    pub(super) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    pub(super) fn request(&self) -> &Mutations {
        self.level.request()
    }

    pub(super) fn response(&self) -> &Mutations {
        self.level.response()
    }
}

fn header(field: &str, name: &str) -> Result<HeaderName, CompileError> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| CompileError::invalid(field, format_args!("{name:?} is not the name of a header field")))
}
