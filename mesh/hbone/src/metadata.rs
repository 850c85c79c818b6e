//! The headers that HBONE gives a meaning: `baggage` (W3C Baggage, with Istio's keys) and `forwarded` (RFC 7239).
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// The header in which a refusal says why, for the log of who asked.
pub const REASON_HEADER: &str = "x-culvert-reason";

/// The workload that a stream comes from (or answers), as the `baggage` header carries it. Empty strings are left out on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baggage {
    /// `k8s.cluster.name`
    pub cluster: String,
    /// `k8s.namespace.name`
    pub namespace: String,
    /// What owns the pod: `deployment`, `job`, `cronjob`, `statefulset`, `daemonset`, `pod`...; the key is `k8s.<kind>.name`.
    pub workload_kind: String,
    /// Its name.
    pub workload: String,
    /// `service.name`
    pub service: String,
    /// `service.version`
    pub version: String,
}

/// The `forwarded` header (RFC 7239), as far as HBONE uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// `for`: the client's address.
    pub client: Option<IpAddr>,
    /// `host`: the host that the client dialled.
    pub host: Option<String>,
}

/// Kinds of workload that a key may name.
const KINDS: [&str; 8] = [
    "deployment",
    "replicaset",
    "statefulset",
    "daemonset",
    "job",
    "cronjob",
    "replicationcontroller",
    "pod",
];
/// Members of a list that are looked at (W3C Baggage allows 64 or so).
const MAX_MEMBERS: usize = 64;

impl Baggage {
    /// The header's value. Characters that the syntax does not allow are percent-encoded.
    pub fn encode(&self) -> String {
        let kind = if self.workload_kind.is_empty() {
            "deployment"
        } else {
            &self.workload_kind
        };
        let workload = format!("k8s.{}.name", kind.to_ascii_lowercase());
        let members = [
            ("k8s.cluster.name", &self.cluster),
            ("k8s.namespace.name", &self.namespace),
            (&*workload, &self.workload),
            ("service.name", &self.service),
            ("service.version", &self.version),
        ];
        let mut text = String::new();
        for (key, value) in members {
            if value.is_empty() {
                continue;
            }
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(key);
            text.push('=');
            for byte in value.bytes() {
                if is_baggage_byte(byte) {
                    text.push(char::from(byte));
                } else {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "%{byte:02X}");
                }
            }
        }
        text
    }

    /// Reads a header's value. Keys that are not known are passed over, as is what does not parse: baggage only describes. Where a key is
    /// given twice, the first counts.
    pub fn parse(value: &str) -> Self {
        let mut baggage = Self::default();
        for member in value.split(',').take(MAX_MEMBERS) {
            // Properties of a member follow a semicolon.
            let member = member.split(';').next().unwrap_or_default();
            let Some((key, value)) = member.split_once('=') else {
                continue;
            };
            let (key, Some(value)) = (key.trim(), decode(value.trim())) else {
                continue;
            };
            if value.is_empty() {
                continue;
            }
            let slot = match key {
                "k8s.cluster.name" | "cloud.account.id" => &mut baggage.cluster,
                "k8s.namespace.name" => &mut baggage.namespace,
                "service.name" => &mut baggage.service,
                "service.version" => &mut baggage.version,
                _ => match key.strip_prefix("k8s.").and_then(|key| key.strip_suffix(".name")) {
                    Some(kind) if KINDS.contains(&kind) && baggage.workload.is_empty() => {
                        baggage.workload_kind = kind.to_owned();
                        &mut baggage.workload
                    }
                    _ => continue,
                },
            };
            if slot.is_empty() {
                *slot = value;
            }
        }
        baggage
    }
}

/// `baggage-octet` of W3C Baggage, less `%`, which begins an encoded byte.
fn is_baggage_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\' | b'%')
}

/// Undoes percent-encoding; none where it is malformed or not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let (&[high, low], tail) = tail.split_first_chunk()?;
            let digit = |byte: u8| char::from(byte).to_digit(16);
            bytes.push((digit(high)? * 16 + digit(low)?) as u8);
            rest = tail;
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

impl Forwarded {
    /// The header's value; empty when nothing is known.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = match self.client {
            Some(IpAddr::V4(client)) => write!(text, "for={client}"),
            Some(IpAddr::V6(client)) => write!(text, "for=\"[{client}]\""),
            None => Ok(()),
        };
        if let Some(host) = &self.host {
            let separator = if text.is_empty() { "" } else { ";" };
            let host: String = host
                .chars()
                .filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\'))
                .collect();
            let _ = write!(text, "{separator}host=\"{host}\"");
        }
        text
    }

    /// Reads the first element of a header's value. What does not parse is left out.
    pub fn parse(value: &str) -> Self {
        let mut forwarded = Self::default();
        for (key, value) in Pairs(value) {
            if key.eq_ignore_ascii_case("for") {
                forwarded.client = address(&value);
            } else if key.eq_ignore_ascii_case("host") && !value.is_empty() {
                forwarded.host = Some(value);
            }
        }
        forwarded
    }
}

/// A node identifier (RFC 7239 section 6) that is an address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bracketed
        .parse()
        .ok()
        .or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

/// `key=value` pairs of the first element of a list; values may be quoted strings.
struct Pairs<'a>(&'a str);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, String);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = self.0.split_once('=')?;
        if key.contains(',') {
            return None;
        }
        let key = key.trim_start_matches(';').trim();
        let mut value = String::new();
        let end = match rest.strip_prefix('"') {
            None => {
                let end = rest.find([';', ',']).unwrap_or(rest.len());
                value.push_str(rest[..end].trim());
                end
            }
            Some(quoted) => {
                let mut characters = quoted.char_indices();
                loop {
                    match characters.next()? {
                        (at, '"') => break at + 2,
                        (_, '\\') => value.push(characters.next()?.1),
                        (_, character) => value.push(character),
                    }
                }
            }
        };
        let rest = rest[end..].trim_start();
        // The next pair of the same element, or nothing.
        self.0 = rest.strip_prefix(';').unwrap_or_default();
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::{Baggage, Forwarded};

    #[test]
    fn baggage_round_trips() {
        let baggage = Baggage {
            cluster: "Kubernetes".into(),
            namespace: "shop".into(),
            workload_kind: "deployment".into(),
            workload: "cart".into(),
            service: "cart, the \"best\" 100%".into(),
            version: "v1 é".into(),
        };
        let text = baggage.encode();
        assert!(text.starts_with(
            "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart%2C%20"
        ));
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(Baggage::parse(&text), baggage);
        assert_eq!(Baggage::parse(""), Baggage::default());
    }

    #[test]
    fn baggage_passes_over_what_it_does_not_know() {
        let text = " a=b , k8s.job.name = nightly;ttl=5,k8s.pod.name=later,service.name=%zz,=,,service.version=2";
        let baggage = Baggage::parse(text);
        assert_eq!(
            (baggage.workload_kind.as_str(), baggage.workload.as_str()),
            ("job", "nightly")
        );
        assert_eq!((baggage.service.as_str(), baggage.version.as_str()), ("", "2"));
    }

    #[test]
    fn forwarded_round_trips() {
        for client in [
            None,
            Some("198.18.0.1".parse().unwrap()),
            Some("fd00:c01e::1".parse().unwrap()),
        ] {
            for host in [None, Some("cart.shop.svc.cluster.local".to_owned())] {
                let forwarded = Forwarded { client, host };
                assert_eq!(Forwarded::parse(&forwarded.encode()), forwarded);
            }
        }
    }

    #[test]
    fn forwarded_of_others() {
        let cases = [
            (
                "for=198.18.0.1;proto=http;by=\"[fd00:c01e::9]\"",
                Some("198.18.0.1"),
                None,
            ),
            (
                "For=\"[fd00:c01e::1]:4711\"; Host=a:80",
                Some("fd00:c01e::1"),
                Some("a:80"),
            ),
            ("for=198.18.0.1:99, for=198.18.0.2", Some("198.18.0.1"), None),
            ("host=\"a\\\"b\"", None, Some("a\"b")),
            ("for=unknown", None, None),
            ("for=\"unterminated", None, None),
            ("nonsense", None, None),
        ];
        for (text, client, host) in cases {
            let expected = Forwarded {
                client: client.map(|ip| ip.parse().unwrap()),
                host: host.map(str::to_owned),
            };
            assert_eq!(Forwarded::parse(text), expected, "{text}");
        }
    }
}
