//! What no protocol allows, in many variants: random bytes, broken beginnings of real protocols, sudden ends.

use crate::pattern::Pattern;
use anyhow::Result;
use serde_json::json;
use socket2::SockRef;
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

/// Options of `probe garbage`.
#[derive(clap::Args)]
pub(crate) struct Garbage {
    /// Who gets it
    #[arg(long)]
    to: SocketAddr,
    /// How many connections
    #[arg(long, default_value_t = 64)]
    count: u64,
    /// What determines the bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How protocols that a mesh meets begin.
const BEGINNINGS: [&[u8]; 6] = [
    b"",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", // a TLS ClientHello
    b"\x17\x03\x03\x40\x00",                         // a TLS record of application data
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PROXY TCP4 198.18.0.1 198.18.0.2 1 2\r\n",
    b"CONNECT 198.18.0.1:80 HTTP/1.1\r\n\r\n",
];

/// Sends all of it; prints how many connections were accepted, which is no verdict: whoever gets garbage may refuse it.
pub(crate) fn run(garbage: &Garbage) -> Result<()> {
    let mut accepted = 0u64;
    for number in 0..garbage.count {
        let mut pattern = Pattern::new(garbage.seed.wrapping_add(number));
        let Ok(mut stream) = TcpStream::connect_timeout(&garbage.to, Duration::from_secs(10)) else {
            continue;
        };
        accepted += 1;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        stream.set_write_timeout(Some(Duration::from_millis(500)))?;
        let beginning = BEGINNINGS[(number % BEGINNINGS.len() as u64) as usize];
        let mut bytes = vec![0u8; (pattern.number() % 4096) as usize];
        pattern.fill(&mut bytes);
        // The other end may close at any moment: that is its right.
        let _ = stream.write_all(beginning).and_then(|()| stream.write_all(&bytes));
        match number % 3 {
            0 => {
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read(&mut [0u8; 1024]);
            }
            1 => SockRef::from(&stream).set_linger(Some(Duration::ZERO))?,
            _ => {
                let _ = stream.read(&mut [0u8; 1024]);
            }
        }
    }
    println!("{}", json!({ "accepted": accepted }));
    Ok(())
}
