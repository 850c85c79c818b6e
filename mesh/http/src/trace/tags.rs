//! Tags that the configuration adds to each span.

use std::borrow::Cow;

use culvert_envoy::pb::envoy::r#type::tracing::v3::{CustomTag, custom_tag::Type};
use http::request::Parts;

use super::span::Span;
use crate::error::CompileError;
use crate::request::FieldName;

/// A tag.
#[derive(Clone, Debug)]
pub(super) struct Tag {
    name: String,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    /// The same for every request.
    Always(String),
    /// A header field's first line, or else this text; nothing where that is empty.
    Header(FieldName, String),
}

impl Tag {
    /// `environment` is asked for variables.
    pub(super) fn compile(
        tag: &CustomTag,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, CompileError> {
        let place = || format!("custom_tags `{}`", tag.tag);
        let value = match &tag.r#type {
            Some(Type::Literal(literal)) => Value::Always(literal.value.clone()),
            Some(Type::Environment(variable)) => {
                let value = environment(&variable.name).unwrap_or_else(|| variable.default_value.clone());
                if value.is_empty() {
                    return Ok(None);
                }
                Value::Always(value)
            }
            Some(Type::RequestHeader(header)) => {
                let name = FieldName::parse(&header.name);
                let name = name.ok_or_else(|| CompileError::invalid("name", "is no header field's").within(place()))?;
                Value::Header(name, header.default_value.clone())
            }
            Some(Type::Metadata(_)) => return Err(CompileError::unserved("metadata").within(place())),
            Some(Type::Value(_)) => return Err(CompileError::unserved("value").within(place())),
            None => return Err(CompileError::missing("type").within(place())),
        };
        Ok(Some(Self {
            name: tag.tag.clone(),
            value,
        }))
    }

    pub(super) fn apply(&self, request: &Parts, span: &mut Span) {
        let value = match &self.value {
            Value::Always(value) => value.clone(),
            Value::Header(name, default) => match name.first(request) {
                Some(value) => String::from_utf8_lossy(&value).into_owned(),
                None if default.is_empty() => return,
                None => default.clone(),
            },
        };
        span.tag(Cow::Owned(self.name.clone()), value);
    }
}
