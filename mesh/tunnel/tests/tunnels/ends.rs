//! How streams and tunnels end: in order, cut, or with a peer that is gone.
use std::{io, sync::Arc};

use culvert_hbone::Authority;
use culvert_tunnel::{failure::Failure, io::Settings};
use proptest::{collection::vec, prelude::*};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

use crate::common::{self, LONG, client, destination, echo, pattern, serve, server};

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_before_its_end_is_reset() {
    let authority = common::Authority::new();
    let client = client(&authority, Settings::default(), 64 << 10);
    let (told, mut tell) = mpsc::unbounded_channel();
    serve(server(&authority, Settings::default()), client.accept, move |request| {
        let told = told.clone();
        async move {
            let mut stream = request.accept(&[]);
            let mut all = Vec::new();
            let result = stream.read_to_end(&mut all).await;
            told.send((all, result)).unwrap();
        }
    });
    let to: Authority = "198.18.0.1:80".parse().unwrap();
    let mut stream = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
    stream.write_all(b"half a mess").await.unwrap();
    drop(stream);
    let (all, result) = tell.recv().await.unwrap();
    let error = result.unwrap_err();
    // What came before is not withheld, and nobody can take it for the whole.
    assert_eq!(
        (all.as_slice(), error.kind()),
        (&b"half a mess"[..], io::ErrorKind::ConnectionReset)
    );
    // One that was shut down before is whole, however soon it is dropped.
    let mut stream = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
    stream.write_all(&pattern(200_000)).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    let (all, result) = tell.recv().await.unwrap();
    assert!(result.is_ok() && all == pattern(200_000));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_away_in_the_middle_is_an_error_that_names_it_behind_all_that_came() {
    let authority = common::Authority::new();
    let client = client(&authority, Settings::default(), 1 << 20);
    let (told, mut tell) = mpsc::unbounded_channel();
    let mut tasks = serve(server(&authority, Settings::default()), client.accept, move |request| {
        let told = told.clone();
        async move {
            let mut stream = request.accept(&[]);
            stream.write_all(&pattern(100_000)).await.unwrap();
            // Its own end hears of it, too.
            told.send(stream.read(&mut [0]).await.is_err()).unwrap();
        }
    });
    let to: Authority = "198.18.0.1:80".parse().unwrap();
    let mut stream = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
    let mut first = vec![0; 1];
    stream.read_exact(&mut first).await.unwrap();
    tasks.recv().await.unwrap().abort();
    assert!(tell.recv().await.unwrap());
    let mut rest = Vec::new();
    let error = stream.read_to_end(&mut rest).await.unwrap_err();
    assert!([first, rest].concat() == pattern(100_000));
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    assert!(error.to_string().contains(common::NODE), "{error}");
    assert!(stream.write_all(b"more").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_retires_serves_what_is_open_and_the_next_stream_gets_another() {
    let authority = common::Authority::new();
    let client = client(&authority, Settings::default(), 64 << 10);
    let mut tasks = serve(server(&authority, Settings::default()), client.accept, echo);
    let to: Authority = "198.18.0.1:80".parse().unwrap();
    let mut stream = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
    client.tunnels.forget(|to| &*to.destination == "cart-7");
    let other = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
    assert_eq!(client.tunnels.open_tunnels(), 2);
    stream.write_all(b"still here").await.unwrap();
    let mut back = [0; 10];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"still here");
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut back).await.unwrap(), 0);
    drop(stream);
    // The server's end of the first tunnel has ended, too.
    tasks.recv().await.unwrap().await.unwrap();
    drop((other, client.tunnels));
    tasks.recv().await.unwrap().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_retires_is_left_for_another_and_ends_when_its_streams_have() {
    let authority = common::Authority::new();
    let mut client = client(&authority, Settings::default(), 64 << 10);
    let server = server(&authority, Settings::default());
    let to: Authority = "198.18.0.1:80".parse().unwrap();
    let open = || {
        let (tunnels, to) = (client.tunnels.clone(), to.clone());
        tokio::spawn(async move { tunnels.open(&destination(), &to, &[], LONG).await })
    };
    let opening = open();
    let socket = client.accept.recv().await.unwrap();
    let (mut requests, driver) = server.accept(socket, common::address(common::CLIENT)).await.unwrap();
    let first = tokio::spawn(driver);
    let mut accepted = requests.next().await.unwrap().accept(&[]);
    let mut stream = opening.await.unwrap().unwrap();
    drop(requests);
    // Whatever the client has heard of that: this stream ends up on a second tunnel.
    let opening = open();
    let socket = client.accept.recv().await.unwrap();
    let (mut requests, driver) = server.accept(socket, common::address(common::CLIENT)).await.unwrap();
    tokio::spawn(driver);
    let _second = requests.next().await.unwrap().accept(&[]);
    let _other = opening.await.unwrap().unwrap();
    stream.write_all(b"ping").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    accepted.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "ping");
    accepted.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    first.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_tunnel_is_closed_in_order() {
    let authority = common::Authority::new();
    let client = client(&authority, Settings::default(), 64 << 10);
    let mut tasks = serve(server(&authority, Settings::default()), client.accept, echo);
    let to: Authority = "198.18.0.1:80".parse().unwrap();
    let stream = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
    common::round_trip(stream, pattern(1000)).await;
    tasks.recv().await.unwrap().await.unwrap();
    assert_eq!(client.tunnels.open_tunnels(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Streams are shut down and dropped, the pool is dropped, and whatever was written arrives all the same, in both directions.
    #[test]
    fn a_tunnel_that_retires_keeps_every_byte(
        streams in vec((0usize..400_000, 0usize..400_000), 1..6), size in prop_oneof![Just(1usize << 10), Just(1 << 16), Just(1 << 20)]
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let authority = common::Authority::new();
            let client = client(&authority, Settings::default(), size);
            let (told, mut tell) = mpsc::unbounded_channel();
            let answers: Arc<[usize]> = streams.iter().map(|(_, answer)| *answer).collect();
            let mut tasks = serve(server(&authority, Settings::default()), client.accept, move |request| {
                let (told, answers) = (told.clone(), Arc::clone(&answers));
                async move {
                    let n: usize = request.header("n").unwrap().parse().unwrap();
                    let mut stream = request.accept(&[]);
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).await.unwrap();
                    stream.write_all(&pattern(answers[n])).await.unwrap();
                    stream.shutdown().await.unwrap();
                    told.send((n, all)).unwrap();
                }
            });
            let to: Authority = "198.18.0.1:80".parse().unwrap();
            let mut open = Vec::new();
            for (n, (size, _)) in streams.iter().enumerate() {
                let number = n.to_string();
                let mut stream =
                    client.tunnels.open(&destination(), &to, &[("n", number.as_str())], LONG).await.unwrap();
                stream.write_all(&pattern(*size)).await.unwrap();
                stream.shutdown().await.unwrap();
                open.push(stream);
            }
            drop(client.tunnels);
            for (stream, (_, answer)) in open.iter_mut().zip(&streams) {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                assert!(all == pattern(*answer));
            }
            drop(open);
            for _ in &streams {
                let (n, all) = tell.recv().await.unwrap();
                assert!(all == pattern(streams[n].0), "{} of {}", all.len(), streams[n].0);
            }
            // And it has ended.
            tasks.recv().await.unwrap().await.unwrap();
        });
    }
}

#[tokio::test(start_paused = true)]
async fn failures_can_be_told_apart_by_those_who_look_into_an_error() {
    let authority = common::Authority::new();
    let client = client(&authority, Settings::default(), 64 << 10);
    serve(
        server(&authority, Settings::default()),
        client.accept,
        async |request| {
            request.accept(&[]).reset(culvert_hbone::ErrorCode::ConnectError);
        },
    );
    let to: Authority = "198.18.0.1:80".parse().unwrap();
    let mut stream = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
    let error = stream.read(&mut [0]).await.unwrap_err();
    let failure = error.get_ref().unwrap().downcast_ref::<Failure>().unwrap();
    assert!(matches!(
        failure,
        Failure::ResetByPeer(culvert_hbone::ErrorCode::ConnectError)
    ));
}
