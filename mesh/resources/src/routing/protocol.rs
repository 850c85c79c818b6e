//! What a port speaks, by what its Service says of it.

use culvert_proto::workload::AppProtocol;
use k8s_openapi::api::core::v1::ServicePort;

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// HTTP, which is HTTP/1.1 at the backend.
    Http1,
    /// HTTP, which is HTTP/2 at the backend.
    Http2,
    /// Bytes.
    Tcp,
    /// HTTP or bytes: it shows when the client begins to speak. The backend gets what the client speaks.
    Unknown,
}

impl Protocol {
    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Tcp => "TCP",
            Self::Unknown => "HTTP or TCP",
        }
    }

    /// Whether there may be requests.
    pub(crate) fn is_http(self) -> bool {
        self != Self::Tcp
    }

    /// Whether there may be connections that are not HTTP.
    pub(crate) fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Unknown)
    }
}

/// A Service's port: `appProtocol` counts before the first word of its name.
pub(crate) fn of_port(port: &ServicePort) -> Protocol {
    let word = match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c") => return Protocol::Http2,
        Some("kubernetes.io/ws") => return Protocol::Http1,
        Some("kubernetes.io/wss") => return Protocol::Tcp,
        Some(word) => word,
        None => port.name.as_deref().unwrap_or_default(),
    };
    of_word(word, port.port)
}

/// A port of a resource, whose object nobody looked at.
pub(crate) fn of_resource(protocol: AppProtocol) -> Protocol {
    match protocol {
        AppProtocol::Http11 => Protocol::Http1,
        AppProtocol::Http2 | AppProtocol::Grpc => Protocol::Http2,
        AppProtocol::Tcp | AppProtocol::Tls => Protocol::Tcp,
        AppProtocol::Unknown => Protocol::Unknown,
    }
}

fn of_word(word: &str, port: i32) -> Protocol {
    let word = word.to_ascii_lowercase();
    // One word, although it has a hyphen.
    if word == "grpc-web" || word.starts_with("grpc-web-") {
        return Protocol::Http2;
    }
    match word.split('-').next().unwrap_or_default() {
        "http" => Protocol::Http1,
        "http2" | "grpc" => Protocol::Http2,
        "tcp" | "tls" | "https" | "mongo" | "mysql" | "redis" => Protocol::Tcp,
        // Protocols in which the server speaks first: nobody may wait for the client's first bytes.
        _ if matches!(port, 25 | 53 | 3306 | 27017) => Protocol::Tcp,
        _ => Protocol::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, protocol: Option<&str>, port: i32) -> Protocol {
        of_port(&ServicePort {
            name: Some(name.to_owned()),
            app_protocol: protocol.map(str::to_owned),
            port,
            ..ServicePort::default()
        })
    }

    #[test]
    fn an_app_protocol_counts_before_the_name_of_a_port() {
        assert_eq!(port("http", None, 80), Protocol::Http1);
        assert_eq!(port("http", Some("tcp"), 80), Protocol::Tcp);
        assert_eq!(port("tcp", Some("kubernetes.io/h2c"), 80), Protocol::Http2);
        assert_eq!(port("http-web", Some("example.com/own"), 80), Protocol::Unknown);
    }

    #[test]
    fn a_port_on_which_the_server_speaks_first_is_not_sniffed() {
        assert_eq!(port("mysql", None, 80), Protocol::Tcp);
        assert_eq!(port("", None, 3306), Protocol::Tcp);
        assert_eq!(port("", None, 80), Protocol::Unknown);
    }
}
