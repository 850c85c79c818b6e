//! What a peer can make us hold.
use culvert_hbone::{Authority, Config};
use culvert_tunnel::io::{Requests, Settings};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

use crate::common::{self, LONG, address, client, destination, pattern, server};

const WINDOW: usize = 128 << 10;

fn small_windows() -> Settings {
    Settings {
        hbone: Config {
            stream_window: WINDOW as u32,
            connection_window: 256 << 10,
            held_limit: 1 << 20,
            ..Config::default()
        },
        ..Settings::default()
    }
}

/// A client, and its only tunnel's requests.
async fn tunnel(settings: Settings) -> (common::Client, Requests, common::Authority) {
    let authority = common::Authority::new();
    let mut client = client(&authority, settings.clone(), 64 << 10);
    let to = "198.18.0.1:80".parse().unwrap();
    let tunnels = client.tunnels.clone();
    // The first stream makes the tunnel.
    let opening = tokio::spawn(async move { tunnels.open(&destination(), &to, &[], LONG).await });
    let socket = client.accept.recv().await.unwrap();
    let (mut requests, driver) = server(&authority, settings)
        .accept(socket, address(common::CLIENT))
        .await
        .unwrap();
    tokio::spawn(driver);
    drop(requests.next().await.unwrap().accept(&[]));
    drop(opening.await);
    (client, requests, authority)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_holds_its_window_and_the_others_go_on() {
    let (client, mut requests, _authority) = tunnel(small_windows()).await;
    let to: Authority = "198.18.0.1:80".parse().unwrap();
    let data = pattern(10 << 20);
    let tunnels = client.tunnels.clone();
    let sent = data.clone();
    let to_unread = to.clone();
    let writer = tokio::spawn(async move {
        let mut stream = tunnels.open(&destination(), &to_unread, &[], LONG).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    });
    let mut unread = requests.next().await.unwrap().accept(&[]);
    // Much more than that goes through beside it.
    let tunnels = client.tunnels.clone();
    let beside = tokio::spawn(async move {
        let mut stream = tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
        stream.write_all(&pattern(5 << 20)).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    });
    let mut read = requests.next().await.unwrap().accept(&[]);
    let mut all = Vec::new();
    read.read_to_end(&mut all).await.unwrap();
    assert!(all == pattern(5 << 20));
    drop(beside.await.unwrap());
    assert!(!writer.is_finished());
    assert_eq!(requests.held(), WINDOW);
    // It has lost nothing.
    let mut all = Vec::new();
    unread.read_to_end(&mut all).await.unwrap();
    assert!(all == data);
    assert_eq!(requests.held(), 0);
    drop(writer.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_whose_streams_are_not_read_holds_what_it_may_and_no_more() {
    let (client, mut requests, _authority) = tunnel(small_windows()).await;
    let to: Authority = "198.18.0.1:80".parse().unwrap();
    let mut unread = Vec::new();
    let (progress, mut progressed) = mpsc::unbounded_channel();
    for _ in 0..50 {
        let (tunnels, to, progress) = (client.tunnels.clone(), to.clone(), progress.clone());
        tokio::spawn(async move {
            let mut stream = tunnels.open(&destination(), &to, &[], LONG).await.unwrap();
            loop {
                stream.write_all(&[1; 10_000]).await.unwrap();
                let _ = progress.send(());
            }
        });
        unread.push(requests.next().await.unwrap().accept(&[]));
    }
    // The clock moves on when nobody can do anything any more.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    while progressed.try_recv().is_ok() {}
    let held = requests.held();
    assert!(((1 << 20)..=(1 << 20) + (256 << 10)).contains(&held), "{held}");
    // Reading lets them go on.
    for mut stream in unread {
        tokio::spawn(async move {
            let mut bytes = [0; 10_000];
            while stream.read_exact(&mut bytes).await.is_ok() {}
        });
    }
    progressed.recv().await.unwrap();
}
