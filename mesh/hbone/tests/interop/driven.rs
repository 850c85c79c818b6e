//! Our end on a tokio socket, and h2's ends on the other.
use std::sync::Arc;

use bytes::Bytes;
use culvert_hbone::{Config, Connection, Handshake, Progress, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{End, Event, configs, server_name};

/// Our end on a socket.
pub(crate) struct Driven {
    pub(crate) end: End,
    socket: TcpStream,
}

impl Driven {
    async fn new(role: Role, mut handshake: Handshake, mut socket: TcpStream) -> Self {
        let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
        loop {
            let progress = handshake.advance(&mut incoming, &mut outgoing).unwrap();
            socket.write_all(&outgoing).await.unwrap();
            outgoing.clear();
            if progress == Progress::Done {
                break;
            }
            assert_ne!(socket.read_buf(&mut incoming).await.unwrap(), 0);
        }
        let connection = Connection::new(role, handshake.finish().unwrap().keys, &Config::default());
        Self {
            end: End {
                connection,
                inbox: incoming,
            },
            socket,
        }
    }

    /// Writes what there is to write, and waits until something happened. None at the end of the socket.
    pub(crate) async fn step(&mut self) -> Option<Vec<Event>> {
        if !self.end.inbox.is_empty() {
            let events = self.end.receive(&[]).unwrap();
            if !events.is_empty() {
                return Some(events);
            }
        }
        let (mut reader, mut writer) = self.socket.split();
        let has_output = self.end.connection.has_output();
        let mut buffer = vec![0; 256 << 10];
        tokio::select! {
            n = reader.read(&mut buffer) => match n.unwrap() {
                0 => None,
                n => Some(self.end.receive(&buffer[..n]).unwrap()),
            },
            n = writer.write(self.end.connection.output()), if has_output => {
                self.end.connection.written(n.unwrap());
                Some(Vec::new())
            }
        }
    }

    pub(crate) async fn flush(&mut self) {
        while self.end.connection.has_output() {
            let n = self.socket.write(self.end.connection.output()).await.unwrap();
            self.end.connection.written(n);
        }
    }
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (a, b) = tokio::join!(TcpStream::connect(address), listener.accept());
    (a.unwrap(), b.unwrap().0)
}

/// Our server on one end, an h2 client over tokio-rustls on the other.
pub(crate) async fn server_and_h2(builder: &h2::client::Builder) -> (Driven, h2::client::SendRequest<Bytes>) {
    let (client_config, server_config) = configs();
    let (near, far) = sockets().await;
    let server = Driven::new(Role::Server, Handshake::server(Arc::new(server_config)).unwrap(), far);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client_config));
    let (server, tls) = tokio::join!(server, connector.connect(server_name(), near));
    let (requests, connection) = builder.handshake(tls.unwrap()).await.unwrap();
    tokio::spawn(connection);
    (server, requests)
}

/// Our client on one end, an h2 server over tokio-rustls on the other.
pub(crate) async fn client_and_h2<F>(builder: h2::server::Builder, serve: impl FnOnce(H2Server) -> F) -> Driven
where
    F: Future<Output = ()> + Send + 'static,
{
    let (client_config, server_config) = configs();
    let (near, far) = sockets().await;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server_config));
    let client = Handshake::client(Arc::new(client_config), server_name()).unwrap();
    let (client, tls) = tokio::join!(Driven::new(Role::Client, client, near), acceptor.accept(far));
    let tls = tls.unwrap();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    tokio::spawn(async move { sender.send(builder.handshake(tls).await.unwrap()).map_err(drop) });
    // The server waits for our preface.
    let mut client = client;
    client.flush().await;
    tokio::spawn(serve(receiver.await.unwrap()));
    client
}

pub(crate) type H2Server = h2::server::Connection<tokio_rustls::server::TlsStream<TcpStream>, Bytes>;

pub(crate) async fn send_all(stream: &mut h2::SendStream<Bytes>, mut data: Bytes, end: bool) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = std::future::poll_fn(|context| stream.poll_capacity(context))
            .await
            .unwrap()
            .unwrap();
        stream
            .send_data(data.split_to(capacity.min(data.len())), false)
            .unwrap();
    }
    if end {
        stream.send_data(Bytes::new(), true).unwrap();
    }
}

pub(crate) async fn receive_all(body: &mut h2::RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all
}
