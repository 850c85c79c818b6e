//! What a client speaks, by its first bytes.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

use super::rewound::Rewound;

/// How HTTP/2 begins (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longest request line that is waited for: a longer one is HTTP/1, to be refused there.
const LINE: usize = 8 << 10;

/// Longest method.
const METHOD: usize = 32;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
    /// Anything else, or nothing in time.
    Other,
}

/// Reads until it is known what is spoken. A connection that ends before it is known is whatever it looks like by then.
///
/// # Errors
/// When the connection breaks, or nothing is known after `patience`, if there is a limit.
pub(crate) async fn sniff<S: AsyncRead + Unpin>(
    mut stream: S,
    patience: Option<Duration>,
) -> io::Result<(Spoken, Rewound<S>)> {
    let mut head = Vec::with_capacity(256);
    let look = async {
        loop {
            if let Some(spoken) = recognise(&head) {
                return Ok::<_, io::Error>(spoken);
            }
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(Spoken::Other);
            }
        }
    };
    let spoken = match patience {
        None => look.await?,
        Some(patience) => timeout(patience, look).await??,
    };
    Ok((spoken, Rewound::new(head, stream)))
}

/// None: more has to be seen.
fn recognise(head: &[u8]) -> Option<Spoken> {
    if head.is_empty() {
        return None;
    }
    let common = PREFACE.iter().zip(head).take_while(|(a, b)| a == b).count();
    if common == PREFACE.len() {
        return Some(Spoken::Http2);
    }
    if common == head.len() {
        return None;
    }
    // RFC 9112 section 2.2: empty lines before a request line are passed over.
    let start = head.iter().position(|byte| !b"\r\n".contains(byte))?;
    let line = &head[start..];
    let method = line
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase() || b"-_".contains(byte))
        .count();
    match line.get(method) {
        _ if method > METHOD => return Some(Spoken::Other),
        None => return None,
        Some(b' ') if method > 0 => {}
        Some(_) => return Some(Spoken::Other),
    }
    match line.iter().position(|&byte| byte == b'\n') {
        Some(end) => {
            let line = line[..end].trim_ascii_end();
            let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
            Some(match version.starts_with(b"HTTP/1.") {
                true => Spoken::Http1,
                false => Spoken::Other,
            })
        }
        None if line.len() >= LINE => Some(Spoken::Http1),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[test]
    fn http_is_told_from_what_is_not() {
        for (head, spoken) in [
            (&b""[..], None),
            (b"GE", None),
            (b"GET / HT", None),
            (b"GET / HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"\r\nPOST /a b HTTP/1.0\n", Some(Spoken::Http1)),
            (b"GET /\r\n", Some(Spoken::Other)),
            (b"PRI * HTTP/2.0\r\n", None),
            (PREFACE, Some(Spoken::Http2)),
            (b"PRI * HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"\x16\x03\x01", Some(Spoken::Other)),
            (b"*1\r\n$4\r\nPING\r\n", Some(Spoken::Other)),
            (b"EHLO a.example\r\n", Some(Spoken::Other)),
        ] {
            assert_eq!(recognise(head), spoken, "{:?}", String::from_utf8_lossy(head));
        }
    }

    #[tokio::test]
    async fn what_was_looked_at_is_read_again() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let (spoken, mut rewound) = sniff(near, Some(Duration::from_secs(20))).await.unwrap();
        assert_eq!(spoken, Spoken::Http1);
        drop(far);
        let mut read = Vec::new();
        rewound.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"GET / HTTP/1.1\r\n\r\n");
    }

    #[tokio::test]
    async fn a_client_that_waits_is_never_taken_for_one_that_speaks_no_http() {
        let (near, mut far) = tokio::io::duplex(1024);
        let sniffing = tokio::spawn(sniff(near, None));
        tokio::task::yield_now().await;
        assert!(!sniffing.is_finished());
        far.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let (spoken, _) = sniffing.await.unwrap().unwrap();
        assert_eq!(spoken, Spoken::Http1);
        // Where there is a limit, it is given up.
        let (near, _far) = tokio::io::duplex(1024);
        assert!(sniff(near, Some(Duration::from_millis(1))).await.is_err());
    }
}
