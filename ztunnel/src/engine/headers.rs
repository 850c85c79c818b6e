//! What a CONNECT and its answer say beside the address.

use std::{fmt::Write as _, net::SocketAddr};

use culvert_hbone::Baggage;
use culvert_state::Workload;

/// Says why a request is refused.
pub(super) const REASON: &str = culvert_hbone::REASON_HEADER;

/// The `forwarded` header (RFC 7239): the client with its port, and the service that it dialled.
pub(super) fn forwarded(client: SocketAddr, service: Option<&str>) -> String {
    let mut header = format!("for=\"{client}\"");
    // `namespace/hostname`; what is no host name is left out rather than quoted.
    let host = service.and_then(|service| service.rsplit('/').next());
    if let Some(host) = host.filter(|host| host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))) {
        let _ = write!(header, ";host={host}");
    }
    header
}

/// The `baggage` header: which workload is speaking.
pub(super) fn baggage(workload: &Workload) -> String {
    let text = |value: &str| value.to_owned();
    Baggage {
        cluster: text(&workload.cluster),
        namespace: text(&workload.namespace),
        workload_kind: workload.kind.to_ascii_lowercase(),
        workload: text(&workload.workload_name),
        service: text(&workload.canonical_name),
        version: text(&workload.canonical_revision),
    }
    .encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_names_client_and_service() {
        let client = "198.18.0.1:4711".parse().unwrap();
        assert_eq!(
            forwarded(client, Some("shop/web.shop.svc")),
            "for=\"198.18.0.1:4711\";host=web.shop.svc"
        );
        assert_eq!(forwarded(client, Some("shop/web;by=me")), "for=\"198.18.0.1:4711\"");
        assert_eq!(forwarded(client, None), "for=\"198.18.0.1:4711\"");
    }
}
