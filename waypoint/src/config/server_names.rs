//! Chains for connections of TLS, by the name that a client asks for (RFC 6066 section 3).

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::tcp_chain::TcpChain;

/// The chains of a port.
#[derive(Clone, Debug, Default)]
pub struct ServerNames {
    /// By the name in lower case; that of `*.x` is `.x`.
    names: FxHashMap<Box<str>, Arc<TcpChain>>,
    /// For all other names, and for none.
    rest: Option<Arc<TcpChain>>,
}

impl ServerNames {
    /// Adds a chain for these names; for all of TLS if there is none. Returns a name that another chain has.
    pub(super) fn add<'a>(&mut self, names: &'a [String], chain: &Arc<TcpChain>) -> Option<&'a str> {
        if names.is_empty() && self.rest.replace(Arc::clone(chain)).is_some() {
            return Some("*");
        }
        let mut names = names.iter().map(String::as_str);
        names.find(|name| {
            let key = name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase();
            self.names.insert(key.into(), Arc::clone(chain)).is_some()
        })
    }

    /// The chain for a name: that of the name itself, or of its longest end.
    pub fn find(&self, name: Option<&str>) -> Option<&Arc<TcpChain>> {
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let ends = name.match_indices('.').map(|(at, _)| &name[at..]);
        let mut names = std::iter::once(name.as_str()).chain(ends);
        let found = names.find_map(|name| self.names.get(name));
        found.or(self.rest.as_ref())
    }

    /// All of them.
    pub fn chains(&self) -> impl Iterator<Item = &Arc<TcpChain>> {
        self.names.values().chain(&self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_before_its_end_and_a_longer_end_before_a_shorter_one_in_either_case() {
        let mut names = ServerNames::default();
        let chain = |name: &str| {
            Arc::new(TcpChain {
                name: name.into(),
                filters: Vec::new(),
                clusters: vec![("c".into(), 1)],
                idle_timeout: None,
                age: None,
                logs: Arc::default(),
            })
        };
        for name in ["a.example", "*.example", "*.b.example"] {
            assert_eq!(names.add(&[name.to_owned()], &chain(name)), None);
        }
        let found = |names: &ServerNames, asked| names.find(asked).map(|chain| chain.name.to_string());
        for (asked, expected) in [
            (Some("a.example"), Some("a.example")),
            (Some("A.Example"), Some("a.example")),
            (Some("c.example"), Some("*.example")),
            (Some("x.a.example"), Some("*.example")),
            (Some("x.y.b.example"), Some("*.b.example")),
            (Some("example"), None),
            (Some("other"), None),
            (None, None),
        ] {
            assert_eq!(found(&names, asked).as_deref(), expected, "{asked:?}");
        }
        assert_eq!(names.add(&["A.example".to_owned()], &chain("again")), Some("A.example"));
        assert_eq!(names.add(&[], &chain("rest")), None);
        assert_eq!(found(&names, None).as_deref(), Some("rest"));
    }
}
