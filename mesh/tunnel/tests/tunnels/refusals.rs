//! What is refused, by whom, and what is said about it.
use std::{sync::Arc, time::Duration};

use culvert_hbone::Authority;
use culvert_tunnel::{
    failure::Failure,
    io::{Destination, Settings},
};

use crate::common::{self, LONG, address, client, destination, echo, identity, serve, server};

#[tokio::test(start_paused = true)]
async fn a_refusal_arrives_with_its_status_and_reason_and_is_not_tried_again() {
    let authority = common::Authority::new();
    let client = client(&authority, Settings::default(), 64 << 10);
    serve(
        server(&authority, Settings::default()),
        client.accept,
        async |request| {
            let status = match request.authority() {
                Authority::Name { port, .. } => *port,
                Authority::Address(_) => return drop(request),
            };
            request.refuse(status, "policy `deny-all` says so\r\nx-forged: yes");
        },
    );
    for status in [401, 404, 503] {
        let to: Authority = format!("cart.shop:{status}").parse().unwrap();
        let failure = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap_err();
        let Failure::Refused { status: got, reason } = &failure else {
            panic!("{failure}")
        };
        assert_eq!((*got, &**reason), (status, "policy `deny-all` says sox-forged: yes"));
    }
    // A request that is dropped is reset.
    let to: Authority = "198.18.0.1:80".parse().unwrap();
    let failure = client.tunnels.open(&destination(), &to, &[], LONG).await.unwrap_err();
    assert!(
        matches!(failure, Failure::ResetByPeer(culvert_hbone::ErrorCode::Cancel)),
        "{failure}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_with_another_identity_is_refused_with_an_error_that_names_both() {
    let authority = common::Authority::new();
    let client = client(&authority, Settings::default(), 64 << 10);
    serve(server(&authority, Settings::default()), client.accept, echo);
    let to = Destination {
        identities: [identity("somebody-else")].into(),
        ..destination()
    };
    let failure = client
        .tunnels
        .open(&to, &"198.18.0.1:80".parse().unwrap(), &[], LONG)
        .await
        .unwrap_err();
    let text = failure.to_string();
    for part in [
        common::NODE,
        identity("server").as_str(),
        identity("somebody-else").as_str(),
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!failure.may_pass());
}

#[tokio::test(start_paused = true)]
async fn strangers_are_refused_at_both_ends_and_named() {
    let (ours, theirs) = (common::Authority::new(), common::Authority::new());
    let mut client = client(&theirs, Settings::default(), 64 << 10);
    let tunnels = client.tunnels.clone();
    let opening = tokio::spawn(async move {
        let to = "198.18.0.1:80".parse().unwrap();
        tunnels.open(&destination(), &to, &[], LONG).await
    });
    let socket = client.accept.recv().await.unwrap();
    let accepted = server(&ours, Settings::default())
        .accept(socket, address(common::CLIENT))
        .await;
    let failure = accepted.map(drop).unwrap_err();
    assert!(failure.to_string().contains(common::CLIENT), "{failure}");
    let failure = opening.await.unwrap().unwrap_err();
    assert!(
        failure.to_string().contains(common::NODE) && !failure.may_pass(),
        "{failure}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_certificate_nothing_is_dialled_and_the_time_is_kept() {
    let authority = common::Authority::new();
    let client = client(&authority, Settings::default(), 64 << 10);
    let mut to = destination();
    to.origin.identity = identity("nobody");
    let within = Duration::from_secs(3);
    let before = tokio::time::Instant::now();
    let failure = client
        .tunnels
        .open(&to, &"198.18.0.1:80".parse().unwrap(), &[], within)
        .await
        .unwrap_err();
    assert!(before.elapsed() <= within);
    let text = failure.to_string();
    assert!(
        text.contains("no certificate for spiffe://cluster.local/ns/shop/sa/nobody"),
        "{text}"
    );
    assert_eq!(client.dials.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_tls_is_given_up_in_time() {
    let authority = common::Authority::new();
    let mut client = client(&authority, Settings::default(), 64 << 10);
    let (tunnels, to) = (client.tunnels.clone(), Arc::new(destination()));
    let opening = tokio::spawn(async move {
        let authority = "198.18.0.1:80".parse().unwrap();
        tunnels.open(&to, &authority, &[], LONG).await
    });
    let _silent = client.accept.recv().await.unwrap();
    let mut silent = Vec::new();
    let failure = loop {
        tokio::select! {
            socket = client.accept.recv() => silent.push(socket.unwrap()),
            () = async { while !opening.is_finished() { tokio::time::sleep(Duration::from_millis(10)).await } } => break opening.await.unwrap().unwrap_err(),
        }
    };
    assert!(
        matches!(&failure, Failure::Timeout { .. }) && failure.to_string().contains(common::NODE),
        "{failure}"
    );
    // The other way round: a client that says nothing.
    let (near, _far) = tokio::io::duplex(1000);
    let accepted = server(&authority, Settings::default())
        .accept(near, address(common::CLIENT))
        .await;
    let failure = accepted.map(drop).unwrap_err();
    assert!(failure.to_string().contains(common::CLIENT), "{failure}");
}
