//! An application that speaks TLS itself, and its clients.

use culvert_lab::Pod;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};
use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    sync::Arc,
    thread,
    time::Duration,
};

/// Serves TLS as long as the test runs, with a certificate of its own for these names, which is returned. Whoever comes gets `name` and
/// then the connection's end.
pub fn serve(pod: &Pod, port: u16, name: &'static str, names: &[&str]) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let listener = pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            thread::spawn(move || {
                let mut tls = StreamOwned::new(connection, stream);
                let mut word = [0; 2];
                if tls.read_exact(&mut word).is_ok() && tls.write_all(name.as_bytes()).is_ok() {
                    tls.conn.send_close_notify();
                    drop(tls.flush());
                    // The client closes.
                    drop(io::copy(&mut tls, &mut io::sink()));
                }
            });
        }
    });
    certificate.der().clone()
}

/// Opens a connection and asks for `name`, which one of `roots` must be for. Returns who answered.
///
/// # Errors
/// When there is no connection, no such certificate, or no answer.
pub fn ask(
    from: &Pod,
    to: SocketAddr,
    name: &str,
    roots: &[CertificateDer<'static>],
    patience: Duration,
) -> io::Result<String> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let mut config = ClientConfig::builder()
        .with_root_certificates(store)
        .with_no_client_auth();
    // As browsers do: because of what is offered inside of TLS nobody may take it for HTTP.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let server = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), server).map_err(io::Error::other)?;
    let stream = from.connect(to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut tls = StreamOwned::new(connection, stream);
    tls.write_all(b"hi")?;
    let mut answer = String::new();
    tls.read_to_string(&mut answer)?;
    Ok(answer)
}
