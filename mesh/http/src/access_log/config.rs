//! From Envoy's message to a log.

use culvert_envoy::pb::envoy::config::accesslog::v3::{AccessLog as Message, access_log::ConfigType};
use culvert_envoy::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat};
use culvert_envoy::{type_url, unpack};

use super::facts::Facts;
use super::filter::Filter;
use super::format::Format;
use crate::error::CompileError;

/// Envoy's own line, where a log has no format.
const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
    \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// A log.
#[derive(Debug)]
pub struct AccessLog {
    filter: Option<Filter>,
    format: Format,
    /// Where its lines go.
    pub output: Output,
}

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

impl AccessLog {
    /// Reads the message.
    ///
    /// # Errors
    /// Where something is not served, with the log's name.
    pub fn compile(message: &Message) -> Result<Self, CompileError> {
        let within = |error: CompileError| error.within(format!("access_log `{}`", message.name));
        let filter = message
            .filter
            .as_ref()
            .map(Filter::compile)
            .transpose()
            .map_err(within)?;
        let Some(ConfigType::TypedConfig(config)) = &message.config_type else {
            return Err(within(CompileError::missing("typed_config")));
        };
        if config.type_url != type_url::<FileAccessLog>() {
            let other = format_args!("{} is not served", config.type_url);
            return Err(within(CompileError::invalid("typed_config", other)));
        }
        let file: FileAccessLog = unpack(config).map_err(|error| within(CompileError::new("typed_config", error)))?;
        let output = match &*file.path {
            "/dev/stdout" => Output::Stdout,
            "/dev/stderr" => Output::Stderr,
            other => {
                let why =
                    format_args!("{other} cannot be written: the root is read-only. /dev/stdout and /dev/stderr can");
                return Err(within(CompileError::invalid("path", why)));
            }
        };
        let format = match file.access_log_format {
            None => Format::text(DEFAULT),
            Some(AccessLogFormat::LogFormat(format)) => Format::compile(format),
            Some(_) => Err(CompileError::unserved(
                "format, json_format or typed_json_format: there is log_format",
            )),
        };
        Ok(Self {
            filter,
            format: format.map_err(within)?,
            output,
        })
    }

    /// The line of a request or connection, with its end; none where the filter leaves it out.
    pub fn line(&self, facts: &Facts<'_>) -> Option<String> {
        let passes = self.filter.as_ref().is_none_or(|filter| filter.passes(facts));
        passes.then(|| self.format.line(facts))
    }
}
