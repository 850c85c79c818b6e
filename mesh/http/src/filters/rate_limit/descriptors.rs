//! What of a request limits go by: Envoy's `RateLimit`, whose actions make a descriptor of it.

use culvert_envoy::IDENTITY_EXPRESSION;
use culvert_envoy::pb::envoy::config::core::v3::TypedExtensionConfig;
use culvert_envoy::pb::envoy::config::route::v3::RateLimit;
use culvert_envoy::pb::envoy::config::route::v3::rate_limit::Action as Message;
use culvert_envoy::pb::envoy::config::route::v3::rate_limit::action::{
    ActionSpecifier, GenericKey, HeaderValueMatch, RemoteAddress, RequestHeaders,
};
use culvert_envoy::pb::envoy::extensions::rate_limit_descriptors::expr::v3::{
    Descriptor as Expression, descriptor::ExprSpecifier,
};
use culvert_envoy::unpack;
use http::request::Parts;

use crate::error::{CompileError, Within as _, take};
use crate::matching::header::Header;
use crate::request::{FieldName, Peer};

/// What a request comes to: keys and values, in order.
pub(super) type Descriptor = Vec<(String, String)>;

/// How a descriptor is made.
#[derive(Debug)]
pub(super) struct Maker(Vec<Action>);

#[derive(Debug)]
enum Action {
    Text(String, String),
    Header {
        name: FieldName,
        key: String,
        may_be_absent: bool,
    },
    Matched {
        key: String,
        value: String,
        headers: Vec<Header>,
        expected: bool,
    },
    Address,
    Identity(String),
}

impl Maker {
    /// Reads how descriptors are made.
    pub(super) fn compile_all(messages: &[RateLimit]) -> Result<Vec<Self>, CompileError> {
        let compile = |(index, message)| Self::compile(message).within(|| format!("rate_limits[{index}]"));
        messages.iter().enumerate().map(compile).collect()
    }

    fn compile(message: &RateLimit) -> Result<Self, CompileError> {
        take!(message => RateLimit { actions } unserved {
            stage, disable_key, limit, hits_addend, apply_on_stream_done, x_ratelimit_option,
        });
        let compile = |(index, action)| Action::compile(action).within(|| format!("actions[{index}]"));
        Ok(Self(actions.iter().enumerate().map(compile).collect::<Result<_, _>>()?))
    }

    /// The descriptor of a request; none where one of its parts is not there.
    pub(super) fn make(&self, request: &Parts, peer: &Peer<'_>) -> Option<Descriptor> {
        let mut made = Vec::with_capacity(self.0.len());
        for action in &self.0 {
            made.extend(action.make(request, peer)?);
        }
        Some(made)
    }
}

impl Action {
    fn compile(message: &Message) -> Result<Self, CompileError> {
        let missing = || CompileError::missing("action_specifier");
        match message.action_specifier.as_ref().ok_or_else(missing)? {
            ActionSpecifier::GenericKey(text) => {
                take!(text => GenericKey { descriptor_value, descriptor_key } unserved { default_value });
                if descriptor_value.is_empty() {
                    return Err(CompileError::missing("generic_key.descriptor_value"));
                }
                Ok(Self::Text(or(descriptor_key, "generic_key"), descriptor_value.clone()))
            }
            ActionSpecifier::RequestHeaders(header) => {
                take!(header => RequestHeaders { header_name, descriptor_key, skip_if_absent } unserved {});
                let name = FieldName::parse(header_name);
                Ok(Self::Header {
                    name: name.ok_or_else(|| CompileError::invalid("header_name", "is no name of a header"))?,
                    key: descriptor_key.clone(),
                    may_be_absent: *skip_if_absent,
                })
            }
            ActionSpecifier::HeaderValueMatch(matched) => {
                take!(matched => HeaderValueMatch { descriptor_value, descriptor_key, expect_match, headers } unserved {
                    default_value,
                });
                Ok(Self::Matched {
                    key: or(descriptor_key, "header_match"),
                    value: descriptor_value.clone(),
                    headers: Header::compile_all(headers)?,
                    expected: expect_match.as_ref().is_none_or(|expected| expected.value),
                })
            }
            ActionSpecifier::RemoteAddress(RemoteAddress {}) => Ok(Self::Address),
            ActionSpecifier::Extension(extension) => identity(extension).within(|| "extension".into()),
            _ => Err(CompileError::unserved("action_specifier")),
        }
    }

    /// An entry, nothing where the part may be absent; none where there is no descriptor without it.
    fn make(&self, request: &Parts, peer: &Peer<'_>) -> Option<Option<(String, String)>> {
        let entry = |key: &str, value: String| Some(Some((key.to_owned(), value)));
        match self {
            Self::Text(key, value) => entry(key, value.clone()),
            Self::Header {
                name,
                key,
                may_be_absent,
            } => match name.first(request).filter(|value| !value.is_empty()) {
                Some(value) => entry(key, String::from_utf8_lossy(&value).into_owned()),
                None if *may_be_absent => Some(None),
                None => None,
            },
            Self::Matched {
                key,
                value,
                headers,
                expected,
            } => {
                let matches = headers.iter().all(|header| header.matches(request));
                (matches == *expected).then(|| Some((key.clone(), value.clone())))
            }
            Self::Address => entry("remote_address", peer.address?.ip().to_string()),
            Self::Identity(key) => entry(key, peer.principal?.to_owned()),
        }
    }
}

/// The one expression that there is: who the client is by its certificate.
fn identity(extension: &TypedExtensionConfig) -> Result<Action, CompileError> {
    take!(extension => TypedExtensionConfig { name, typed_config } unserved {});
    let _ = name;
    let any = typed_config
        .as_ref()
        .ok_or_else(|| CompileError::missing("typed_config"))?;
    let expression: Expression = unpack(any).map_err(|error| CompileError::new("typed_config", error))?;
    take!(&expression => Expression { descriptor_key, expr_specifier } unserved { skip_if_error });
    match expr_specifier {
        Some(ExprSpecifier::Text(text)) if text == IDENTITY_EXPRESSION => Ok(Action::Identity(descriptor_key.clone())),
        other => Err(CompileError::invalid(
            "expr_specifier",
            format_args!("{other:?} is not served"),
        )),
    }
}

fn or(text: &str, default: &str) -> String {
    if text.is_empty() { default } else { text }.to_owned()
}
