//! `sessionPersistence` of a rule. Gateway API 1.6 names cookie and field in `cookie` and `header`; before, it was `sessionName`, and
//! `cookieConfig`.

use serde::Deserialize;

use super::super::model::Session;
use super::values::{self, Bad};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SessionSpec {
    #[serde(default, rename = "type")]
    kind: SessionKind,
    session_name: Option<String>,
    absolute_timeout: Option<String>,
    idle_timeout: Option<String>,
    #[serde(alias = "cookieConfig")]
    cookie: Option<CookieSpec>,
    header: Option<HeaderSpec>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum SessionKind {
    #[default]
    Cookie,
    Header,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CookieSpec {
    name: Option<String>,
    path: Option<String>,
    #[serde(default)]
    lifetime_type: Lifetime,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum Lifetime {
    #[default]
    Session,
    Permanent,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderSpec {
    name: String,
}

/// Reads it. `rule` is what the rule is called: a cookie without a name is named by it, so that no two rules share one.
pub(super) fn read(spec: SessionSpec, rule: &str) -> Result<Session, Bad> {
    read_at(spec, rule).map_err(|bad| bad.below("sessionPersistence"))
}

fn read_at(spec: SessionSpec, rule: &str) -> Result<Session, Bad> {
    if spec.idle_timeout.is_some() {
        return Err(Bad::at("idleTimeout", "is not served: proxies do not count idle time"));
    }
    let timeout = spec.absolute_timeout.as_deref().map(values::duration).transpose();
    let timeout = timeout.map_err(|message| Bad::at("absoluteTimeout", message))?;
    if spec.kind == SessionKind::Header {
        if spec.cookie.is_some() {
            return Err(Bad::at("cookie", "is for type Cookie"));
        }
        if timeout.is_some() {
            return Err(Bad::at("absoluteTimeout", "is for type Cookie: a field has no time"));
        }
        let name = spec.header.map(|header| header.name).or(spec.session_name);
        let name = name.ok_or_else(|| Bad::at("header", "is missing: the field has no name"))?;
        let name = values::header_name(&name).map_err(|message| Bad::at("header.name", message))?;
        return Ok(Session::Header(name));
    }
    if spec.header.is_some() {
        return Err(Bad::at("header", "is for type Header"));
    }
    let cookie = spec.cookie.unwrap_or_default();
    if cookie.lifetime_type == Lifetime::Permanent && timeout.is_none() {
        return Err(Bad::at(
            "absoluteTimeout",
            "is missing, and a permanent cookie needs it",
        ));
    }
    let is_token = |text: &str| {
        let byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        !text.is_empty() && text.bytes().all(byte)
    };
    let name = cookie.name.or(spec.session_name);
    let name = name.unwrap_or_else(|| format!("culvert-{}", rule.replace(|c: char| !c.is_ascii_alphanumeric(), "-")));
    if !is_token(&name) {
        return Err(Bad::at("cookie.name", format!("{name:?} is no name of a cookie")));
    }
    let path = cookie
        .path
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "/".to_owned());
    if !path.starts_with('/') || path.bytes().any(|b| !b.is_ascii_graphic() || b == b';') {
        return Err(Bad::at("cookie.path", format!("{path:?} is no path of a cookie")));
    }
    Ok(Session::Cookie {
        name,
        path,
        ttl: timeout.filter(|timeout| !timeout.is_zero()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn read(spec: &Value) -> Result<Session, Bad> {
        values::read(spec).and_then(|spec| super::read(spec, "HTTPRoute shop/web[0]"))
    }

    fn cookie(name: &str, path: &str, seconds: Option<u64>) -> Result<Session, Bad> {
        Ok(Session::Cookie {
            name: name.to_owned(),
            path: path.to_owned(),
            ttl: seconds.map(Duration::from_secs),
        })
    }

    #[test]
    fn cookies_and_fields_are_read_as_old_and_new_versions_write_them() {
        assert_eq!(read(&json!({})), cookie("culvert-HTTPRoute-shop-web-0-", "/", None));
        let new =
            json!({"absoluteTimeout": "1h", "cookie": {"name": "who", "path": "/a", "lifetimeType": "Permanent"}});
        assert_eq!(read(&new), cookie("who", "/a", Some(3600)));
        let old = json!({"sessionName": "who", "absoluteTimeout": "1h", "cookieConfig": {"lifetimeType": "Permanent"}});
        assert_eq!(read(&old), cookie("who", "/", Some(3600)));
        for header in [
            json!({"header": {"name": "X-Who"}, "type": "Header"}),
            json!({"sessionName": "x-who", "type": "Header"}),
        ] {
            assert_eq!(read(&header), Ok(Session::Header("x-who".to_owned())));
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_its_field() {
        for (spec, field) in [
            (json!({"idleTimeout": "1m"}), "idleTimeout"),
            (json!({"cookie": {"lifetimeType": "Permanent"}}), "absoluteTimeout"),
            (json!({"type": "Header"}), "header"),
            (json!({"cookie": {"name": "a b"}}), "cookie.name"),
            (json!({"cookie": {"path": "/;x"}}), "cookie.path"),
        ] {
            assert_eq!(read(&spec).unwrap_err().field, format!("sessionPersistence.{field}"));
        }
    }
}
