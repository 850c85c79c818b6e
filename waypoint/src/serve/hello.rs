//! Whether a client speaks TLS, and the name that it asks for.

use std::{io, time::Duration};

use rustls::server::Acceptor;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

use super::rewound::Rewound;

/// The first byte of a record of TLS that begins a handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// What a client begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// TLS, and the name that is asked for (RFC 6066 section 3), if there is one that can be read.
    Tls(Option<String>),
    /// Anything else.
    Other,
}

/// Reads until it is known what a client begins with. Nothing is answered: it is for whoever gets the connection.
///
/// # Errors
/// When the connection breaks, or nothing is known after `patience`, if there is a limit.
pub(crate) async fn hello<S: AsyncRead + Unpin>(
    mut stream: S,
    patience: Option<Duration>,
) -> io::Result<(Hello, Rewound<S>)> {
    let mut head = Vec::with_capacity(1024);
    let look = async {
        let mut acceptor = Acceptor::default();
        let mut seen = 0;
        loop {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok::<_, io::Error>(Hello::Other);
            }
            if head.first() != Some(&HANDSHAKE) {
                return Ok(Hello::Other);
            }
            while seen < head.len() {
                match acceptor.read_tls(&mut &head[seen..])? {
                    0 => return Ok(Hello::Tls(None)),
                    read => seen += read,
                }
                match acceptor.accept() {
                    Ok(Some(accepted)) => {
                        return Ok(Hello::Tls(accepted.client_hello().server_name().map(str::to_owned)));
                    }
                    Ok(None) => {}
                    // It begins like TLS: whoever takes all of TLS may know what to do with it.
                    Err(_) => return Ok(Hello::Tls(None)),
                }
            }
        }
    };
    let hello = match patience {
        None => look.await?,
        Some(patience) => timeout(patience, look).await??,
    };
    Ok((hello, Rewound::new(head, stream)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs::default_provider};
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn client_hello(name: &'static str) -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn the_name_is_read_however_the_bytes_come_and_all_of_them_are_read_again() {
        for step in [1, 7, 10_000] {
            let bytes = client_hello("a.example");
            let (near, mut far) = tokio::io::duplex(4096);
            let sent = bytes.clone();
            tokio::spawn(async move {
                for part in sent.chunks(step) {
                    far.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let (found, mut rewound) = hello(near, Some(Duration::from_secs(20))).await.unwrap();
            assert_eq!(found, Hello::Tls(Some("a.example".to_owned())), "{step}");
            let mut again = Vec::new();
            rewound.read_to_end(&mut again).await.unwrap();
            assert_eq!(again, bytes);
        }
    }

    #[tokio::test]
    async fn what_is_no_tls_is_known_by_its_first_byte_and_what_has_no_name_has_none() {
        let address = client_hello("192.0.2.1");
        let garbage = [HANDSHAKE, 3, 1, 0, 4, 1, 2, 3, 4];
        for (bytes, expected) in [
            (&b"G"[..], Hello::Other),
            (&address, Hello::Tls(None)),
            (&garbage, Hello::Tls(None)),
        ] {
            let (near, mut far) = tokio::io::duplex(4096);
            far.write_all(bytes).await.unwrap();
            let (found, _) = hello(near, Some(Duration::from_secs(20))).await.unwrap();
            assert_eq!(found, expected);
        }
    }
}
