//! What becomes of the requests and connections to a port, in our own words.

use std::sync::Arc;
use std::time::Duration;

use culvert_objects::mesh_config::Provider;
use culvert_policy::istio::request::RequestPolicy;

use super::external_auth::ExternalAuth;

/// What becomes of the requests to a port.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Routes {
    /// By host name; the last one is for all other names.
    pub(crate) hosts: Vec<Host>,
}

/// The rules for some host names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Host {
    /// A name, `*.` and the end of one, or `*` for all that no other has.
    pub(crate) domain: String,
    /// In order: the first that matches counts. What none matches is answered with 404.
    pub(crate) rules: Vec<Rule>,
}

/// What becomes of the requests that match.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    /// What it was made of, for logs: a rule's own name, or the object and the rule's place in it.
    pub(crate) name: String,
    pub(crate) matched: Match,
    pub(crate) action: Action,
    /// The TrafficPolicy of its own, as `NAMESPACE/NAME`.
    pub(crate) policy: Option<Arc<str>>,
}

/// Which requests.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Match {
    pub(crate) path: Path,
    /// Whether the path's letters count in either case.
    pub(crate) ignores_case: bool,
    pub(crate) method: Option<String>,
    /// Names in lower case, or one of the parts of a request that have a colon in front.
    pub(crate) headers: Vec<(String, Text)>,
    /// None of these.
    pub(crate) without: Vec<(String, Text)>,
    pub(crate) query: Vec<(String, Text)>,
    /// Those of clients in this namespace alone.
    pub(crate) clients: Option<Arc<str>>,
}

/// Which paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// This one.
    Exact(String),
    /// This one, without a slash at its end, and those below it. Empty for all.
    Prefix(String),
    /// Those that begin with it, letter by letter.
    Plain(String),
    /// Those that match as a whole.
    Regex(String),
}

/// Which texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Text {
    /// This one.
    Exact(String),
    /// Those that begin with it.
    Prefix(String),
    /// Those that match as a whole.
    Regex(String),
    /// Any, if there is one.
    Present,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// It is answered with this status.
    Fail(u16),
    /// It is answered with what the rule says.
    Direct(Box<Direct>),
    /// It is sent elsewhere.
    Redirect(Box<Redirect>),
    /// It goes to a backend.
    Forward(Box<Forward>),
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Direct {
    /// From 200 to 599.
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) response: Headers,
    pub(crate) cors: Option<Cors>,
}

/// Where a client is sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Redirect {
    pub(crate) scheme: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) path: Option<NewPath>,
    pub(crate) status: u16,
    pub(crate) response: Headers,
    pub(crate) cors: Option<Cors>,
    /// Who is asked whether it may pass.
    pub(crate) auth: Option<ExternalAuth>,
}

/// Another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NewPath {
    /// Instead of the whole.
    Full(String),
    /// Instead of the prefix that matched, without a slash at its end.
    Prefix(String),
    /// Instead of the prefix or path that matched, letter by letter.
    Plain(String),
    /// Instead of what matches a regular expression; `\1` is its first group.
    Regex(String, String),
}

/// Where a request goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Forward {
    pub(crate) targets: Vec<Target>,
    pub(crate) request: Headers,
    pub(crate) response: Headers,
    pub(crate) host: Option<String>,
    pub(crate) path: Option<NewPath>,
    pub(crate) mirrors: Vec<Mirror>,
    /// How long it may take in all; none is for ever.
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Retry,
    pub(crate) cors: Option<Cors>,
    /// Who is asked whether it may pass.
    pub(crate) auth: Option<ExternalAuth>,
    pub(crate) fault: Option<Fault>,
    /// By what an endpoint is chosen, where the backend asks for that.
    pub(crate) hash: Vec<HashBy>,
    /// How clients get back to the endpoint that they had.
    pub(crate) session: Option<Session>,
}

/// Where a client's endpoint is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    Cookie {
        name: String,
        path: String,
        /// None for as long as the client keeps it.
        ttl: Option<Duration>,
    },
    /// A field of requests and answers.
    Header(String),
}

/// A backend and its share.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    /// None where there is no such backend: its share is answered with 500.
    pub(crate) backend: Option<Backend>,
    /// More than 0.
    pub(crate) weight: u32,
    pub(crate) request: Headers,
    pub(crate) response: Headers,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Backend {
    /// The Service's resource name.
    pub(crate) service: Arc<str>,
    pub(crate) port: u16,
    /// Those of its endpoints that have some labels, by the name that a DestinationRule gives them.
    pub(crate) subset: Option<Arc<str>>,
}

/// What is changed in headers: first what is removed goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers {
    /// Overwritten.
    pub(crate) set: Vec<(String, String)>,
    /// Added beside what is there.
    pub(crate) add: Vec<(String, String)>,
    pub(crate) remove: Vec<String>,
}

/// Who gets copies of requests.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mirror {
    pub(crate) backend: Backend,
    /// Of a million.
    pub(crate) share: u32,
}

/// When a request is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    /// How often, beside the first time.
    pub(crate) attempts: u32,
    /// Envoy's names of what is tried again; none for what nobody has worked on.
    pub(crate) on: Option<String>,
    /// Also on answers with these statuses.
    pub(crate) codes: Vec<u32>,
    pub(crate) backoff: Option<Duration>,
    /// How long each try may take.
    pub(crate) per_try: Option<Duration>,
    /// Also where a try is cut or takes too long, although the backend may have worked on it: the route itself asks for retries.
    pub(crate) resets: bool,
    /// Whether at an endpoint that was tried, too.
    pub(crate) same_hosts: bool,
    /// Whether at endpoints of other priorities.
    pub(crate) other_priorities: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 2,
            on: None,
            same_hosts: false,
            other_priorities: false,
            codes: Vec::new(),
            backoff: None,
            per_try: None,
            resets: false,
        }
    }
}

/// Which pages of other origins may read answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cors {
    pub(crate) origins: Vec<Origin>,
    pub(crate) methods: Vec<String>,
    pub(crate) headers: Vec<String>,
    pub(crate) expose: Vec<String>,
    /// Seconds.
    pub(crate) max_age: Option<u64>,
    pub(crate) credentials: bool,
    /// Whether preflights of other origins go to the backend.
    pub(crate) forwards_others: bool,
}

/// Which origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// With stars for whatever there is; a star alone is any origin.
    Glob(String),
    Text(Text),
}

/// What is done to some requests on purpose: first the delay, then the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fault {
    /// How long they wait, and to how many of a million.
    pub(crate) delay: Option<(Duration, u32)>,
    /// How they are answered, and how many of a million.
    pub(crate) abort: Option<(Abort, u32)>,
}

/// An answer instead of a backend's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abort {
    Http(u16),
    Grpc(u32),
}

/// By what of a request an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HashBy {
    Header(String),
    Query(String),
    SourceAddress,
    Cookie {
        name: String,
        path: String,
        /// Made where the client has none, if set.
        ttl: Option<Duration>,
        attributes: Vec<(String, String)>,
    },
}

/// A route of HTTP or gRPC, as one object has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Route {
    /// Those that its rules are for; empty for all.
    pub(crate) hostnames: Vec<String>,
    /// In the object's order; a rule with several matches is there several times.
    pub(crate) rules: Vec<Rule>,
}

/// A port of a Service that a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) section: Option<String>,
    /// All ports if there is none.
    pub(crate) port: Option<u16>,
}

/// Whose tokens count, and what of them is handed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenRule {
    /// Who makes them; empty for anybody.
    pub(crate) issuer: String,
    /// For whom they must be; empty for anybody.
    pub(crate) audiences: Vec<String>,
    /// Keys as RFC 7517 writes them.
    pub(crate) keys: String,
    /// Header fields that have them, and what is before them there.
    pub(crate) from_headers: Vec<(String, String)>,
    pub(crate) from_parameters: Vec<String>,
    pub(crate) from_cookies: Vec<String>,
    /// Whether the token goes on to the backend.
    pub(crate) forward: bool,
    pub(crate) payload_header: Option<String>,
    /// Header fields, and claims with dots between the names of their path.
    pub(crate) claim_headers: Vec<(String, String)>,
    /// Claims that are lists with spaces between, beside those that always are.
    pub(crate) space_delimited: Vec<String>,
    /// Whether a request without a token is refused.
    pub(crate) required: bool,
}

/// What decides about a port, before anything is routed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Access {
    pub(crate) tokens: Vec<TokenRule>,
    /// Who is asked about which requests.
    pub(crate) checks: Vec<Check>,
    /// Of requests.
    pub(crate) requests: Vec<Policy>,
    /// Of connections that are not HTTP.
    pub(crate) connections: Vec<Policy>,
}

/// A service that is asked about requests.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Check {
    /// As the mesh's configuration has it.
    pub(crate) provider: Provider,
    pub(crate) backend: Backend,
    /// About what these match.
    pub(crate) policies: Vec<Policy>,
}

/// A policy, by its object's name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    pub(crate) name: String,
    pub(crate) policy: RequestPolicy,
}

/// The shares of a TCP port's connections. Those of a target without a backend are closed.
pub(crate) type Split = Vec<Target>;

/// Where connections of TLS go that ask for one of these names (RFC 6066 section 3).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    /// A name, `*.` and the end of one at any depth, or `*` for all of TLS. At least one.
    pub(crate) names: Vec<String>,
    pub(crate) split: Split,
}

impl Forward {
    /// All to one backend.
    pub(crate) fn to(backend: Backend) -> Self {
        Self {
            targets: vec![Target::of(backend)],
            ..Self::default()
        }
    }
}

impl Target {
    /// The whole of it.
    pub(crate) fn of(backend: Backend) -> Self {
        Self {
            backend: Some(backend),
            weight: 1,
            request: Headers::default(),
            response: Headers::default(),
        }
    }
}

impl Match {
    /// Every request.
    pub(crate) fn any() -> Self {
        Self {
            path: Path::Prefix(String::new()),
            ignores_case: false,
            method: None,
            headers: Vec::new(),
            without: Vec::new(),
            query: Vec::new(),
            clients: None,
        }
    }
}
