//! Many transfers over local legs that the kernel carries, of random size.

use crate::legs::{byte, bytes, captured, carrying, forwarded, read_on, sent, verify, write_on};
use crate::support::pod::World;
use socket2::Socket;
use std::{
    io::{self, Read, Write},
    net::Shutdown,
    thread,
    time::Duration,
};

fn transfers(world: &World, count: usize) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for number in 0..count {
        let v6 = random.below(2) == 1;
        let (application, proxy) = match random.below(2) {
            0 => captured(world, v6),
            _ => forwarded(world, v6),
        };
        let (out, back) = (random.size(), random.size());
        let (piece, pause) = (1 + random.below(200_000), random.below(8) == 0);
        let ends_first = random.below(3) == 0;
        if random.below(10) == 0 {
            reset(application, &proxy, out, number);
            continue;
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                let application = &application;
                for from in (0..out).step_by(piece) {
                    let data = bytes(from, out.min(from + piece), number);
                    write_on(application, &data);
                }
                application.shutdown(Shutdown::Write).expect("half-close");
            });
            scope.spawn(|| {
                let mut proxy = &proxy;
                if ends_first {
                    proxy.write_all(&bytes(0, back, number)).expect("write");
                    proxy.shutdown(Shutdown::Write).expect("half-close");
                }
                if pause {
                    slowly(proxy, out, number);
                } else {
                    verify(proxy, out, number, true);
                }
                if !ends_first {
                    proxy.write_all(&bytes(0, back, number)).expect("write");
                    proxy.shutdown(Shutdown::Write).expect("half-close");
                }
            });
            verify(&application, back, number, true);
        });
    }
}

/// The application resets when it has sent its bytes: what was read until then is right, and no end is taken for theirs.
fn reset(application: Socket, mut proxy: &Socket, count: usize, seed: usize) {
    thread::scope(|scope| {
        scope.spawn(move || {
            write_on(&application, &bytes(0, count, seed));
            application.set_linger(Some(Duration::ZERO)).expect("linger");
        });
        let mut found = Vec::new();
        let error = loop {
            match proxy.read_to_end(&mut found) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                ended => break ended.expect_err("no end"),
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{seed}");
        assert!(
            found.iter().enumerate().all(|(at, found)| *found == byte(at, seed)),
            "{seed}"
        );
    });
}

/// Reads in small pieces, and lets the writer run ahead.
fn slowly(socket: &Socket, count: usize, seed: usize) {
    let (mut buffer, mut at) = (vec![0; 9000], 0);
    loop {
        let read = read_on(socket, &mut buffer, at, count);
        if read == 0 {
            break;
        }
        assert!(
            buffer[..read]
                .iter()
                .enumerate()
                .all(|(index, found)| *found == byte(at + index, seed)),
            "after {at}"
        );
        at += read;
        thread::yield_now();
    }
    assert_eq!(at, count);
}

/// Of random size, with half-closes on either side first, resets, and slow readers: `CULVERT_LEG_TRANSFERS` says how many.
#[test]
fn transfers_of_random_size_keep_every_byte() {
    let count = std::env::var("CULVERT_LEG_TRANSFERS").map_or(150, |count| count.parse().expect("a number"));
    let Some(world) = carrying() else { return };
    transfers(&world, count);
    let (late, unread) = (world.count("legs", "tcp_late"), world.count("legs", "tcp_unread"));
    assert!(sent(&world) as usize > count, "{late} late, {unread} back to TCP");
    assert!(unread > 0, "some are large, and have slow readers");
}

/// As a random number goes (xorshift), the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % most
    }

    /// As often small as large.
    fn size(&mut self) -> usize {
        let most = 1 << self.below(23);
        self.below(most + 1)
    }
}
