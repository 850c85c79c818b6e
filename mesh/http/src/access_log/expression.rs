//! Conditions in CEL, with Envoy's attributes.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use cel::objects::Map;
use cel::{Context, Env, Program, Value};
use http::HeaderMap;

use super::command::protocol;
use super::facts::Facts;
use super::flags;
use crate::error::CompileError;
use crate::request;

/// Longest expression, in bytes.
const LONGEST: usize = 2048;
/// What goes through a list or a map, and may do so inside of another one.
const LOOPS: [&str; 5] = [".all(", ".exists(", ".exists_one(", ".map(", ".filter("];
/// Attributes that there are.
const ATTRIBUTES: [&str; 7] = [
    "request",
    "response",
    "source",
    "destination",
    "connection",
    "upstream",
    "xds",
];

/// A condition, or what is said of a request.
#[derive(Debug)]
pub struct Expression {
    program: Program,
}

impl Expression {
    /// Reads it.
    ///
    /// # Errors
    /// Where it is none, may take too long, or names what there is not.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        let invalid = |why: String| CompileError::invalid("expression", why);
        if text.len() > LONGEST {
            return Err(invalid(format!("it is longer than {LONGEST} bytes")));
        }
        let loops: usize = LOOPS.iter().map(|word| text.matches(word).count()).sum();
        if loops > 1 {
            return Err(invalid(
                "more than one of all, exists, exists_one, map, filter: it may take too long".to_owned(),
            ));
        }
        let program = environment()
            .compile(text)
            .map_err(|error| invalid(error.to_string()))?;
        let references = program.references();
        if references.has_function("matches") {
            return Err(invalid("matches is not served".to_owned()));
        }
        let unknown = references
            .variables()
            .into_iter()
            .find(|name| loops == 0 && !ATTRIBUTES.contains(name));
        if let Some(name) = unknown {
            return Err(invalid(format!("there is no attribute `{name}`")));
        }
        Ok(Self { program })
    }

    /// As in Envoy, what cannot be found out does not hold.
    pub(super) fn holds(&self, facts: &Facts<'_>) -> bool {
        matches!(self.value(facts), Some(Value::Bool(true)))
    }

    /// What it comes to, where that is a text, a number or a truth; none where it cannot be found out.
    pub fn text(&self, facts: &Facts<'_>) -> Option<String> {
        match self.value(facts)? {
            Value::String(text) => Some((*text).clone()),
            Value::Int(number) => Some(number.to_string()),
            Value::UInt(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            _ => None,
        }
    }

    /// Whether it is the same of every request.
    pub fn is_constant(&self) -> bool {
        self.program.references().variables().is_empty()
    }

    fn value(&self, facts: &Facts<'_>) -> Option<Value> {
        let mut context = Context::with_env(Arc::clone(environment()));
        let references = self.program.references();
        for (name, attributes) in
            ATTRIBUTES
                .into_iter()
                .zip([request, response, source, destination, connection, upstream, xds] as [Attributes; 7])
        {
            if references.has_variable(name) {
                context.add_variable_from_value(name, Value::Map(Map::from(attributes(facts))));
            }
        }
        self.program.execute(&context).ok()
    }
}

type Members = HashMap<String, Value>;
type Attributes = fn(&Facts<'_>) -> Members;

fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| Arc::new(Env::stdlib()))
}

fn text(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

/// Integers are signed, as Envoy's.
fn number(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Lines of one name are joined by commas.
fn fields(headers: &HeaderMap) -> Value {
    let all = headers.keys().map(|name| {
        let lines = headers.get_all(name).iter();
        let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
        (name.as_str().to_owned(), text(&lines.join(",")))
    });
    Value::Map(Map::from(all.collect::<Members>()))
}

fn request(facts: &Facts<'_>) -> Members {
    let mut found = Members::new();
    let mut add = |name: &str, value: Value| drop(found.insert(name.to_owned(), value));
    add("size", number(facts.received));
    if let Some(version) = facts.version {
        add("protocol", text(protocol(version)));
    }
    let Some(heads) = facts.heads else {
        return found;
    };
    let head = heads.request;
    let field = |name: &str| {
        head.headers
            .get(name)
            .map(|value| text(&String::from_utf8_lossy(value.as_bytes())))
    };
    add("path", text(request::path_and_query(head)));
    add("url_path", text(head.uri.path()));
    add("query", text(head.uri.query().unwrap_or_default()));
    add("host", text(request::host(head)));
    add("scheme", text(request::scheme(head)));
    add("method", text(head.method.as_str()));
    for (name, header) in [
        ("referer", "referer"),
        ("useragent", "user-agent"),
        ("id", "x-request-id"),
    ] {
        if let Some(value) = field(header) {
            add(name, value);
        }
    }
    add("headers", fields(&head.headers));
    found
}

fn response(facts: &Facts<'_>) -> Members {
    let mut found = Members::new();
    let mut add = |name: &str, value: Value| drop(found.insert(name.to_owned(), value));
    add("flags", Value::Int(flags::bits(facts.flags)));
    add("size", number(facts.sent));
    let Some(heads) = facts.heads else {
        return found;
    };
    if facts.status != 0 {
        add("code", number(facts.status.into()));
    }
    if !facts.details.is_empty() {
        add("code_details", text(facts.details));
    }
    if let Some(status) = facts.grpc_status {
        add("grpc_status", number(status.into()));
    }
    add("headers", fields(heads.response));
    if let Some(trailers) = facts.trailers {
        add("trailers", fields(trailers));
    }
    found
}

fn address(address: std::net::SocketAddr) -> Members {
    [
        ("address".to_owned(), text(&address.to_string())),
        ("port".to_owned(), number(address.port().into())),
    ]
    .into()
}

fn source(facts: &Facts<'_>) -> Members {
    address(facts.client)
}

fn destination(facts: &Facts<'_>) -> Members {
    address(facts.destination)
}

fn upstream(facts: &Facts<'_>) -> Members {
    facts.upstream.map(address).unwrap_or_default()
}

fn connection(facts: &Facts<'_>) -> Members {
    let mut found = Members::from([("mtls".to_owned(), Value::Bool(false))]);
    if facts.heads.is_none() && !facts.details.is_empty() {
        found.insert("termination_details".to_owned(), text(facts.details));
    }
    found
}

fn xds(facts: &Facts<'_>) -> Members {
    [
        ("cluster_name".to_owned(), text(facts.cluster)),
        ("route_name".to_owned(), text(facts.route)),
    ]
    .into()
}
