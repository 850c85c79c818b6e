//! SPIFFE IDs of the form that Kubernetes meshes use.

use std::{fmt, ops::Range, str::FromStr, sync::Arc};

const SCHEME: &str = "spiffe://";

/// A workload's identity: `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
///
/// Parsed once, at the edge; a value of this type is well-formed. Clones share one allocation.
#[derive(Clone)]
pub struct SpiffeId {
    text: Arc<str>,
    trust_domain: u16,
    namespace: u16,
}

/// Why a text is no SPIFFE ID of a workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a workload's SPIFFE ID: {why}")]
pub struct SpiffeError {
    text: String,
    why: &'static str,
}

impl SpiffeId {
    /// Puts an identity together.
    ///
    /// # Errors
    /// When the trust domain has other characters than lower-case letters, digits, `.`, `-`, `_`, or a name is empty or
    /// has other characters than Kubernetes allows in it.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<Self, SpiffeError> {
        Self::parse(&format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}"))
    }

    /// Reads an identity from its URI.
    ///
    /// # Errors
    /// When the text has another form, or a part has characters that the SPIFFE ID specification or Kubernetes forbids.
    pub fn parse(text: &str) -> Result<Self, SpiffeError> {
        let fail = |why| SpiffeError {
            text: text.chars().take(300).collect(),
            why,
        };
        // Section 2.3 of the SPIFFE ID specification: at most 2048 bytes, so that offsets fit.
        if text.len() > 2048 {
            return Err(fail("longer than 2048 bytes"));
        }
        let rest = text
            .strip_prefix(SCHEME)
            .ok_or_else(|| fail("it does not begin with spiffe://"))?;
        let mut parts = rest.split('/');
        let mut part = || parts.next().unwrap_or_default();
        let (trust_domain, ns, namespace, sa, service_account) = (part(), part(), part(), part(), part());
        if parts.next().is_some() || ns != "ns" || sa != "sa" {
            return Err(fail("its path is not /ns/<namespace>/sa/<service-account>"));
        }
        let domain_char = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'-' | b'_');
        if trust_domain.is_empty() || trust_domain.len() > 255 || !trust_domain.bytes().all(domain_char) {
            return Err(fail("its trust domain is not made of a-z, 0-9, '.', '-' and '_'"));
        }
        let name_char = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'-');
        for name in [namespace, service_account] {
            if name.is_empty() || name.len() > 253 || !name.bytes().all(name_char) {
                return Err(fail("its namespace or service account is no Kubernetes name"));
            }
        }
        let trust_domain = trust_domain.len() as u16;
        let namespace = namespace.len() as u16;
        Ok(Self {
            text: text.into(),
            trust_domain,
            namespace,
        })
    }

    /// The trust domain, e.g. `cluster.local`.
    pub fn trust_domain(&self) -> &str {
        &self.text[self.domain_range()]
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        let start = self.domain_range().end + "/ns/".len();
        &self.text[start..start + usize::from(self.namespace)]
    }

    /// The Kubernetes service account.
    pub fn service_account(&self) -> &str {
        &self.text[self.domain_range().end + "/ns/".len() + usize::from(self.namespace) + "/sa/".len()..]
    }

    /// The identity without its scheme, as authorization policies write principals.
    pub fn principal(&self) -> &str {
        &self.text[SCHEME.len()..]
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn domain_range(&self) -> Range<usize> {
        SCHEME.len()..SCHEME.len() + usize::from(self.trust_domain)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        Self::parse(text)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for SpiffeId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SpiffeId {}

impl std::hash::Hash for SpiffeId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialOrd for SpiffeId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpiffeId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}
