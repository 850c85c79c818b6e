//! HTTP/2 and gRPC, at both ends, each on one thread.

use super::{
    BODY,
    options::{Kind, Options, Requests},
};
use crate::load::{Figures, Window, micros, summary};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use std::{
    cell::RefCell,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, runtime, task::LocalSet};

/// Windows of streams and connections: more than is ever under way here.
const WINDOW: u32 = 4 << 20;

/// What all streams of a load count into.
struct Count {
    window: Window,
    times: Vec<u32>,
    failure: Option<anyhow::Error>,
}

/// Sends requests or messages on all streams, the next one when one is answered.
pub(super) fn run(options: &Options, requests: Requests, window: Window) -> Result<Figures> {
    let count = Rc::new(RefCell::new(Count {
        window,
        times: Vec::with_capacity(1 << 20),
        failure: None,
    }));
    let requests = Rc::new(requests);
    let local = LocalSet::new();
    for connection in 0..options.connections {
        let (count, requests) = (Rc::clone(&count), Rc::clone(&requests));
        let (to, kind, streams) = (options.to, options.kind, options.streams);
        local.spawn_local(async move {
            if let Err(error) = connect(to, kind, streams, connection, &requests, &count).await {
                count.borrow_mut().failure.get_or_insert(error);
            }
        });
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let mut answered = (0, Instant::now());
    runtime.block_on(local.run_until(async {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut count = count.borrow_mut();
            let now = Instant::now();
            count.window.begins_at(now)?;
            if let Some(failure) = count.failure.take() {
                return Err(failure);
            }
            if count.window.is_over(now) {
                let times = std::mem::take(&mut count.times);
                return Ok(summary(&count.window, times));
            }
            if count.times.len() > answered.0 || !count.window.is_measured() {
                answered = (count.times.len(), now);
            }
            ensure!(now - answered.1 < Duration::from_secs(10), "no answer for 10 s");
        }
    }))
}

/// One connection with its streams, for as long as the load goes on.
async fn connect(
    to: SocketAddr,
    kind: Kind,
    streams: usize,
    number: usize,
    requests: &Rc<Requests>,
    count: &Rc<RefCell<Count>>,
) -> Result<()> {
    let socket = TcpStream::connect(to)
        .await
        .with_context(|| format!("cannot connect to {to}"))?;
    socket.set_nodelay(true)?;
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let (sender, connection) = builder.handshake(socket).await?;
    for stream in 0..streams {
        let (sender, requests, count) = (sender.clone(), Rc::clone(requests), Rc::clone(count));
        let first = number * streams + stream;
        tokio::task::spawn_local(async move {
            let ended = match kind {
                Kind::Grpc => messages(sender, &requests, &count).await,
                Kind::Http1 | Kind::Http2 => exchanges(sender, first, &requests, &count).await,
            };
            if let Err(error) = ended {
                count.borrow_mut().failure.get_or_insert(error);
            }
        });
    }
    Ok(connection.await?)
}

fn request(requests: &Requests, path: &str, content_type: &'static str) -> Result<Request<()>> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = format!("http://{}{path}", requests.host).parse()?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("culvert-bench"));
    if let Some(authorization) = &requests.authorization {
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(authorization)?);
    }
    Ok(request)
}

/// One request after the other.
async fn exchanges(
    mut sender: h2::client::SendRequest<Bytes>,
    first: usize,
    requests: &Requests,
    count: &RefCell<Count>,
) -> Result<()> {
    let made: Result<Vec<_>> = requests
        .paths
        .iter()
        .map(|path| request(requests, path, "text/plain"))
        .collect();
    let made = made?;
    for template in made.iter().cycle().skip(first % made.len()) {
        let since = Instant::now();
        sender = sender.ready().await?;
        let (response, mut body) = sender.send_request(template.clone(), false)?;
        body.send_data(Bytes::from_static(&[b'q'; BODY]), true)?;
        let response = response.await?;
        ensure!(response.status() == 200, "status {}", response.status());
        let mut body = response.into_body();
        let mut received = 0;
        while let Some(data) = body.data().await {
            let data = data?;
            received += data.len();
            body.flow_control().release_capacity(data.len())?;
        }
        ensure!(received == BODY, "{received} bytes came back");
        let mut count = count.borrow_mut();
        if count.window.is_measured() {
            count.times.push(micros(since.elapsed()));
        }
    }
    Ok(())
}

/// One message after the other, on one stream.
async fn messages(sender: h2::client::SendRequest<Bytes>, requests: &Requests, count: &RefCell<Count>) -> Result<()> {
    let mut sender = sender.ready().await?;
    let mut request = request(requests, "/bench.Echo/Stream", "application/grpc")?;
    request
        .headers_mut()
        .insert(header::TE, HeaderValue::from_static("trailers"));
    let (response, mut to) = sender.send_request(request, false)?;
    to.send_data(Bytes::from_static(&MESSAGE), false)?;
    let mut since = Instant::now();
    let response = response.await?;
    ensure!(response.status() == 200, "status {}", response.status());
    let mut from = response.into_body();
    let mut received = 0;
    while let Some(data) = from.data().await {
        let data = data?;
        received += data.len();
        from.flow_control().release_capacity(data.len())?;
        if received < MESSAGE.len() {
            continue;
        }
        received = 0;
        {
            let mut count = count.borrow_mut();
            if count.window.is_measured() {
                count.times.push(micros(since.elapsed()));
            }
        }
        since = Instant::now();
        to.send_data(Bytes::from_static(&MESSAGE), false)?;
    }
    bail!("a stream ended in the middle of the load");
}

/// A message of gRPC: not compressed, its length, and zeros.
static MESSAGE: [u8; BODY] = {
    let mut message = [0; BODY];
    let length = ((BODY - 5) as u32).to_be_bytes();
    let mut at = 0;
    while at < length.len() {
        message[1 + at] = length[at];
        at += 1;
    }
    message
};

/// Serves until the process is killed.
pub(super) fn serve(listener: TcpListener) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            // A connection that fails is the client's to report.
            tokio::task::spawn_local(async move { drop(answer_all(socket).await) });
        }
    }))
}

async fn answer_all(socket: TcpStream) -> Result<()> {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(10_000);
    let mut connection = builder.handshake::<_, Bytes>(socket).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        tokio::task::spawn_local(async move { drop(answer(request, respond).await) });
    }
    Ok(())
}

async fn answer(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) -> Result<()> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|value| value == "application/grpc");
    let mut from = request.into_body();
    let mut response = Response::new(());
    if is_grpc {
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(header::CONTENT_TYPE, grpc);
        let mut to = respond.send_response(response, false)?;
        while let Some(data) = from.data().await {
            let data = data?;
            from.flow_control().release_capacity(data.len())?;
            to.send_data(data, false)?;
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        return Ok(to.send_trailers(trailers)?);
    }
    while let Some(data) = from.data().await {
        from.flow_control().release_capacity(data?.len())?;
    }
    let mut to = respond.send_response(response, false)?;
    Ok(to.send_data(Bytes::from_static(&[b'a'; BODY]), true)?)
}
