//! Names that programs are given on their command lines, checked there: with one that is none, everything would seem well and nothing match.

use crate::SpiffeId;

/// Takes a trust domain, the first part of every identity.
///
/// # Errors
/// When it is none, in words for whoever gave it.
pub fn trust_domain(text: &str) -> Result<String, String> {
    match SpiffeId::new(text, "a", "b") {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "`{text}` is no trust domain: lower-case letters, digits, '-', '_' and '.'"
        )),
    }
}

/// Takes a name of one or more DNS labels: a cluster's domain, a namespace.
///
/// # Errors
/// When it is none, in words for whoever gave it.
pub fn dns_name(text: &str) -> Result<String, String> {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = |label: &str| {
        let at_ends = !label.starts_with('-') && !label.ends_with('-');
        !label.is_empty() && label.len() <= 63 && at_ends && label.bytes().all(is_inner)
    };
    if text.len() <= 253 && text.split('.').all(is_label) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no name in lower case, such as cluster.local"))
    }
}

#[cfg(test)]
mod tests {
    use super::{dns_name, trust_domain};

    #[test]
    fn names_are_taken_and_nonsense_is_refused_and_quoted() {
        for good in ["cluster.local", "istio-system", "a", "1.b"] {
            assert_eq!(dns_name(good).as_deref(), Ok(good));
            assert_eq!(trust_domain(good).as_deref(), Ok(good));
        }
        for bad in ["", ".", "..", "a b", "A", "a/b", "cluster.local."] {
            assert!(dns_name(bad).unwrap_err().contains(&format!("`{bad}`")));
        }
        for bad in ["-a", "a-", "a_b", &"a".repeat(64), &"a.".repeat(200)] {
            assert!(dns_name(bad).is_err(), "{bad}");
        }
        for bad in ["", "a b", "A", "a/b"] {
            assert!(trust_domain(bad).unwrap_err().contains(&format!("`{bad}`")));
        }
    }
}
