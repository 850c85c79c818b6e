//! Header fields that are set and removed.

use culvert_envoy::pb::envoy::config::core::v3::{
    HeaderValue as PbHeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::format::{Context, Format};
use crate::error::{CompileError, Within as _, take};

/// What is removed, then what is set, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mutations {
    remove: Vec<HeaderName>,
    add: Vec<Add>,
}

#[derive(Clone, Debug)]
struct Add {
    name: HeaderName,
    value: Format,
    how: HeaderAppendAction,
    keep_empty: bool,
}

impl Mutations {
    pub(crate) fn compile(add: &[HeaderValueOption], remove: &[String], field: &str) -> Result<Self, CompileError> {
        let compile_add = |(index, option)| Add::compile(option).within(|| format!("{field}_to_add[{index}]"));
        let compile_remove = |name: &String| field_name(name).within(|| format!("{field}_to_remove"));
        Ok(Self {
            remove: remove.iter().map(compile_remove).collect::<Result<_, _>>()?,
            add: add.iter().enumerate().map(compile_add).collect::<Result<_, _>>()?,
        })
    }

    /// What a context for these is filled in for, before `headers` are changed.
    pub(crate) fn values(&self, context: &Context<'_>) -> Vec<Vec<u8>> {
        self.add.iter().map(|add| add.value.text(context)).collect()
    }

    /// Changes the fields. `values` are those of [`values`](Self::values).
    pub(crate) fn apply_values(&self, headers: &mut HeaderMap, values: Vec<Vec<u8>>) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (add, value) in self.add.iter().zip(values) {
            add.apply(headers, value);
        }
    }

    /// Changes the fields of an answer.
    pub(crate) fn apply(&self, headers: &mut HeaderMap, context: &Context<'_>) {
        self.apply_values(headers, self.values(context));
    }
}

impl Add {
    fn compile(option: &HeaderValueOption) -> Result<Self, CompileError> {
        take!(option => HeaderValueOption { header, append, append_action, keep_empty_value } unserved {});
        let header = header.as_ref().ok_or_else(|| CompileError::missing("header"))?;
        take!(header => PbHeaderValue { key, value } unserved { raw_value });
        let how = HeaderAppendAction::try_from(*append_action)
            .map_err(|_| CompileError::invalid("append_action", format_args!("there is no {append_action}")))?;
        let how = match append {
            None => how,
            Some(_) if how != HeaderAppendAction::AppendIfExistsOrAdd => {
                return Err(CompileError::invalid("append", "is set beside append_action"));
            }
            Some(append) if append.value => HeaderAppendAction::AppendIfExistsOrAdd,
            Some(_) => HeaderAppendAction::OverwriteIfExistsOrAdd,
        };
        // What is no value of a field is told at load; what commands bring in is one already.
        HeaderValue::from_str(value).map_err(|_| {
            CompileError::invalid("value", format_args!("{value:?} is not the value of a header field"))
        })?;
        Ok(Self {
            name: field_name(key)?,
            value: Format::compile(value)?,
            how,
            keep_empty: *keep_empty_value,
        })
    }

    fn apply(&self, headers: &mut HeaderMap, value: Vec<u8>) {
        if value.is_empty() && !self.keep_empty {
            return;
        }
        let Ok(value) = HeaderValue::try_from(value) else {
            return;
        };
        match self.how {
            HeaderAppendAction::AppendIfExistsOrAdd => {
                headers.append(self.name.clone(), value);
            }
            HeaderAppendAction::AddIfAbsent if headers.contains_key(&self.name) => {}
            HeaderAppendAction::OverwriteIfExists if !headers.contains_key(&self.name) => {}
            HeaderAppendAction::AddIfAbsent
            | HeaderAppendAction::OverwriteIfExists
            | HeaderAppendAction::OverwriteIfExistsOrAdd => {
                headers.insert(self.name.clone(), value);
            }
        }
    }
}

/// The name of a field that may be changed: not the host, nor anything with a colon in front.
fn field_name(name: &str) -> Result<HeaderName, CompileError> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .ok()
        .filter(|parsed| *parsed != http::header::HOST);
    parsed.ok_or_else(|| CompileError::invalid("key", format_args!("the header field {name:?} cannot be changed")))
}
