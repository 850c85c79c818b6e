//! What a route, or the virtual host around it, says of filters: `typed_per_filter_config`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use culvert_envoy::pb::envoy::config::route::v3::FilterConfig;
use culvert_envoy::pb::envoy::extensions::filters::http::composite::v3::CompositePerRoute;
use culvert_envoy::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use culvert_envoy::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use culvert_envoy::pb::envoy::extensions::filters::http::jwt_authn::v3::PerRouteConfig;
use culvert_envoy::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use culvert_envoy::pb::envoy::extensions::filters::http::rbac::v3::RbacPerRoute;
use culvert_envoy::pb::envoy::extensions::filters::http::stateful_session::v3::StatefulSessionPerRoute;
use culvert_envoy::pb::google::protobuf::Any;
use culvert_envoy::{type_url, unpack};
use prost::{Message, Name};

use super::composite;
use super::cors::Cors;
use super::ext_authz::ExtAuthz;
use super::fault::Fault;
use super::jwt::PerRoute;
use super::rate_limit::RateLimit;
use super::rbac::Rbac;
use super::session::Session;
use crate::error::{CompileError, Within as _, take};

/// Settings of filters by the filters' names.
#[derive(Clone, Debug, Default)]
pub struct Overrides(BTreeMap<String, Arc<Override>>);

/// The setting of one filter.
#[derive(Debug)]
pub enum Override {
    /// The filter does nothing.
    Disabled,
    /// The filter does what it says itself, though it does nothing elsewhere.
    Enabled,
    /// A policy for requests of other origins.
    Cors(Cors),
    /// Faults.
    Fault(Fault),
    /// Rules instead of the filter's.
    Rbac(Rbac),
    /// A limit of this route's own.
    RateLimit(RateLimit),
    /// Which tokens it needs.
    Jwt(PerRoute),
    /// How clients get back to the endpoint that they had.
    Session(Session),
    /// A service of this route's own that is asked.
    ExtAuthz(Box<ExtAuthz>),
}

impl Overrides {
    /// Adds settings, in front of those that are there.
    pub(crate) fn add(&mut self, configurations: &HashMap<String, Any>) -> Result<(), CompileError> {
        for (name, any) in configurations {
            if let Some(setting) = Override::compile(any).within(|| name.clone())? {
                self.0.insert(name.clone(), Arc::new(setting));
            }
        }
        Ok(())
    }

    /// The setting of the filter of this name.
    pub fn get(&self, name: &str) -> Option<&Override> {
        self.0.get(name).map(Arc::as_ref)
    }
}

impl Override {
    /// None for one that is optional and not served.
    fn compile(any: &Any) -> Result<Option<Self>, CompileError> {
        fn read<M: Message + Name + Default>(any: &Any) -> Result<M, CompileError> {
            unpack(any).map_err(|error| CompileError::new("config", error))
        }
        let url = any.type_url.as_str();
        let setting = if url == type_url::<FilterConfig>() {
            let message: FilterConfig = read(any)?;
            take!(&message => FilterConfig { config, is_optional, disabled } unserved {});
            return match config {
                _ if *disabled => Ok(Some(Self::Disabled)),
                None => Err(CompileError::missing("config")),
                Some(config) if *config == Any::default() => Ok(Some(Self::Enabled)),
                Some(config) => match Self::compile(config) {
                    Err(_) if *is_optional => Ok(None),
                    other => other,
                },
            };
        } else if url == type_url::<CorsPolicy>() {
            Self::Cors(Cors::compile(&read(any)?)?)
        } else if url == type_url::<HttpFault>() {
            Self::Fault(Fault::compile(&read(any)?)?)
        } else if url == type_url::<RbacPerRoute>() {
            let message: RbacPerRoute = read(any)?;
            match &message.rbac {
                Some(rbac) => Self::Rbac(Rbac::compile(rbac).within(|| "rbac".into())?),
                None => Self::Disabled,
            }
        } else if url == type_url::<LocalRateLimit>() {
            Self::RateLimit(RateLimit::compile(&read(any)?)?)
        } else if url == type_url::<StatefulSessionPerRoute>() {
            Session::compile(&read(any)?)?.map_or(Self::Disabled, Self::Session)
        } else if url == type_url::<PerRouteConfig>() {
            Self::Jwt(PerRoute::compile(&read(any)?)?)
        } else if url == type_url::<CompositePerRoute>() {
            Self::ExtAuthz(Box::new(composite::asked(&read(any)?)?))
        } else {
            return Err(CompileError::invalid("type_url", format_args!("{url:?} is not served")));
        };
        Ok(Some(setting))
    }
}
