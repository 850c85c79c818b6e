//! Keys from a real HTTP server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::client::client;
use super::keeper::Keeper;
use culvert_resources::keys::{Fetched, Known, Source};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server whose answer to each path may change.
#[derive(Clone, Default)]
struct Issuer {
    /// Status and body, by path.
    pages: Arc<Mutex<std::collections::HashMap<String, (u16, String)>>>,
    asked: Arc<Mutex<usize>>,
}

impl Issuer {
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let all = self.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => request.push(byte),
                        Err(_) => break,
                    }
                }
                let line = String::from_utf8(request).unwrap();
                let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                *all.asked.lock() += 1;
                let (status, body) = all.pages.lock().get(&path).cloned().unwrap_or((404, String::new()));
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        format!("http://{address}")
    }

    fn set(&self, path: &str, status: u16, body: &str) {
        self.pages.lock().insert(path.to_owned(), (status, body.to_owned()));
    }
}

fn keys(kid: &str) -> String {
    let (x, y) = (
        "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    );
    format!(r#"{{"keys":[{{"kty":"EC","kid":"{kid}","crv":"P-256","x":"{x}","y":"{y}"}}]}}"#)
}

async fn until(fetched: &mut watch::Receiver<Fetched>, source: &Source, so: impl Fn(&Known) -> bool) -> Known {
    let found = fetched.wait_for(|all| all.get(source).is_some_and(&so));
    let found = tokio::time::timeout(PATIENCE, found)
        .await
        .expect("it does not come")
        .unwrap();
    found.get(source).unwrap().clone()
}

#[tokio::test]
async fn rotated_keys_are_fetched_once_for_all_and_the_last_good_ones_stay_while_an_issuer_fails() {
    let issuer = Issuer::default();
    let at = issuer.start().await;
    let source = Source::Uri(format!("{at}/keys").into());
    let keeper = Keeper::new(client(None).unwrap(), Duration::from_millis(30));
    let mut fetched = keeper.fetched();
    let (want, wanted) = watch::channel(BTreeSet::from([source.clone()]));
    tokio::spawn(keeper.run(wanted));

    let none = until(&mut fetched, &source, |known| known.problem.is_some()).await;
    assert!(none.keys.is_none() && none.problem.unwrap().contains("it answers 404"));
    issuer.set("/keys", 200, &keys("first"));
    let first = until(&mut fetched, &source, |known| known.keys.is_some()).await;
    assert_eq!(first.keys.as_deref(), Some(keys("first").as_str()));
    issuer.set("/keys", 200, &keys("second"));
    until(&mut fetched, &source, |known| {
        known.keys.as_deref() == Some(&keys("second"))
    })
    .await;
    for (status, body) in [
        (500, String::new()),
        (200, "{}".to_owned()),
        (200, keys(&"x".repeat(300 << 10))),
    ] {
        issuer.set("/keys", status, &body);
        let kept = until(&mut fetched, &source, |known| known.problem.is_some()).await;
        assert_eq!(kept.keys.as_deref(), Some(keys("second").as_str()));
        assert!(kept.problem.unwrap().contains("the last good keys hold, of 20"));
        issuer.set("/keys", 200, &keys("second"));
        until(&mut fetched, &source, |known| known.problem.is_none()).await;
    }

    // What nobody wants any more is no longer fetched.
    want.send_replace(BTreeSet::new());
    tokio::time::timeout(PATIENCE, fetched.wait_for(|all| all.get(&source).is_none()))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn an_issuer_without_a_uri_is_asked_for_its_openid_configuration() {
    let issuer = Issuer::default();
    let at = issuer.start().await;
    issuer.set(
        "/a/.well-known/openid-configuration",
        200,
        &format!(r#"{{"jwks_uri":"{at}/elsewhere"}}"#),
    );
    issuer.set("/elsewhere", 200, &keys("one"));
    let source = Source::Issuer(format!("{at}/a/").into());
    let keeper = Keeper::new(client(None).unwrap(), Duration::from_secs(60));
    let mut fetched = keeper.fetched();
    let (_want, wanted) = watch::channel(BTreeSet::from([source.clone()]));
    tokio::spawn(keeper.run(wanted));
    until(&mut fetched, &source, |known| {
        known.keys.as_deref() == Some(&keys("one"))
    })
    .await;
    assert_eq!(*issuer.asked.lock(), 2);
}
