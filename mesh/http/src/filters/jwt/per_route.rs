//! What a route says of tokens.

use culvert_envoy::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    PerRouteConfig, per_route_config::RequirementSpecifier,
};

use crate::error::CompileError;

/// Which tokens a route needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PerRoute {
    /// None: the filter does nothing.
    Disabled,
    /// The requirement of this name.
    Requirement(String),
}

impl PerRoute {
    /// Reads a route's configuration of the filter.
    ///
    /// # Errors
    /// Where it says nothing.
    pub fn compile(message: &PerRouteConfig) -> Result<Self, CompileError> {
        match &message.requirement_specifier {
            Some(RequirementSpecifier::Disabled(true)) => Ok(Self::Disabled),
            Some(RequirementSpecifier::Disabled(false)) => Err(CompileError::invalid("disabled", "is false")),
            Some(RequirementSpecifier::RequirementName(name)) => Ok(Self::Requirement(name.clone())),
            None => Err(CompileError::missing("requirement_specifier")),
        }
    }
}
