//! Streams whose tunnel fails before a byte has left go to another.
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use culvert_hbone::{Authority, Config};
use culvert_tunnel::io::Settings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::{self, LONG, address, client, destination, echo, pattern, round_trip, serve, server};

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_is_lost_before_the_answer_is_replaced() {
    let authority = common::Authority::new();
    let mut client = client(&authority, Settings::default(), 64 << 10);
    let tunnels = client.tunnels.clone();
    let opening = tokio::spawn(async move {
        let to = "198.18.0.1:80".parse().unwrap();
        tunnels.open(&destination(), &to, &[], LONG).await
    });
    let server = server(&authority, Settings::default());
    // One socket is cut at once, one after the handshake with the request on its way.
    drop(client.accept.recv().await.unwrap());
    let socket = client.accept.recv().await.unwrap();
    let (mut requests, driver) = server.accept(socket, address(common::CLIENT)).await.unwrap();
    let driver = tokio::spawn(driver);
    let request = requests.next().await.unwrap();
    driver.abort();
    let _ = driver.await;
    drop((request, requests));
    serve(server, client.accept, echo);
    round_trip(opening.await.unwrap().unwrap(), pattern(1000)).await;
    assert_eq!(client.dials.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn more_streams_than_a_peer_allows_get_more_tunnels() {
    let authority = common::Authority::new();
    let client = client(&authority, Settings::default(), 64 << 10);
    let few = Settings {
        hbone: Config {
            max_streams: 3,
            ..Config::default()
        },
        ..Settings::default()
    };
    serve(server(&authority, few), client.accept, echo);
    let to: Authority = "198.18.0.1:80".parse().unwrap();
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap());
    }
    assert_eq!(client.tunnels.open_tunnels(), 4);
    for stream in open {
        round_trip(stream, pattern(1000)).await;
    }
    // Those that end make room for others: no tunnel more.
    for _ in 0..10 {
        let stream = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
        round_trip(stream, pattern(1000)).await;
    }
    assert_eq!(client.dials.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_became_silent_is_replaced_for_new_streams_and_given_up_for_open_ones() {
    let authority = common::Authority::new();
    let client = client(&authority, Settings::default(), 64 << 10);
    serve(server(&authority, Settings::default()), client.accept, echo);
    let to: Authority = "198.18.0.1:80".parse().unwrap();
    let mut old = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
    old.write_all(b"x").await.unwrap();
    old.read_exact(&mut [0]).await.unwrap();
    client.dead.lock()[0].store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let new = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
    round_trip(new, pattern(1000)).await;
    assert_eq!(client.dials.load(Ordering::SeqCst), 2);
    let error = old.read(&mut [0]).await.unwrap_err();
    assert!(error.to_string().contains("does not answer pings"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_no_longer_waits_leaves_nothing_behind() {
    let authority = common::Authority::new();
    let mut client = client(&authority, Settings::default(), 64 << 10);
    let to: Authority = "198.18.0.1:80".parse().unwrap();
    let opening = {
        let (tunnels, to) = (client.tunnels.clone(), to.clone());
        tokio::spawn(async move { tunnels.open(&destination(), &to, &[], LONG).await })
    };
    let socket = client.accept.recv().await.unwrap();
    opening.abort();
    let _ = opening.await;
    let served = Arc::new(AtomicUsize::new(0));
    let (sender, accept) = tokio::sync::mpsc::unbounded_channel();
    sender.send(socket).unwrap();
    let count = Arc::clone(&served);
    serve(server(&authority, Settings::default()), accept, move |request| {
        count.fetch_add(1, Ordering::SeqCst);
        echo(request)
    });
    // The tunnel that was dialled for it serves the next.
    let stream = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
    round_trip(stream, pattern(1000)).await;
    assert_eq!(
        (served.load(Ordering::SeqCst), client.dials.load(Ordering::SeqCst)),
        (1, 1)
    );
}
