//! One name, of one resolver after another, over UDP.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use culvert_dns::{Lookup, ResolveError, Resolved};
use tokio::{net::UdpSocket, time::timeout};

/// How long one resolver has for an answer.
const WAIT: Duration = Duration::from_secs(1);

/// How often all resolvers are asked.
const ROUNDS: usize = 2;

/// Longest answer: what a query says is taken, and more.
const LONGEST: usize = 4096;

/// Why a name could not be resolved.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// It cannot be written into a query.
    #[error("it is no name that can be asked for")]
    Name,
    /// There is none.
    #[error("there is no resolver: neither --resolver nor /etc/resolv.conf names one")]
    NoResolver,
    /// What the last resolver made of it.
    #[error("{resolver}: {source}")]
    Failed {
        /// Which was asked.
        resolver: SocketAddr,
        /// What came of it.
        source: AttemptError,
    },
}

/// What came of asking one resolver.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    /// It could not be asked, or refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not answer.
    #[error("no answer within {WAIT:?}")]
    Silent,
    /// Its answer is of no use.
    #[error(transparent)]
    Answer(#[from] ResolveError),
}

impl AskError {
    /// In metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Name => "malformed",
            Self::NoResolver => "no_resolver",
            Self::Failed { source, .. } => match source {
                AttemptError::Silent => "timeout",
                AttemptError::Io(_) | AttemptError::Answer(_) => "refused",
            },
        }
    }
}

/// The addresses of a name: those of IPv4, or those of IPv6 where there are none. None is that there is no such name.
pub(super) async fn ask(name: &str, resolvers: &[SocketAddr]) -> Result<Resolved, AskError> {
    let (v4, v6) = tokio::join!(family(name, false, resolvers), family(name, true, resolvers));
    match (v4, v6) {
        (Ok(v4), _) if !v4.addresses.is_empty() => Ok(v4),
        (_, Ok(v6)) if !v6.addresses.is_empty() => Ok(v6),
        (Ok(v4), Ok(v6)) => Ok(Resolved {
            addresses: Vec::<IpAddr>::new(),
            ttl: v4.ttl.min(v6.ttl),
        }),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

async fn family(name: &str, v6: bool, resolvers: &[SocketAddr]) -> Result<Resolved, AskError> {
    let mut last = AskError::NoResolver;
    for _ in 0..ROUNDS {
        for &resolver in resolvers {
            let lookup = Lookup::new(name, v6, fastrand::u16(..)).ok_or(AskError::Name)?;
            let answered = match timeout(WAIT, one(&lookup, resolver)).await {
                Ok(answered) => answered,
                Err(_) => Err(AttemptError::Silent),
            };
            match answered {
                Ok(resolved) => return Ok(resolved),
                Err(source) => last = AskError::Failed { resolver, source },
            }
        }
    }
    Err(last)
}

/// By a socket of its own, so that the port is a new one, too, and that takes datagrams of the resolver alone.
async fn one(lookup: &Lookup, resolver: SocketAddr) -> Result<Resolved, AttemptError> {
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(&lookup.message()).await?;
    let mut buffer = vec![0; LONGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match lookup.read(buffer.get(..length).unwrap_or_default()) {
            Err(ResolveError::Stranger) => {}
            read => return Ok(read?),
        }
    }
}
