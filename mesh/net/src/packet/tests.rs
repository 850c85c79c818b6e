use std::{
    fs::File,
    io::{Read, Seek, Write},
};

use super::*;

#[test]
fn a_message_arrives_whole_with_its_descriptors() {
    let (left, right) = PacketSocket::pair().expect("pair");
    let mut file = tempfile::tempfile().expect("file");
    file.write_all(b"inside").expect("write");
    left.send(b"first", &[file.as_fd()]).expect("send");
    left.send(b"second, longer", &[]).expect("send");

    let mut message = vec![9; 3];
    let descriptors = right.recv(&mut message).expect("recv").expect("open");
    assert_eq!((message.as_slice(), descriptors.len()), (b"first".as_slice(), 1));
    let flags = rustix::io::fcntl_getfd(&descriptors[0]).expect("flags");
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let mut text = String::new();
    let mut same = File::from(descriptors.into_iter().next().expect("one"));
    same.rewind().expect("seek");
    same.read_to_string(&mut text).expect("read");
    assert_eq!(text, "inside");

    let descriptors = right.recv(&mut message).expect("recv").expect("open");
    assert_eq!(
        (message.as_slice(), descriptors.len()),
        (b"second, longer".as_slice(), 0)
    );
    drop(left);
    assert!(right.recv(&mut message).expect("recv").is_none());
    assert_eq!(
        right.send(b"x", &[]).expect_err("peer is gone").kind(),
        io::ErrorKind::BrokenPipe
    );
}

#[test]
fn limits_are_kept_at_both_ends() {
    let (left, right) = PacketSocket::pair().expect("pair");
    let null = File::open("/dev/null").expect("null");
    assert_eq!(
        left.send(b"", &[]).expect_err("empty").kind(),
        io::ErrorKind::InvalidInput
    );
    let many = vec![null.as_fd(); MAX_DESCRIPTORS];
    left.send(&[7; MAX_MESSAGE], &many).expect("at the limit");
    let mut message = Vec::new();
    assert_eq!(
        right.recv(&mut message).expect("recv").expect("open").len(),
        MAX_DESCRIPTORS
    );
    assert_eq!(message.len(), MAX_MESSAGE);

    let over = vec![null.as_fd(); MAX_DESCRIPTORS + 1];
    assert!(left.send(b"x", &over).is_err() && left.send(&[7; MAX_MESSAGE + 1], &[]).is_err());
    // A peer that keeps no limit: the message is refused, the connection goes on.
    rustix::net::send(&left, &[7; MAX_MESSAGE + 1], SendFlags::empty()).expect("send");
    assert_eq!(
        right.recv(&mut message).expect_err("too long").kind(),
        io::ErrorKind::InvalidData
    );
    left.send(b"next", &[]).expect("send");
    right.recv(&mut message).expect("recv").expect("open");
    assert_eq!(message, b"next");
}

#[test]
fn a_listener_replaces_the_socket_of_a_dead_one_but_no_file() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("zds.sock");
    drop(PacketListener::bind(&path, 0o600).expect("bind"));
    assert_eq!(
        PacketSocket::connect(&path).expect_err("nobody").kind(),
        io::ErrorKind::ConnectionRefused
    );
    let listener = PacketListener::bind(&path, 0o660).expect("bind over it");
    assert_eq!(
        std::fs::metadata(&path).expect("there").permissions().mode() & 0o777,
        0o660
    );
    let client = PacketSocket::connect(&path).expect("connect");
    let (server, peer) = listener.accept().expect("accept");
    assert_eq!(peer.pid, std::process::id());
    assert_eq!(client.peer().expect("credentials").pid, std::process::id());
    server.send(b"hello", &[]).expect("send");
    client.recv(&mut Vec::new()).expect("recv").expect("open");

    let file = folder.path().join("file");
    std::fs::write(&file, "kept").expect("write");
    assert_eq!(
        PacketListener::bind(&file, 0o600).expect_err("a file").kind(),
        io::ErrorKind::AlreadyExists
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("list").count(),
        2,
        "nothing is left behind"
    );
}

#[test]
fn other_sockets_are_no_packet_sockets() {
    let stream = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    assert!(PacketSocket::from_fd(stream.into()).is_err());
    assert!(PacketSocket::from_fd(PacketSocket::pair().expect("pair").0.into()).is_ok());
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn the_asynchronous_flavour_waits_for_the_peer() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("zds.sock");
    let listener = AsyncPacketListener::new(PacketListener::bind(&path, 0o600).expect("bind")).expect("register");
    let client = async {
        let client = AsyncPacketSocket::connect(&path).expect("connect");
        client.send(b"ping", &[client_file().as_fd()]).await.expect("send");
        let mut message = Vec::new();
        assert!(client.recv(&mut message).await.expect("recv").expect("open").is_empty());
        message
    };
    let server = async {
        let (server, _) = listener.accept().await.expect("accept");
        let mut message = Vec::new();
        assert_eq!(server.recv(&mut message).await.expect("recv").expect("open").len(), 1);
        server.send(b"pong", &[]).await.expect("send");
        message
    };
    let (pong, ping) = tokio::join!(client, server);
    assert_eq!(
        (ping.as_slice(), pong.as_slice()),
        (b"ping".as_slice(), b"pong".as_slice())
    );
}

#[cfg(feature = "tokio")]
fn client_file() -> File {
    File::open("/dev/null").expect("null")
}
