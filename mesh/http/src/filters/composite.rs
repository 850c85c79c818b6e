//! What a route puts in the place of the filter `envoy.filters.http.composite`: whatever the request is, a service that is asked. Other
//! filters and other conditions are not served.

use culvert_envoy::pb::envoy::config::core::v3::TypedExtensionConfig;
use culvert_envoy::pb::envoy::extensions::filters::http::composite::v3::{CompositePerRoute, ExecuteFilterAction};
use culvert_envoy::pb::envoy::extensions::filters::http::ext_authz::v3::ExtAuthz as ExtAuthzMessage;
use culvert_envoy::pb::google::protobuf::Any;
use culvert_envoy::pb::xds::core::v3::TypedExtensionConfig as XdsExtension;
use culvert_envoy::pb::xds::r#type::matcher::v3::Matcher;
use culvert_envoy::pb::xds::r#type::matcher::v3::matcher::{OnMatch, on_match};
use culvert_envoy::unpack;
use prost::{Message, Name};

use super::ext_authz::ExtAuthz;
use crate::error::{CompileError, Within as _, take};

/// The service that is asked.
pub(super) fn asked(message: &CompositePerRoute) -> Result<ExtAuthz, CompileError> {
    take!(message => CompositePerRoute { matcher } unserved {});
    let matcher = matcher.as_ref().ok_or_else(|| CompileError::missing("matcher"))?;
    of_matcher(matcher).within(|| "matcher".into())
}

fn of_matcher(matcher: &Matcher) -> Result<ExtAuthz, CompileError> {
    take!(matcher => Matcher { on_no_match, matcher_type } unserved {});
    if matcher_type.is_some() {
        return Err(CompileError::unserved("matcher_type"));
    }
    let on_no_match = on_no_match
        .as_ref()
        .ok_or_else(|| CompileError::missing("on_no_match"))?;
    take!(&**on_no_match => OnMatch { on_match } unserved { keep_matching });
    let Some(on_match::OnMatch::Action(action)) = on_match else {
        return Err(CompileError::invalid("on_no_match", "is no action"));
    };
    take!(action => XdsExtension { name, typed_config } unserved {});
    let _ = name;
    let action: ExecuteFilterAction = read(typed_config.as_ref())?;
    take!(&action => ExecuteFilterAction { typed_config } unserved {
        dynamic_config, filter_chain, filter_chain_name, sample_percent,
    });
    let filter = typed_config
        .as_ref()
        .ok_or_else(|| CompileError::missing("typed_config"))?;
    take!(filter => TypedExtensionConfig { name, typed_config } unserved {});
    let _ = name;
    let filter: ExtAuthzMessage = read(typed_config.as_ref())?;
    ExtAuthz::compile(&filter).within(|| "ext_authz".into())
}

fn read<M: Message + Name + Default>(any: Option<&Any>) -> Result<M, CompileError> {
    let any = any.ok_or_else(|| CompileError::missing("typed_config"))?;
    unpack(any).map_err(|error| CompileError::new("typed_config", error))
}
