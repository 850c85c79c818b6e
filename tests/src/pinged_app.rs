//! An application that speaks HTTP/2 frame by frame, and counts the pings that it gets.

use crate::raw_peer::{ACK, END_HEADERS, END_STREAM, Frame, PREFACE, frame, kind};
use culvert_lab::Pod;
use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// How often it was pinged.
#[derive(Clone, Default)]
pub struct Pinged(Arc<AtomicUsize>);

impl Pinged {
    /// On all connections together.
    pub fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Answers requests without a body by 200, as long as the test runs.
pub fn serve(pod: &Pod, port: u16) -> Pinged {
    let listener = pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap();
    let pinged = Pinged::default();
    let all = pinged.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let all = all.clone();
            thread::spawn(move || drop(answer_all(stream, &all)));
        }
    });
    pinged
}

fn answer_all(mut stream: TcpStream, pinged: &Pinged) -> io::Result<()> {
    stream.read_exact(&mut vec![0; PREFACE.len()])?;
    stream.write_all(&frame(kind::SETTINGS, 0, 0, &[]))?;
    let (mut received, mut some) = (Vec::new(), [0; 4096]);
    loop {
        while let Some(came) = Frame::take(&mut received) {
            match came.kind {
                kind::SETTINGS if came.flags & ACK == 0 => stream.write_all(&frame(kind::SETTINGS, ACK, 0, &[]))?,
                kind::PING if came.flags & ACK == 0 => {
                    pinged.0.fetch_add(1, Ordering::Relaxed);
                    stream.write_all(&frame(kind::PING, ACK, 0, &came.payload))?;
                }
                // RFC 7541 appendix A: 8 is `:status: 200`.
                kind::HEADERS => {
                    stream.write_all(&frame(kind::HEADERS, END_HEADERS | END_STREAM, came.stream, &[0x88]))?
                }
                _ => {}
            }
        }
        match stream.read(&mut some)? {
            0 => return Ok(()),
            count => received.extend_from_slice(&some[..count]),
        }
    }
}
