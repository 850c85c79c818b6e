//! Names, durations and regular expressions, as fields have them.

use std::time::Duration;

use culvert_http::re2::Regex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::backend_tls::is_server_name;

/// What is wrong with a value: the field below the one that was read, if it is one, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) field: String,
    pub(super) message: String,
}

impl Bad {
    /// What is wrong with `field`.
    pub(super) fn at(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }

    /// The same, as seen from a field above: `parent` is its path.
    pub(super) fn below(self, parent: &str) -> Self {
        let field = match self.field.as_str() {
            "" => parent.to_owned(),
            field if field.starts_with('[') => format!("{parent}{field}"),
            field => format!("{parent}.{field}"),
        };
        Self { field, ..self }
    }
}

/// Reads a value by its type; null is as if nothing was there.
pub(super) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Bad> {
    let empty = Value::Object(serde_json::Map::new());
    let value = if value.is_null() { &empty } else { value };
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().to_string();
        Bad {
            field: if field == "." { String::new() } else { field },
            message: error.into_inner().to_string(),
        }
    })
}

/// A list that may be left out.
pub(super) fn list<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

/// A duration as the Gateway API writes it: `1h30m`, `500ms`. Up to four numbers of up to five digits each, with their units.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration: it must be like 1h30m10s500ms");
    let mut rest = text;
    let mut total = Duration::ZERO;
    for count in 0.. {
        if rest.is_empty() && count > 0 {
            break;
        }
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        if count == 4 || digits == 0 || digits > 5 {
            return Err(bad());
        }
        let (number, unit) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let letters = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let (unit, next) = unit.split_at(letters);
        total += match unit {
            "h" => Duration::from_secs(number * 3600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return Err(bad()),
        };
        rest = next;
    }
    Ok(total)
}

/// A regular expression that both proxies take: RE2's.
pub(super) fn regex(text: &str) -> Result<String, String> {
    match Regex::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let why = error.to_string();
            let last = why.lines().last().unwrap_or_default();
            Err(format!(
                "{text:?} is no regular expression: {}",
                last.trim_start_matches("error: ")
            ))
        }
    }
}

/// Checks what a match of a regular expression is replaced by.
pub(super) fn substitution(pattern: &str, new: &str) -> Result<(), String> {
    let regex = Regex::new(pattern).map_err(|error| error.to_string())?;
    regex
        .substitution(new)
        .map(drop)
        .map_err(|error| format!("{new:?} cannot be put in the place of a match: {error}"))
}

/// The name of a header, in lower case.
pub(super) fn header_name(name: &str) -> Result<String, String> {
    http::HeaderName::from_bytes(name.as_bytes())
        .map(|name| name.as_str().to_owned())
        .map_err(|_| format!("{name:?} is no name of a header"))
}

/// The value of a header.
pub(super) fn header_value(value: &str) -> Result<String, String> {
    match http::HeaderValue::from_str(value) {
        Ok(_) => Ok(value.to_owned()),
        Err(_) => Err(format!("{value:?} is no value of a header")),
    }
}

/// A host name, without a port.
pub(super) fn hostname(name: &str, may_be_wildcard: bool) -> Result<String, String> {
    let rest = match name.strip_prefix("*.") {
        Some(rest) if may_be_wildcard => rest,
        _ => name,
    };
    let is_label = |label: &str| {
        let byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(byte)
    };
    if rest.len() <= 253 && rest.split('.').all(is_label) {
        return Ok(name.to_ascii_lowercase());
    }
    Err(format!("{name:?} is no host name"))
}

/// The name of a server that speaks TLS.
pub(super) fn server_name(name: &str) -> Result<String, String> {
    let name = hostname(name, false)?;
    if is_server_name(&name) {
        return Ok(name);
    }
    Err(format!("{name:?} is no name of a server"))
}

/// An absolute path without a query.
pub(super) fn path(path: &str) -> Result<String, String> {
    let is_path = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
    if is_path {
        return Ok(path.to_owned());
    }
    Err(format!(
        "{path:?} is no path: it must begin with a slash, and have neither query nor spaces"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_numbers_with_units_and_nothing_else() {
        assert_eq!(duration("1h30m10s500ms"), Ok(Duration::from_millis(5_410_500)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for bad in ["", "1", "1d", "1.5s", "-1s", "s", "123456s", "1s1s1s1s1s", "1us"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_regular_expression_that_a_proxy_would_refuse_is_refused_here() {
        assert!(regex("/a/[0-9]+").is_ok());
        assert!(regex(r"\d+/\w*").is_ok());
        assert!(regex("(").is_err() && regex("(?=a)").is_err() && regex(r"(a)\1").is_err());
        assert!(regex("(a{1000}){1000}").is_err());
    }
}
