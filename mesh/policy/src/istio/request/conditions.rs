//! What `when` asks for: all of it must hold.

use serde_json::Value;

use super::super::value;
use super::fields;
use super::reading::{Part, Reading, is_empty};
use super::test::{Pattern, Test};

/// From a value to a test; none where it is not understood.
type Read = Box<dyn Fn(&str) -> Option<Test>>;

/// What a key stands for.
struct Meaning {
    /// Whether it is about what is asked for, rather than who asks.
    is_operation: bool,
    needs_requests: bool,
    read: Read,
}

impl Reading<'_> {
    pub(super) fn conditions(
        &mut self,
        at: &str,
        when: Option<&Value>,
        operation: &mut Vec<Part>,
        source: &mut Vec<Part>,
    ) {
        let Some(when) = when.filter(|value| !value.is_null()) else {
            return;
        };
        let Some(conditions) = self.list(at, when) else {
            source.push(self.doubt());
            return;
        };
        for (index, condition) in conditions.iter().enumerate() {
            self.condition(&format!("{at}[{index}]"), condition, operation, source);
        }
    }

    fn condition(&mut self, at: &str, condition: &Value, operation: &mut Vec<Part>, source: &mut Vec<Part>) {
        let Some(fields) = self.object(at, condition) else {
            source.push(self.doubt());
            return;
        };
        let unknown = self.unknown(at, fields, &["key", "values", "notValues"]);
        source.extend(unknown);
        let key = fields.get("key").and_then(Value::as_str).unwrap_or_default();
        let Some(meaning) = meaning(key, self.namespace) else {
            let what = format!("{key:?} is unknown, or not served");
            self.notes.add(&format!("{at}.key"), self.instead(&what));
            source.push(self.doubt());
            return;
        };
        let lists = [("values", false), ("notValues", true)];
        let mut is_there = false;
        for (name, is_exception) in lists {
            let Some(value) = fields.get(name).filter(|value| !is_empty(value)) else {
                continue;
            };
            is_there = true;
            let mut part = self.values(&format!("{at}.{name}"), value, is_exception, &meaning.read);
            if meaning.needs_requests {
                part = self.of_requests(part);
            }
            let to = if meaning.is_operation {
                &mut *operation
            } else {
                &mut *source
            };
            to.push(part);
        }
        if !is_there {
            self.notes.add(at, self.instead("it has no values"));
            source.push(self.doubt());
        }
    }
}

/// What `key` asks for in a policy of `namespace`.
fn meaning(key: &str, namespace: &str) -> Option<Meaning> {
    let of_connections = |is_operation, read: fn(&str) -> Option<Test>| Meaning {
        is_operation,
        needs_requests: false,
        read: Box::new(read),
    };
    let claim = |path: Vec<String>| Meaning {
        is_operation: false,
        needs_requests: true,
        read: Box::new(move |text| Pattern::parse(text).map(|pattern| Test::Claim(path.clone(), pattern))),
    };
    Some(match key {
        "source.ip" => of_connections(false, fields::source_address),
        "source.namespace" => of_connections(false, fields::namespace_of),
        "source.principal" => of_connections(false, fields::principal),
        "source.trustDomain" => of_connections(false, fields::trust_domain),
        "source.serviceAccount" => {
            let own = namespace.to_owned();
            Meaning {
                is_operation: false,
                needs_requests: false,
                read: Box::new(move |text| fields::service_account(text, &own)),
            }
        }
        "destination.ip" => of_connections(true, |text| value::network(text).map(Test::DestinationAddress)),
        "destination.port" => of_connections(true, fields::port),
        "remote.ip" => Meaning {
            needs_requests: true,
            ..of_connections(false, fields::remote_address)
        },
        "request.auth.principal" => Meaning {
            needs_requests: true,
            ..of_connections(false, Test::request_principal)
        },
        "request.auth.audiences" => claim(vec!["aud".to_owned()]),
        "request.auth.presenter" => claim(vec!["azp".to_owned()]),
        _ => {
            if let Some(rest) = key.strip_prefix("request.auth.claims") {
                return Some(claim(brackets(rest)?));
            }
            let mut name = brackets(key.strip_prefix("request.headers")?)?;
            let name = name
                .pop()
                .filter(|name| name.bytes().all(is_token) && name.len() < 256)?;
            Meaning {
                is_operation: false,
                needs_requests: true,
                read: Box::new(move |text| Pattern::parse(text).map(|pattern| Test::Header(name.clone(), pattern))),
            }
        }
    })
}

/// The names of `[a][b]`.
fn brackets(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<String> = inner.split("][").map(str::to_owned).collect();
    let is_name = |name: &String| !name.is_empty() && !name.contains(['[', ']']);
    names.iter().all(is_name).then_some(names)
}

/// What the name of a header field may have, by RFC 9110.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
