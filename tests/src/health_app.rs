//! An application that says whether it serves, over HTTP and by gRPC's health protocol, as the test wants it.

use std::{
    io::{self, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use culvert_lab::Pod;
use http::{HeaderMap, Response};

use crate::{http::read_head, tunnel::runtime};

/// One that is running, for as long as it is there.
pub struct HealthApp {
    serves: Arc<AtomicBool>,
    checks: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl HealthApp {
    /// Serves a port of a pod over HTTP/1.1, and the next one over HTTP/2. What it answers has its name in `x-app`.
    pub fn serve(pod: &Pod, port: u16, name: &'static str) -> Self {
        let app = Self {
            serves: Arc::new(AtomicBool::new(true)),
            checks: Arc::default(),
            _runtime: runtime(1),
        };
        let listener = pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap();
        let (serves, checks) = (Arc::clone(&app.serves), Arc::clone(&app.checks));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (serves, checks) = (Arc::clone(&serves), Arc::clone(&checks));
                thread::spawn(move || drop(answer_all(stream, name, &serves, &checks)));
            }
        });
        let listener = pod.listen(SocketAddr::from((pod.ip4(), port + 1))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let serves = Arc::clone(&app.serves);
        app._runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(calls(socket, name, Arc::clone(&serves)));
            }
        });
        app
    }

    /// From now on it serves, or does not.
    pub fn set(&self, serves: bool) {
        self.serves.store(serves, Ordering::SeqCst);
    }

    /// How often it was asked over HTTP/1.1 whether it serves.
    pub fn checks(&self) -> usize {
        self.checks.load(Ordering::SeqCst)
    }
}

fn answer_all(stream: TcpStream, name: &str, serves: &AtomicBool, checks: &AtomicUsize) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(head) = read_head(&mut reader)? {
        let is_check = head.first().starts_with("GET /healthz ");
        checks.fetch_add(is_check.into(), Ordering::SeqCst);
        let status = match is_check && !serves.load(Ordering::SeqCst) {
            true => "503 Service Unavailable",
            false => "200 OK",
        };
        write!(
            writer,
            "HTTP/1.1 {status}\r\nx-app: {name}\r\ncontent-length: 0\r\n\r\n"
        )?;
    }
    Ok(())
}

async fn calls(socket: tokio::net::TcpStream, name: &str, serves: Arc<AtomicBool>) {
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let is_check = request.uri().path() == "/grpc.health.v1.Health/Check";
        let head = Response::builder()
            .header("content-type", "application/grpc")
            .header("x-app", name);
        let Ok(mut to) = respond.send_response(head.body(()).unwrap(), false) else {
            continue;
        };
        // Field 1: SERVING or NOT_SERVING.
        let status = if serves.load(Ordering::SeqCst) { 1 } else { 2 };
        let message: &[u8] = if is_check { &[0, 0, 0, 0, 2, 8, status] } else { &[] };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        // Who has gone is not waited for.
        let _sent = to.send_data(message.to_vec().into(), false);
        let _sent = to.send_trailers(trailers);
    }
}
