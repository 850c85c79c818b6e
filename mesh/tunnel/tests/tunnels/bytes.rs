//! Bytes arrive whole, in both directions, each of which ends on its own.
use std::sync::atomic::Ordering;

use culvert_hbone::Authority;
use culvert_tunnel::io::Settings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{self, LONG, client, destination, echo, identity, pattern, round_trip, serve, server};

#[tokio::test(start_paused = true)]
async fn many_streams_share_one_tunnel_and_each_gets_its_own_bytes_back() {
    let authority = common::Authority::new();
    let client = client(&authority, Settings::default(), 64 << 10);
    serve(server(&authority, Settings::default()), client.accept, echo);
    let mut tasks = Vec::new();
    for n in 0..60 {
        let tunnels = client.tunnels.clone();
        tasks.push(tokio::spawn(async move {
            let to: Authority = "198.18.0.1:80".parse().unwrap();
            let stream = tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
            assert_eq!(stream.peer().identity, identity("server"));
            assert_eq!(
                stream.headers(),
                [("baggage".to_owned(), "service.name=echo".to_owned())]
            );
            round_trip(stream, pattern(n * 10_000)).await;
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(
        (client.dials.load(Ordering::SeqCst), client.tunnels.open_tunnels()),
        (1, 1)
    );
}

/// Through sockets that take `socket` bytes at a time.
async fn larger(socket: usize, size: usize) {
    let authority = common::Authority::new();
    let client = client(&authority, Settings::default(), socket);
    serve(server(&authority, Settings::default()), client.accept, echo);
    let to = "198.18.0.1:80".parse().unwrap();
    let stream = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
    round_trip(stream, pattern(size)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_every_window_and_buffer_arrives() {
    larger(1 << 20, 20 << 20).await;
}

#[tokio::test(start_paused = true)]
async fn sockets_may_take_any_number_of_bytes_at_a_time() {
    larger(1, 20_000).await;
    larger(100, 200_000).await;
}

#[tokio::test(start_paused = true)]
async fn each_direction_ends_on_its_own_and_a_name_is_an_authority() {
    let authority = common::Authority::new();
    let client = client(&authority, Settings::default(), 64 << 10);
    serve(
        server(&authority, Settings::default()),
        client.accept,
        async |request| {
            assert_eq!(request.authority().to_string(), "cart.shop.svc.cluster.local:8080");
            assert_eq!(request.header("baggage"), Some("service.name=web"));
            assert_eq!(request.peer().identity, identity("client"));
            assert_eq!(request.peer().address, common::address(common::CLIENT));
            let mut stream = request.accept(&[]);
            // The server speaks first, ends first, and hears the rest.
            stream.write_all(b"that is all").await.unwrap();
            stream.shutdown().await.unwrap();
            assert!(stream.write_all(b"more").await.is_err());
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert!(rest == pattern(300_000));
        },
    );
    let to = "cart.shop.svc.cluster.local:8080".parse().unwrap();
    let headers = [("baggage", "service.name=web")];
    let mut stream = client.tunnels.open(&destination(), &to, &headers, LONG).await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"that is all");
    stream.write_all(&pattern(300_000)).await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn small_messages_get_through_beside_streams_that_send_without_end() {
    let authority = common::Authority::new();
    let client = client(&authority, Settings::default(), 8 << 10);
    serve(server(&authority, Settings::default()), client.accept, echo);
    let to: Authority = "198.18.0.1:80".parse().unwrap();
    let mut endless = Vec::new();
    for _ in 0..3 {
        let stream = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(stream);
        endless.push(tokio::spawn(async move {
            while writer.write_all(&[7; 100_000]).await.is_ok() {}
        }));
        endless.push(tokio::spawn(async move {
            tokio::io::copy(&mut reader, &mut tokio::io::sink()).await.unwrap();
        }));
    }
    let mut small = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
    for n in 0..100u32 {
        small.write_all(&n.to_be_bytes()).await.unwrap();
        assert_eq!(small.read_u32().await.unwrap(), n);
    }
    assert!(endless.iter().all(|task| !task.is_finished()));
    endless.iter().for_each(tokio::task::JoinHandle::abort);
}
