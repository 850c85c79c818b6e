//! An entry of `from` or `to`: a source, or an operation.

use serde_json::{Map, Value};

use super::super::value;
use super::reading::{Part, Reading, all, is_empty};
use super::test::{Pattern, Test};

impl Reading<'_> {
    /// An entry with its one field `name`.
    pub(super) fn entry(&mut self, at: &str, entry: &Value, name: &str) -> Part {
        let Some(entry) = self.object(at, entry) else {
            return self.doubt();
        };
        let mut parts = self.unknown(at, entry, &[name]);
        let empty = Map::new();
        let at = format!("{at}.{name}");
        let fields = match entry.get(name) {
            None | Some(Value::Null) => &empty,
            Some(value) => match self.object(&at, value) {
                Some(fields) => fields,
                None => return self.doubt(),
            },
        };
        for (field, value) in fields.iter().filter(|(_, value)| !is_empty(value)) {
            let path = format!("{at}.{field}");
            let part = if name == "source" {
                self.source(&path, field, value)
            } else {
                self.operation(&path, field, value)
            };
            parts.push(part);
        }
        if parts.is_empty() {
            self.notes.add(&at, self.instead("it is empty"));
            return self.doubt();
        }
        all(parts)
    }

    fn source(&mut self, at: &str, name: &str, value: &Value) -> Part {
        let namespace = self.namespace;
        match name {
            "principals" | "notPrincipals" => self.values(at, value, is_exception(name), principal),
            "namespaces" | "notNamespaces" => self.values(at, value, is_exception(name), namespace_of),
            "trustDomains" | "notTrustDomains" => self.values(at, value, is_exception(name), trust_domain),
            "serviceAccounts" | "notServiceAccounts" => {
                self.values(at, value, is_exception(name), |text| service_account(text, namespace))
            }
            "ipBlocks" | "notIpBlocks" => self.values(at, value, is_exception(name), source_address),
            "remoteIpBlocks" | "notRemoteIpBlocks" => {
                let part = self.values(at, value, is_exception(name), remote_address);
                self.of_requests(part)
            }
            "requestPrincipals" | "notRequestPrincipals" => {
                let part = self.values(at, value, is_exception(name), Test::request_principal);
                self.of_requests(part)
            }
            _ => self.not_known(at),
        }
    }

    fn operation(&mut self, at: &str, name: &str, value: &Value) -> Part {
        let read: fn(&str) -> Option<Test> = match name {
            "ports" | "notPorts" => return self.values(at, value, is_exception(name), port),
            "hosts" | "notHosts" => |text| Pattern::parse(text).map(Test::Host),
            "methods" | "notMethods" => |text| Pattern::parse(text).map(Test::Method),
            "paths" | "notPaths" => Test::path,
            _ => return self.not_known(at),
        };
        let part = self.values(at, value, is_exception(name), read);
        self.of_requests(part)
    }

    fn not_known(&mut self, at: &str) -> Part {
        self.notes.add(at, self.instead("it is unknown, or not served"));
        self.doubt()
    }
}

fn is_exception(name: &str) -> bool {
    name.starts_with("not")
}

pub(super) fn principal(text: &str) -> Option<Test> {
    Pattern::parse(text.strip_prefix("spiffe://").unwrap_or(text)).map(Test::Principal)
}

pub(super) fn trust_domain(text: &str) -> Option<Test> {
    Pattern::parse(text)
        .filter(|_| !text.contains('/'))
        .map(Test::TrustDomain)
}

pub(super) fn namespace_of(text: &str) -> Option<Test> {
    Pattern::parse(text)
        .filter(|_| !text.contains('/'))
        .map(Test::Namespace)
}

pub(super) fn service_account(text: &str, own: &str) -> Option<Test> {
    let account = value::service_account(text, own)?;
    Some(Test::ServiceAccount {
        namespace: account.namespace,
        name: account.service_account,
    })
}

pub(super) fn source_address(text: &str) -> Option<Test> {
    value::network(text).map(Test::SourceAddress)
}

pub(super) fn remote_address(text: &str) -> Option<Test> {
    value::network(text).map(Test::RemoteAddress)
}

pub(super) fn port(text: &str) -> Option<Test> {
    let port = value::port(text)?;
    u16::try_from(port).ok().map(Test::DestinationPort)
}
