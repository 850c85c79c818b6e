//! Values that an API server would refuse: names that would read as something else within a resource name or a SPIFFE ID,
//! addresses and ports that are none.

use std::net::IpAddr;

use crate::problem::Problem;

/// An address that one host or pod can have.
pub(crate) fn host_address(field: &str, text: &str) -> Result<IpAddr, Problem> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| Problem::of_field(field, format!("{text:?} is not an IP address")))?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || mapped {
        return Err(Problem::of_field(
            field,
            format!("{text} cannot be the address of a pod or service"),
        ));
    }
    Ok(address)
}

pub(crate) fn port_number(field: &str, number: i32) -> Result<(), Problem> {
    match u16::try_from(number) {
        Ok(1..) => Ok(()),
        _ => Err(Problem::of_field(field, format!("{number} is not a port (1 to 65535)"))),
    }
}

/// RFC 1123 label.
pub(crate) fn is_label(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// RFC 1123 subdomain: labels with dots between. Kubernetes limits the whole alone, not each label as DNS does.
pub(crate) fn is_subdomain(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |l: &str| !l.is_empty() && !l.starts_with('-') && !l.ends_with('-') && l.bytes().all(allowed);
    text.len() <= 253 && text.split('.').all(label)
}
