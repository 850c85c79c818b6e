//! What a client's requests are counted in, kept so that it is not looked for at each of them.

use std::sync::Arc;

use culvert_envoy::endpoint::About;
use parking_lot::Mutex;

use super::{flags::Flags, metrics::Series};

/// Kinds of requests that are kept for a client: few have more.
const KINDS: usize = 16;

/// What the requests of one client's connection were counted in so far. Its requests are all on one thread, so nobody waits for the lock.
#[derive(Debug, Default)]
pub(crate) struct CountedIn(Mutex<Vec<(Kind, Series)>>);

/// What labels depend on besides the client and the service, of which a connection has one each.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) about: Option<Arc<About>>,
    pub(super) is_encrypted: bool,
    pub(super) is_grpc: bool,
    pub(super) status: u16,
    pub(super) grpc_status: Option<u32>,
    pub(super) flags: Flags,
}

impl CountedIn {
    /// What a request of this kind is counted in; `find` where none was before.
    pub(super) fn get(&self, kind: Kind, find: impl FnOnce() -> Series) -> Series {
        let mut kinds = self.0.lock();
        if let Some((_, series)) = kinds.iter().find(|(known, _)| known.is(&kind)) {
            return series.clone();
        }
        let series = find();
        if kinds.len() >= KINDS {
            kinds.clear();
        }
        kinds.push((kind, series.clone()));
        series
    }
}

impl Kind {
    fn is(&self, other: &Self) -> bool {
        let same_endpoint = match (&self.about, &other.about) {
            (None, None) => true,
            // Both are held, so that neither has the address of another that is gone.
            (Some(about), Some(other)) => Arc::ptr_eq(about, other),
            _ => false,
        };
        same_endpoint
            && self.status == other.status
            && self.is_encrypted == other.is_encrypted
            && self.is_grpc == other.is_grpc
            && self.grpc_status == other.grpc_status
            && self.flags == other.flags
    }
}

#[cfg(test)]
mod tests {
    use culvert_telemetry::prometheus::registry::Registry;

    use super::*;
    use crate::telemetry::Telemetry;

    fn kind(status: u16, about: Option<&Arc<About>>) -> Kind {
        Kind {
            about: about.cloned(),
            is_encrypted: true,
            is_grpc: false,
            status,
            grpc_status: None,
            flags: Flags::default(),
        }
    }

    #[test]
    fn labels_are_made_once_for_requests_of_the_same_kind() {
        let telemetry = Telemetry::register(&mut Registry::default());
        let counted_in = CountedIn::default();
        let mut found = 0;
        let mut get = |kind| {
            counted_in.get(kind, || {
                found += 1;
                telemetry.series(&Vec::new(), false, None)
            });
        };
        let [one, other] = [(); 2].map(|()| Arc::new(About::default()));
        for _ in 0..3 {
            get(kind(200, Some(&one)));
            get(kind(503, Some(&one)));
            get(kind(200, Some(&other)));
            get(kind(200, None));
        }
        assert_eq!(found, 4);
    }
}
