//! An application with HTTP/2 in clear that notes the scheme of each request, and how streams end that it does not answer.

use crate::tunnel::runtime;
use culvert_lab::Pod;
use http::Response;
use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

/// A running application, as long as it is there.
pub struct H2App {
    noted: Arc<Mutex<Noted>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Noted {
    /// Path and scheme of each request.
    requests: Vec<(String, String)>,
    /// Codes by which streams were reset.
    resets: Vec<u32>,
}

impl H2App {
    /// Serves a port of a pod. `/hang` is never answered, all else by 200.
    pub fn serve(pod: &Pod, port: u16) -> Self {
        let listener = pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (runtime, noted) = (runtime(1), Arc::<Mutex<Noted>>::default());
        let all = Arc::clone(&noted);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer_all(socket, Arc::clone(&all)));
            }
        });
        Self {
            noted,
            _runtime: runtime,
        }
    }

    /// The schemes of requests for a path, in order.
    pub fn schemes(&self, path: &str) -> Vec<String> {
        let noted = self.noted.lock().unwrap();
        let asked = noted.requests.iter().filter(|(known, _)| known == path);
        asked.map(|(_, scheme)| scheme.clone()).collect()
    }

    /// The codes by which streams were reset, in order.
    pub fn resets(&self) -> Vec<u32> {
        self.noted.lock().unwrap().resets.clone()
    }
}

async fn answer_all(socket: tokio::net::TcpStream, noted: Arc<Mutex<Noted>>) {
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let path = request.uri().path().to_owned();
        let scheme = request.uri().scheme_str().unwrap_or_default().to_owned();
        noted.lock().unwrap().requests.push((path.clone(), scheme));
        if path != "/hang" {
            let answer = Response::builder().header("x-app", "h2").body(()).unwrap();
            // Who has gone is not waited for.
            let _sent = respond.send_response(answer, true);
            continue;
        }
        let noted = Arc::clone(&noted);
        tokio::spawn(async move {
            let _body = request.into_body();
            if let Ok(reason) = poll_fn(|context| respond.poll_reset(context)).await {
                noted.lock().unwrap().resets.push(reason.into());
            }
        });
    }
}
