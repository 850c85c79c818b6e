//! The loads that both proxies carry.

use crate::http::Kind;

/// Which Service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// One route with two weights.
    Weighted,
    /// The same, and HTTP/2.
    WeightedHttp2,
    /// 1,000 routes.
    Many,
    /// A token is checked, and a policy with paths and methods.
    Guarded,
}

impl Service {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Weighted, Self::WeightedHttp2, Self::Many, Self::Guarded];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Weighted => "weighted",
            Self::WeightedHttp2 => "weighted-http2",
            Self::Many => "many",
            Self::Guarded => "guarded",
        }
    }
}

/// One load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) service: Service,
    pub(super) connections: usize,
    pub(super) streams: usize,
    /// Requests a second, whether or not those before are answered.
    pub(super) rate: Option<u32>,
}

/// All of them, in the order of a round.
pub(super) const CASES: [Case; 8] = [
    of("http1-16", Kind::Http1, Service::Weighted, 16),
    of("http1-128", Kind::Http1, Service::Weighted, 128),
    of("http2-16", Kind::Http2, Service::WeightedHttp2, 16),
    of("http2-128", Kind::Http2, Service::WeightedHttp2, 128),
    of("routes-1000", Kind::Http1, Service::Many, 16),
    of("jwt-policy", Kind::Http1, Service::Guarded, 16),
    Case {
        streams: 16,
        ..of("grpc-streams", Kind::Grpc, Service::WeightedHttp2, 4)
    },
    Case {
        rate: Some(2000),
        ..of("rate-2000", Kind::Http1, Service::Weighted, 16)
    },
];

const fn of(name: &'static str, kind: Kind, service: Service, connections: usize) -> Case {
    Case {
        name,
        kind,
        service,
        connections,
        streams: 1,
        rate: None,
    }
}
