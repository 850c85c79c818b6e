//! A waypoint, with clients and endpoints, in one process.

use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use culvert_hbone::Authority;
use culvert_identity::{Credentials, SpiffeId, TrustBundle};
use culvert_telemetry::{
    AccessLines,
    prometheus::{encoding::text::encode, registry::Registry},
};
use culvert_tunnel::{
    failure::Failure,
    io::{Destination, Dialer, Origin, Server, Settings, Stream, Tunnels},
};
use culvert_waypoint::{
    memory::Memory,
    serve::{Limits, Names, Worker, bind},
    state::Store,
    telemetry::Telemetry,
    upstream::Upstream,
};
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Where the service is that the waypoint is for.
pub(crate) const SERVICE: &str = "198.18.9.1:80";

/// A certificate authority of the trust domain `cluster.local`.
pub(crate) struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    bundle: TrustBundle,
    root: String,
}

pub(crate) fn identity(account: &str) -> SpiffeId {
    SpiffeId::new("cluster.local", "shop", account).unwrap()
}

impl CertificateAuthority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        Self {
            bundle: TrustBundle::from_pem(root.pem().as_bytes()).unwrap(),
            issuer: Issuer::new(params, key),
            root: root.pem(),
        }
    }

    pub(crate) fn root_pem(&self) -> &str {
        &self.root
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// Chain and key of a server with this DNS name.
    pub(crate) fn server(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    pub(crate) fn credentials(&self, account: &str) -> Arc<Credentials> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let uri = identity(account).as_str().try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        let key = key.serialize_pem();
        Arc::new(Credentials::from_pem(chain.as_bytes(), key.as_bytes(), &self.bundle).unwrap())
    }
}

/// An address of loopback that no other test of this machine has.
pub(crate) fn fresh_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let process = std::process::id();
    let (high, low) = ((process >> 8) as u8, process as u8);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) as u8;
    Ipv4Addr::new(127, high, low, number).into()
}

pub(crate) type Answer = Response<BoxBody<Bytes, Infallible>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

pub(crate) fn text(body: impl Into<String>) -> Answer {
    Response::new(Full::new(Bytes::from(body.into())).boxed())
}

pub(crate) struct Mesh {
    pub(crate) authority: Arc<CertificateAuthority>,
    pub(crate) store: Mutex<Store>,
    pub(crate) waypoint: SocketAddr,
    pub(crate) drain: watch::Sender<bool>,
    pub(crate) serving: JoinHandle<()>,
    registry: Registry,
}

impl Mesh {
    pub(crate) fn start() -> Self {
        Self::start_with(Limits::default())
    }

    pub(crate) fn start_with(limits: Limits) -> Self {
        let authority = Arc::new(CertificateAuthority::new());
        let store = Store::default();
        let own = authority.credentials("waypoint");
        let credentials = Arc::new(own);
        let server = Server::new(identity("waypoint"), credentials.clone(), Settings::default());
        let tunnels = Tunnels::new(Dialer, credentials, Settings::default());
        let origin = Origin {
            identity: identity("waypoint"),
            place: "".into(),
        };
        let mut registry = Registry::default();
        let telemetry = Telemetry::register(&mut registry);
        let (drain, draining) = watch::channel(false);
        let upstream = Upstream::new(tunnels, origin, "k8s.namespace.name=shop,k8s.deployment.name=wp".into());
        let worker = Worker::new(
            store.published(),
            server,
            upstream,
            telemetry,
            draining,
            limits,
            Memory::default(),
            Names::default(),
            AccessLines::spawn().unwrap(),
        );
        let bound = bind(SocketAddr::new(fresh_address(), 0)).unwrap();
        let waypoint = bound.address().unwrap();
        let serving = tokio::spawn(async move { worker.serve(bound).await.unwrap() });
        Self {
            authority,
            store: Mutex::new(store),
            waypoint,
            drain,
            serving,
            registry,
        }
    }

    /// Says something to the waypoint.
    pub(crate) fn tell(&self, tell: impl FnOnce(&mut Store)) {
        let mut store = self.store.lock();
        tell(&mut store);
        store.publish();
    }

    /// An endpoint with the identity of `account` that answers like this, in its own tunnel.
    pub(crate) async fn endpoint<F>(
        &self,
        account: &str,
        is_http2: bool,
        answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Endpoint
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let answer: Handler = Arc::new(move |request| Box::pin(answer(request)));
        let connections = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&connections);
        let address = self
            .tunnelled(account, move |stream, _| {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = Arc::clone(&answer);
                async move {
                    let service = service_fn(move |request| {
                        let answer = answer(request);
                        async move { Ok::<_, Infallible>(answer.await) }
                    });
                    let io = TokioIo::new(stream);
                    let _ = match is_http2 {
                        true => {
                            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                                .serve_connection(io, service)
                                .await
                        }
                        false => {
                            hyper::server::conn::http1::Builder::new()
                                .serve_connection(io, service)
                                .with_upgrades()
                                .await
                        }
                    };
                }
            })
            .await;
        Endpoint {
            address,
            account: account.to_owned(),
            connections,
        }
    }

    /// Something that takes connections in a tunnel of its own.
    pub(crate) async fn tunnelled<F>(
        &self,
        account: &str,
        serve: impl Fn(Stream, Authority) -> F + Send + Sync + Clone + 'static,
    ) -> SocketAddr
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let ip = fresh_address();
        let listener = TcpListener::bind((ip, 15008)).await.unwrap();
        let credentials = Arc::new(self.authority.credentials(account));
        let server = Server::new(identity(account), credentials, Settings::default());
        tokio::spawn(async move {
            loop {
                let (socket, peer) = listener.accept().await.unwrap();
                let (server, serve) = (server.clone(), serve.clone());
                tokio::spawn(async move {
                    let Ok((mut requests, driver)) = server.accept(socket, peer).await else {
                        return;
                    };
                    tokio::spawn(driver);
                    while let Some(request) = requests.next().await {
                        let authority = request.authority().clone();
                        tokio::spawn(serve(request.accept(&[]), authority));
                    }
                });
            }
        });
        SocketAddr::new(ip, 8080)
    }

    /// A client's connection through the waypoint to `to`.
    pub(crate) async fn connect(&self, account: &str, to: &str) -> Result<Stream, Failure> {
        let credentials = Arc::new(self.authority.credentials(account));
        let tunnels = Tunnels::new(Dialer, credentials, Settings::default());
        let destination = Destination {
            origin: Origin {
                identity: identity(account),
                place: "".into(),
            },
            node: self.waypoint,
            destination: "waypoint".into(),
            identities: [identity("waypoint")].into(),
        };
        let headers = [(
            "baggage",
            "k8s.namespace.name=shop,k8s.deployment.name=client-v1,service.name=client",
        )];
        let authority = to.parse().unwrap();
        tunnels.open(&destination, &authority, &headers, DEADLINE).await
    }

    pub(crate) async fn http1(&self) -> Client {
        self.http1_to(SERVICE).await
    }

    pub(crate) async fn http1_to(&self, to: &str) -> Client {
        let (client, connection) = self.undriven_http1(to).await;
        tokio::spawn(connection);
        client
    }

    pub(crate) async fn http2(&self) -> Client {
        let (client, connection) = self.undriven_http2().await;
        tokio::spawn(connection);
        client
    }

    /// A client and its connection, for a task that drives both. On two threads, a request that is sent in the moment in which the
    /// connection ends can wait for ever: `tokio::sync::mpsc`'s receiver, as it is dropped, does not see a message whose sender has
    /// been admitted and has not written it yet; hyper's client then neither sends nor fails it.
    pub(crate) async fn undriven_http1(&self, to: &str) -> (Client, impl Future<Output = hyper::Result<()>> + use<>) {
        let stream = self.connect("client", to).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        (Client::Http1(sender), connection.with_upgrades())
    }

    /// As `undriven_http1`.
    pub(crate) async fn undriven_http2(&self) -> (Client, impl Future<Output = hyper::Result<()>> + use<>) {
        let stream = self.connect("client", SERVICE).await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        (Client::Http2(sender), connection)
    }

    /// Requests that are under way to a cluster.
    pub(crate) fn requests(&self, cluster: &str) -> u32 {
        let snapshot = self.store.lock().published().load_full();
        snapshot.clusters[cluster].load.requests()
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }
}

pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) account: String,
    /// Connections that it took.
    pub(crate) connections: Arc<AtomicU32>,
}

pub(crate) type RequestBody = BoxBody<Bytes, Infallible>;

pub(crate) enum Client {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

impl Client {
    pub(crate) async fn send(&mut self, request: Request<RequestBody>) -> hyper::Result<Response<Incoming>> {
        let sent = async {
            match self {
                Self::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Self::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        tokio::time::timeout(DEADLINE, sent).await.expect("an answer in time")
    }

    /// Status and body.
    pub(crate) async fn get(&mut self, path: &str) -> (u16, String) {
        let response = self.send(self.request("GET", path, "")).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// A request whose body ends when it is said to.
    pub(crate) fn streaming(&self, path: &str, ends: tokio::sync::oneshot::Receiver<()>) -> Request<RequestBody> {
        let begin = stream::once(async { Ok(Frame::data(Bytes::from_static(b"begin"))) });
        let end = stream::once(async move {
            let _ = ends.await;
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"end")))
        });
        let body = StreamBody::new(begin.chain(end));
        self.request("POST", path, "").map(|_| BoxBody::new(body))
    }

    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> Request<RequestBody> {
        let body = Full::new(Bytes::from(body.to_owned())).boxed();
        let builder = Request::builder().method(method);
        let builder = match self {
            Self::Http1(_) => builder.uri(path).header("host", "web.shop"),
            Self::Http2(_) => builder.uri(format!("http://web.shop{path}")),
        };
        builder.body(body).unwrap()
    }
}
