//! Which requests have a line.

use culvert_envoy::pb::envoy::config::accesslog::v3::{
    AccessLogFilter, ComparisonFilter, access_log_filter::FilterSpecifier, comparison_filter::Op,
    extension_filter::ConfigType,
};
use culvert_envoy::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use culvert_envoy::unpack;

use super::expression::Expression;
use super::facts::Facts;
use super::flags;
use crate::error::CompileError;

/// A condition.
#[derive(Debug)]
pub(super) enum Filter {
    Status(Comparison),
    Duration(Comparison),
    /// One of these flags, or any for none.
    Flags(Vec<String>),
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Expression(Box<Expression>),
}

#[derive(Debug)]
pub(super) struct Comparison(Op, u64);

impl Filter {
    pub(super) fn compile(message: &AccessLogFilter) -> Result<Self, CompileError> {
        let all = |filters: &[AccessLogFilter]| filters.iter().map(Self::compile).collect::<Result<Vec<_>, _>>();
        let specifier = message.filter_specifier.as_ref();
        Ok(match specifier.ok_or_else(|| CompileError::missing("filter"))? {
            FilterSpecifier::StatusCodeFilter(filter) => {
                Self::Status(Comparison::compile("status_code_filter", filter.comparison.as_ref())?)
            }
            FilterSpecifier::DurationFilter(filter) => {
                Self::Duration(Comparison::compile("duration_filter", filter.comparison.as_ref())?)
            }
            FilterSpecifier::ResponseFlagFilter(filter) => {
                if let Some(flag) = filter.flags.iter().find(|flag| !flags::is_known(flag)) {
                    return Err(CompileError::invalid(
                        "response_flag_filter",
                        format_args!("there is no {flag}"),
                    ));
                }
                Self::Flags(filter.flags.clone())
            }
            FilterSpecifier::AndFilter(filter) => Self::All(all(&filter.filters)?),
            FilterSpecifier::OrFilter(filter) => Self::Any(all(&filter.filters)?),
            FilterSpecifier::ExtensionFilter(filter) => {
                let Some(ConfigType::TypedConfig(config)) = &filter.config_type else {
                    return Err(CompileError::missing("extension_filter.typed_config"));
                };
                let config: ExpressionFilter =
                    unpack(config).map_err(|error| CompileError::new("extension_filter", error))?;
                if config.cel_config.is_some() {
                    return Err(CompileError::unserved("extension_filter.cel_config"));
                }
                let expression = Expression::compile(&config.expression);
                Self::Expression(Box::new(expression.map_err(|error| error.within("extension_filter"))?))
            }
            FilterSpecifier::NotHealthCheckFilter(_) => return Err(CompileError::unserved("not_health_check_filter")),
            FilterSpecifier::TraceableFilter(_) => return Err(CompileError::unserved("traceable_filter")),
            FilterSpecifier::RuntimeFilter(_) => return Err(CompileError::unserved("runtime_filter")),
            FilterSpecifier::HeaderFilter(_) => return Err(CompileError::unserved("header_filter")),
            FilterSpecifier::GrpcStatusFilter(_) => return Err(CompileError::unserved("grpc_status_filter")),
            FilterSpecifier::MetadataFilter(_) => return Err(CompileError::unserved("metadata_filter")),
            FilterSpecifier::LogTypeFilter(_) => return Err(CompileError::unserved("log_type_filter")),
        })
    }

    pub(super) fn passes(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Status(comparison) => comparison.holds(facts.status.into()),
            Self::Duration(comparison) => comparison.holds(u64::try_from(facts.took.as_millis()).unwrap_or(u64::MAX)),
            Self::Flags(flags) if flags.is_empty() => !facts.flags.is_empty(),
            Self::Flags(flags) => facts.flags.iter().any(|flag| flags.iter().any(|wanted| wanted == flag)),
            Self::All(filters) => filters.iter().all(|filter| filter.passes(facts)),
            Self::Any(filters) => filters.iter().any(|filter| filter.passes(facts)),
            Self::Expression(expression) => expression.holds(facts),
        }
    }
}

impl Comparison {
    fn compile(field: &str, message: Option<&ComparisonFilter>) -> Result<Self, CompileError> {
        let message = message.ok_or_else(|| CompileError::missing(format!("{field}.comparison")))?;
        let op = Op::try_from(message.op)
            .map_err(|_| CompileError::invalid(field, format_args!("there is no operation {}", message.op)))?;
        // There is no runtime: the default holds.
        let value = message.value.as_ref().map_or(0, |value| value.default_value);
        Ok(Self(op, value.into()))
    }

    fn holds(&self, value: u64) -> bool {
        match self.0 {
            Op::Eq => value == self.1,
            Op::Ge => value >= self.1,
            Op::Le => value <= self.1,
            Op::Ne => value != self.1,
        }
    }
}
