//! Host names as the mesh has them: in lower case, with dots between labels and none at the end.

use hickory_proto::rr::Name;

/// The host name that a question asks about; none if no host of a mesh can have it.
pub(crate) fn host_of(name: &Name) -> Option<String> {
    let mut host = String::with_capacity(name.len());
    for label in name.iter() {
        if !host.is_empty() {
            host.push('.');
        }
        for byte in label {
            let is_of_host = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            host.push(is_of_host.then(|| byte.to_ascii_lowercase().into())?);
        }
    }
    (!host.is_empty()).then_some(host)
}

/// What stands before a domain in a name, if something does.
pub(crate) fn before<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    let front = host.strip_suffix(domain)?.strip_suffix('.')?;
    (!front.is_empty()).then_some(front)
}

/// How many labels a name has.
pub(crate) fn labels(host: &str) -> usize {
    host.split('.').count()
}

/// The wildcards that a name is below, the most specific first: `*.b.c` and `*.c` for `a.b.c`.
pub(crate) fn wildcards(host: &str) -> impl Iterator<Item = String> {
    let parents = std::iter::successors(parent(host), |name| parent(name));
    parents.map(|parent| format!("*.{parent}"))
}

fn parent(host: &str) -> Option<&str> {
    Some(host.split_once('.')?.1)
}
