//! HTTP filters as a chain has them: compiled, under the names by which routes configure them.

use culvert_envoy::{
    pb::{
        envoy::extensions::filters::{
            http::{
                composite::v3::Composite, compressor::v3::Compressor as CompressorMessage,
                cors::v3::Cors as CorsMessage, ext_authz::v3::ExtAuthz as ExtAuthzMessage, fault::v3::HttpFault,
                jwt_authn::v3::JwtAuthentication, local_ratelimit::v3::LocalRateLimit,
                ratelimit::v3::RateLimit as GlobalMessage, rbac::v3::Rbac as RbacMessage, router::v3::Router,
                stateful_session::v3::StatefulSession,
            },
            network::rbac::v3::Rbac as NetworkRbac,
        },
        google::protobuf::Any,
    },
    type_url, unpack,
};
use culvert_http::Route;
use culvert_http::filters::{
    Compressor, Fault, GlobalRateLimit, Override, RateLimit, Rbac, Session, ext_authz::ExtAuthz, jwt::JwtFilter,
};
use prost::{Message, Name};

use super::refusal::{Refusal, compiled, malformed, nothing_else};

/// A filter with its name.
#[derive(Debug)]
pub struct NamedFilter {
    /// Under which routes configure it.
    pub name: Box<str>,
    /// What it does.
    pub filter: Filter,
    /// Whether it does so for routes alone that ask for it.
    pub is_disabled: bool,
}

impl NamedFilter {
    /// What a route says of it, if it does anything there.
    pub fn setting<'a>(&self, route: Option<&'a Route>) -> Option<Option<&'a Override>> {
        match route.and_then(|route| route.overrides().get(&self.name)) {
            Some(Override::Disabled) => None,
            None if self.is_disabled => None,
            setting => Some(setting),
        }
    }
}

/// What a filter does.
#[derive(Debug)]
pub enum Filter {
    /// Access policies.
    Rbac(Rbac),
    /// A service that is asked.
    ExtAuthz(Box<ExtAuthz>),
    /// Tokens of people.
    Jwt(Box<JwtFilter>),
    /// Requests of other origins, as routes say.
    Cors,
    /// Faults.
    Fault(Box<Fault>),
    /// A bound on requests.
    RateLimit(Box<RateLimit>),
    /// A bound that a service counts.
    GlobalRateLimit(Box<GlobalRateLimit>),
    /// Compression of answers.
    Compressor(Box<Compressor>),
    /// How clients get back to the endpoint that they had; none where routes alone say so.
    Session(Option<Box<Session>>),
    /// A service that routes may ask; nothing by itself.
    RouteAuth,
    /// Routes. The last one.
    Router,
}

impl Filter {
    /// Reads the configuration of a filter.
    ///
    /// # Errors
    /// Where it is not served, or something in it is not: a filter that is passed over could be a policy.
    pub fn compile(config: &Any) -> Result<Self, Refusal> {
        fn read<M: Message + Name + Default>(config: &Any) -> Result<M, Refusal> {
            unpack(config).map_err(malformed("typed_config"))
        }
        let place = "typed_config";
        let url = &config.type_url;
        if *url == type_url::<RbacMessage>() {
            let rbac = Rbac::compile(&read(config)?).map_err(compiled(place))?;
            return Ok(Self::Rbac(rbac));
        }
        if *url == type_url::<JwtAuthentication>() {
            let jwt = JwtFilter::compile(&read(config)?).map_err(compiled(place))?;
            return Ok(Self::Jwt(Box::new(jwt)));
        }
        if *url == type_url::<ExtAuthzMessage>() {
            let authz = ExtAuthz::compile(&read(config)?).map_err(compiled(place))?;
            return Ok(Self::ExtAuthz(Box::new(authz)));
        }
        if *url == type_url::<Composite>() {
            let composite: Composite = read(config)?;
            nothing_else("composite", &composite)?;
            return Ok(Self::RouteAuth);
        }
        if *url == type_url::<CorsMessage>() {
            return Ok(Self::Cors);
        }
        if *url == type_url::<HttpFault>() {
            let fault = Fault::compile(&read(config)?).map_err(compiled(place))?;
            return Ok(Self::Fault(Box::new(fault)));
        }
        if *url == type_url::<LocalRateLimit>() {
            let limit = RateLimit::compile(&read(config)?).map_err(compiled(place))?;
            return Ok(Self::RateLimit(Box::new(limit)));
        }
        if *url == type_url::<GlobalMessage>() {
            let limit = GlobalRateLimit::compile(&read(config)?).map_err(compiled(place))?;
            return Ok(Self::GlobalRateLimit(Box::new(limit)));
        }
        if *url == type_url::<CompressorMessage>() {
            let compressor = Compressor::compile(&read(config)?).map_err(compiled(place))?;
            return Ok(Self::Compressor(Box::new(compressor)));
        }
        if *url == type_url::<StatefulSession>() {
            let session = Session::of(&read(config)?).map_err(compiled(place))?;
            return Ok(Self::Session(session.map(Box::new)));
        }
        if *url == type_url::<Router>() {
            return Ok(Self::Router);
        }
        Err(Refusal::new(place, format!("{url} is not served here")))
    }
}

/// Reads a filter of connections: access policies, and no others.
///
/// # Errors
/// As above.
pub fn network(config: &Any) -> Result<Rbac, Refusal> {
    if config.type_url != type_url::<NetworkRbac>() {
        return Err(Refusal::new(
            "network filter",
            format!("{} is not served here", config.type_url),
        ));
    }
    let message: NetworkRbac = unpack(config).map_err(malformed("network filter"))?;
    if message.matcher.is_some() || message.shadow_matcher.is_some() {
        return Err(Refusal::new(
            "network filter: matcher",
            "is set, and is not served here",
        ));
    }
    let rules = RbacMessage {
        rules: message.rules,
        shadow_rules: message.shadow_rules,
        shadow_rules_stat_prefix: message.shadow_rules_stat_prefix,
        ..RbacMessage::default()
    };
    Rbac::compile(&rules).map_err(compiled("network filter"))
}
