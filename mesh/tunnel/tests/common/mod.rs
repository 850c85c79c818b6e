//! A trust domain, sockets in memory and servers for tests.
#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use culvert_identity::{Credentials, SpiffeId, TrustBundle};
use culvert_tunnel::io::{Destination, Origin, Request, Requests, Server, Settings, Socket, SocketSource, Tunnels};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex},
    sync::mpsc,
    task::JoinHandle,
};

/// A certificate authority of the trust domain `cluster.local`.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    bundle: TrustBundle,
}

pub(crate) fn identity(account: &str) -> SpiffeId {
    SpiffeId::new("cluster.local", "shop", account).unwrap()
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        Self {
            bundle: TrustBundle::from_pem(root.pem().as_bytes()).unwrap(),
            issuer: Issuer::new(params, key),
        }
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

pub(crate) const CLIENT: &str = "198.18.0.9:40000";
pub(crate) const NODE: &str = "198.18.0.1:15008";

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A socket in memory whose reading end can be made to hear nothing any more.
pub(crate) struct Line {
    socket: DuplexStream,
    dead: Arc<AtomicBool>,
}

impl Socket for Line {}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.dead.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, data)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// Sockets in memory: the other end of each goes to whoever accepts.
pub(crate) struct Memory {
    far: mpsc::UnboundedSender<DuplexStream>,
    /// Bytes that a socket takes before they are read.
    size: usize,
    pub(crate) dials: Arc<AtomicUsize>,
    /// The switch of each socket, in the order in which they were made.
    pub(crate) dead: Arc<parking_lot::Mutex<Vec<Arc<AtomicBool>>>>,
}

impl SocketSource for Memory {
    type Socket = Line;

    async fn connect(&self, _: &Origin, _: SocketAddr) -> io::Result<Line> {
        self.dials.fetch_add(1, Ordering::SeqCst);
        let (socket, far) = duplex(self.size);
        self.far
            .send(far)
            .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        let dead = Arc::new(AtomicBool::new(false));
        self.dead.lock().push(Arc::clone(&dead));
        Ok(Line { socket, dead })
    }
}

/// A client's pool of tunnels, and the sockets that it dials.
pub(crate) struct Client {
    pub(crate) tunnels: Tunnels<Memory>,
    pub(crate) accept: mpsc::UnboundedReceiver<DuplexStream>,
    pub(crate) dials: Arc<AtomicUsize>,
    pub(crate) dead: Arc<parking_lot::Mutex<Vec<Arc<AtomicBool>>>>,
}

pub(crate) fn client(authority: &Authority, settings: Settings, size: usize) -> Client {
    let (far, accept) = mpsc::unbounded_channel();
    let dials = Arc::new(AtomicUsize::new(0));
    let dead = Arc::default();
    let memory = Memory {
        far,
        size,
        dials: Arc::clone(&dials),
        dead: Arc::clone(&dead),
    };
    Client {
        tunnels: Tunnels::new(memory, Arc::new(authority.credentials("client")), settings),
        accept,
        dials,
        dead,
    }
}

pub(crate) fn server(authority: &Authority, settings: Settings) -> Server {
    Server::new(identity("server"), Arc::new(authority.credentials("server")), settings)
}

pub(crate) fn destination() -> Destination {
    Destination {
        origin: Origin {
            identity: identity("client"),
            place: "".into(),
        },
        node: address(NODE),
        destination: "cart-7".into(),
        identities: [identity("server")].into(),
    }
}

/// How long a test may wait for anything, on a clock that stands still while there is work.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Accepts every tunnel, and has `handle` see to every request. The task of each tunnel is told to `tasks`.
pub(crate) fn serve<F>(
    server: Server,
    mut accept: mpsc::UnboundedReceiver<DuplexStream>,
    handle: impl Fn(Request) -> F + Clone + Send + 'static,
) -> mpsc::UnboundedReceiver<JoinHandle<()>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (tasks, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(socket) = accept.recv().await {
            let Ok((requests, driver)) = server.accept(socket, address(CLIENT)).await else {
                continue;
            };
            let _ = tasks.send(tokio::spawn(driver));
            tokio::spawn(each(requests, handle.clone()));
        }
    });
    told
}

pub(crate) async fn each<F>(mut requests: Requests, handle: impl Fn(Request) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    while let Some(request) = requests.next().await {
        tokio::spawn(handle(request));
    }
}

/// Sends back what comes, each direction ending on its own.
pub(crate) async fn echo(request: Request) {
    let (mut reader, mut writer) = tokio::io::split(request.accept(&[("baggage", "service.name=echo")]));
    if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
        writer.shutdown().await.unwrap();
    }
}

pub(crate) fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n * 7 / 5) as u8).collect()
}

/// Sends `data` through a stream that echoes, and checks what comes back.
pub(crate) async fn round_trip<S: AsyncRead + AsyncWrite + Send + 'static>(stream: S, data: Vec<u8>) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent = data.clone();
    let sending = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
        writer
    });
    let mut received = Vec::new();
    reader.read_to_end(&mut received).await.unwrap();
    assert!(received == data, "{} of {} bytes", received.len(), data.len());
    drop(sending.await.unwrap());
}
