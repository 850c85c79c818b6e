//! What a request is or is not, in nobody's configuration language.

use ipnet::IpNet;

/// What a waypoint reads of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Requests.
    Requests,
    /// Connections, of which nothing of HTTP is known.
    Connections,
}

/// A rule of a policy, by its place in the object: everything in it must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its place in `spec.rules`.
    pub index: usize,
    /// What is asked for. Empty for nothing.
    pub operation: Vec<Test>,
    /// Who asks, and all else. Empty for everybody.
    pub source: Vec<Test>,
}

/// Something that a request, or a connection, is or is not.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// All of these hold.
    All(Vec<Test>),
    /// One of these holds.
    Any(Vec<Test>),
    /// It does not hold.
    Not(Box<Test>),
    /// The method.
    Method(Pattern),
    /// The path, without the query.
    Path(Pattern),
    /// The path, segment by segment.
    Template(Vec<Segment>),
    /// The host that the client names, whatever the case; with a port or without, unless the pattern has one.
    Host(Pattern),
    /// A header field, by its name.
    Header(String, Pattern),
    /// The port that the client dialled.
    DestinationPort(u16),
    /// The address that the client dialled.
    DestinationAddress(IpNet),
    /// The identity of the client, without `spiffe://`.
    Principal(Pattern),
    /// The trust domain of the client.
    TrustDomain(Pattern),
    /// The namespace of the client.
    Namespace(Pattern),
    /// The service account of the client.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The address of the client.
    SourceAddress(IpNet),
    /// The address of the client, or that of who it says to act for.
    RemoteAddress(IpNet),
    /// A claim of a token that was verified, by the path to it.
    Claim(Vec<String>, Pattern),
}

/// Which texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This one.
    Exact(String),
    /// Those that begin so.
    Prefix(String),
    /// Those that end so.
    Suffix(String),
    /// All but the empty one.
    Present,
}

/// A part of a path between slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This one.
    Exact(String),
    /// `{*}`: any, if it is not empty.
    One,
    /// `{**}`: any number of them.
    Many,
}

impl Pattern {
    /// `*` for any text, `a*` for a beginning, `*a` for an end, else the text itself. None if it means nothing.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |text: &str| !text.is_empty() && !text.contains('*');
        Some(match (text.strip_suffix('*'), text.strip_prefix('*')) {
            _ if text == "*" => Self::Present,
            (Some(prefix), None) if is_plain(prefix) => Self::Prefix(prefix.to_owned()),
            (None, Some(suffix)) if is_plain(suffix) => Self::Suffix(suffix.to_owned()),
            (None, None) if is_plain(text) => Self::Exact(text.to_owned()),
            _ => return None,
        })
    }
}

impl Test {
    /// A path, or a template of paths, which has braces. None if it means nothing.
    pub(super) fn path(text: &str) -> Option<Self> {
        if !text.contains(['{', '}']) {
            return Pattern::parse(text).map(Self::Path);
        }
        let rest = text.strip_prefix('/')?;
        let segments: Option<Vec<Segment>> = rest
            .split('/')
            .map(|segment| match segment {
                "{*}" => Some(Segment::One),
                "{**}" => Some(Segment::Many),
                plain if plain.contains(['{', '}', '*']) => None,
                plain => Some(Segment::Exact(plain.to_owned())),
            })
            .collect();
        let segments = segments?;
        let first = segments.iter().position(|segment| *segment == Segment::Many);
        let ends = first.is_none_or(|first| {
            let mut behind = segments[first + 1..].iter();
            behind.all(|segment| matches!(segment, Segment::Exact(_)))
        });
        ends.then_some(Self::Template(segments))
    }

    /// The issuer and the subject of a token, with a slash between them. Either may have slashes itself.
    pub(super) fn request_principal(text: &str) -> Option<Self> {
        let claim = |name: &str, pattern: Pattern| Self::Claim(vec![name.to_owned()], pattern);
        let both = |issuer: Pattern, subject: Pattern| Self::All(vec![claim("iss", issuer), claim("sub", subject)]);
        // The scheme of an issuer's URL is no issuer.
        let splits = |text: &str| -> Vec<(String, String)> {
            let places = text.match_indices('/').map(|(place, _)| text.split_at(place));
            let is_scheme = |before: &str| ["http:", "https:", "http:/", "https:/"].contains(&before);
            places
                .filter(|(before, _)| !is_scheme(before))
                .map(|(before, behind)| (before.to_owned(), behind[1..].to_owned()))
                .collect()
        };
        let part = |text: String, kind: fn(String) -> Pattern| match text.is_empty() {
            true => Pattern::Present,
            false => kind(text),
        };
        let mut ways: Vec<Self> = match Pattern::parse(text)? {
            Pattern::Present => vec![both(Pattern::Present, Pattern::Present)],
            Pattern::Exact(text) => splits(&text)
                .into_iter()
                .filter(|(issuer, subject)| !issuer.is_empty() && !subject.is_empty())
                .map(|(issuer, subject)| both(Pattern::Exact(issuer), Pattern::Exact(subject)))
                .collect(),
            Pattern::Prefix(text) => {
                let whole = both(Pattern::Prefix(text.clone()), Pattern::Present);
                let split = splits(&text).into_iter().filter(|(issuer, _)| !issuer.is_empty());
                split
                    .map(|(issuer, subject)| both(Pattern::Exact(issuer), part(subject, Pattern::Prefix)))
                    .chain([whole])
                    .collect()
            }
            Pattern::Suffix(text) => {
                let whole = both(Pattern::Present, Pattern::Suffix(text.clone()));
                let split = splits(&text).into_iter().filter(|(_, subject)| !subject.is_empty());
                split
                    .map(|(issuer, subject)| both(part(issuer, Pattern::Suffix), Pattern::Exact(subject)))
                    .chain([whole])
                    .collect()
            }
        };
        match ways.len() {
            0 => None,
            1 => ways.pop(),
            _ => Some(Self::Any(ways)),
        }
    }
}
