//! Answers that are in the configuration.

use culvert_envoy::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use culvert_envoy::pb::envoy::config::route::v3::DirectResponseAction;
use http::request::Parts;
use http::{HeaderValue, StatusCode};

use crate::error::{CompileError, take};
use crate::request::{host, path_and_query, scheme};

/// An answer that is in the configuration.
#[derive(Debug)]
pub struct Direct {
    status: StatusCode,
    body: Vec<u8>,
}

impl Direct {
    /// `limit` is the largest body, in bytes.
    pub(super) fn compile(action: &DirectResponseAction, limit: usize) -> Result<Self, CompileError> {
        take!(action => DirectResponseAction { status, body } unserved { body_format });
        let code = u16::try_from(*status).ok().filter(|code| (200..600).contains(code));
        let code = code.and_then(|code| StatusCode::from_u16(code).ok());
        let body = match body {
            None => Vec::new(),
            Some(source) => data(source)?,
        };
        if body.len() > limit {
            return Err(CompileError::invalid(
                "body",
                format_args!("{} bytes are more than {limit}", body.len()),
            ));
        }
        Ok(Self {
            status: code.ok_or_else(|| CompileError::invalid("status", format_args!("{status} is not in 200..600")))?,
            body,
        })
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its body. Text, if anything.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The value of `location`, which an answer with the status of a redirect or of 201 has: the address that was asked for.
    pub fn location(&self, request: &Parts) -> Option<HeaderValue> {
        if !self.status.is_redirection() && self.status != StatusCode::CREATED {
            return None;
        }
        let text = format!("{}://{}{}", scheme(request), host(request), path_and_query(request));
        HeaderValue::try_from(text).ok()
    }
}

/// What is in the message itself; files and variables of the environment are the waypoint's, not the controller's.
fn data(source: &DataSource) -> Result<Vec<u8>, CompileError> {
    take!(source => DataSource { specifier } unserved { watched_directory });
    match specifier {
        Some(Specifier::InlineString(text)) => Ok(text.clone().into_bytes()),
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes.clone()),
        Some(Specifier::Filename(_)) => Err(CompileError::unserved("filename")),
        Some(Specifier::EnvironmentVariable(_)) => Err(CompileError::unserved("environment_variable")),
        None => Err(CompileError::missing("specifier")),
    }
}
