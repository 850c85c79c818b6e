//! Random cuts, random data, random windows.
use proptest::collection::vec;
use proptest::prelude::*;

use super::{CONNECT, Connection, Event, GOOD, Recorder, frame, request};
use crate::frame::PREFACE;
use crate::{Config, Fill, Plain, ProtocolError, Role};

/// Frames as a peer might send them, sound or not.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![Just(0u32), Just(1), Just(3), Just(5), any::<u32>()];
    prop_oneof![
        4 => (stream.clone(), 0u8..2, vec(any::<u8>(), 0..300)).prop_map(|(stream, flags, data)| frame(0, flags, stream, &data)),
        1 => (stream.clone(), vec(any::<u8>(), 0..30)).prop_map(|(stream, data)| frame(0, 8, stream, &[&[5][..], &data].concat())),
        3 => (0u32..6, 4u8..6).prop_map(|(n, flags)| request(2 * n + 1, flags, &GOOD)),
        1 => (0u32..6).prop_map(|n| {
            let whole = request(2 * n + 1, 0, &GOOD)[9..].to_vec();
            let (a, b) = whole.split_at(whole.len() / 2);
            [frame(1, 0, 2 * n + 1, a), frame(9, 4, 2 * n + 1, b)].concat()
        }),
        1 => (stream.clone(), any::<u32>()).prop_map(|(stream, n)| frame(8, 0, stream, &n.to_be_bytes())),
        1 => (stream.clone(), any::<u32>()).prop_map(|(stream, n)| frame(3, 0, stream, &n.to_be_bytes())),
        1 => any::<[u8; 8]>().prop_map(|payload| frame(6, 0, 0, &payload)),
        1 => (0u16..10, any::<u32>()).prop_map(|(setting, value)| {
            frame(4, 0, 0, &[&setting.to_be_bytes()[..], &value.to_be_bytes()].concat())
        }),
        1 => (any::<u8>(), any::<u8>(), stream, vec(any::<u8>(), 0..40))
            .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload)),
    ]
}

/// What a server is told and says, fed in pieces.
fn follow(bytes: &[u8], cuts: &[usize]) -> (Vec<Event>, Option<ProtocolError>, Vec<u8>) {
    let mut server = Connection::new(Role::Server, Plain, &Config::default());
    let mut recorder = Recorder::default();
    let mut rest = bytes;
    let mut error = None;
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let size = cuts.next().map_or(rest.len(), |&cut| cut.clamp(1, rest.len()));
        let (piece, tail) = rest.split_at(size);
        rest = tail;
        if let Err(failure) = server.receive(piece, &mut recorder) {
            error = Some(failure);
            break;
        }
    }
    (recorder.0.into(), error, server.output().to_vec())
}

proptest! {
    #[test]
    fn cuts_do_not_matter(frames in vec(any_frame(), 0..40), cuts in vec(1usize..200, 1..20)) {
        let bytes = [PREFACE.to_vec(), frame(4, 0, 0, &[]), frames.concat()].concat();
        prop_assert_eq!(follow(&bytes, &[]), follow(&bytes, &cuts));
        prop_assert_eq!(follow(&bytes, &[]), follow(&bytes, &[1]));
    }

    #[test]
    fn garbage_never_panics(garbage in vec(any::<u8>(), 0..2000), cuts in vec(1usize..200, 1..20)) {
        follow(&garbage, &cuts);
        let bytes = [PREFACE.to_vec(), frame(4, 0, 0, &[]), garbage].concat();
        prop_assert_eq!(follow(&bytes, &[]), follow(&bytes, &cuts));
    }

    #[test]
    fn data_arrives_whole_through_any_windows(
        sizes in vec(0usize..300_000, 1..5),
        // Credit comes by quarters; smaller ones than this are taken for an attack in the long run.
        stream_window in 256u32..200_000,
        connection_window in 65_535u32..300_000,
        held_limit in 0u64..100_000,
        chunks in vec(1usize..100_000, 1..10),
    ) {
        let config = Config { stream_window, connection_window, held_limit, ..Config::default() };
        let mut client = Connection::new(Role::Client, Plain, &config);
        let mut server = Connection::new(Role::Server, Plain, &config);
        let sent: Vec<Vec<u8>> =
            sizes.iter().enumerate().map(|(n, &size)| (0..size).map(|at| (at / 3 + n) as u8).collect()).collect();
        let mut ids = Vec::new();
        for _ in &sent {
            ids.push(client.open(&CONNECT, &[]).unwrap());
        }
        // Each stream is echoed, so that both directions are under flow control at once.
        let mut progress = vec![(0usize, false, Vec::new(), false); sent.len()];
        let mut echo = vec![(Vec::<u8>::new(), false, false); sent.len()];
        let mut chunks = chunks.iter().cycle();
        for round in 0.. {
            prop_assert!(round < 2_000_000, "no progress");
            for (n, &id) in ids.iter().enumerate() {
                let (done, ended, ..) = &mut progress[n];
                let end = sent[n].len().min(*done + chunks.next().unwrap());
                *done += client.send(id, &sent[n][*done..end]);
                if *done == sent[n].len() && !*ended {
                    client.finish(id);
                    *ended = true;
                }
                let (waiting, remote, local) = &mut echo[n];
                let taken = server.send(id, &waiting[..waiting.len().min(*chunks.next().unwrap())]);
                waiting.drain(..taken);
                server.release(id, taken);
                if *remote && waiting.is_empty() && !*local {
                    server.finish(id);
                    *local = true;
                }
            }
            for event in super::carry(&mut client, &mut server).unwrap() {
                match event {
                    Event::Request(id, request) => {
                        request.unwrap();
                        server.respond(id, 200, &[], false);
                    }
                    Event::Data(id, data) => echo[ids.iter().position(|&known| known == id).unwrap()].0.extend(data),
                    Event::End(id) => echo[ids.iter().position(|&known| known == id).unwrap()].1 = true,
                    Event::Writable(_) | Event::AllWritable => {}
                    other => panic!("{other:?}"),
                }
            }
            for event in super::carry(&mut server, &mut client).unwrap() {
                match event {
                    Event::Data(id, data) => {
                        client.release(id, data.len());
                        progress[ids.iter().position(|&known| known == id).unwrap()].2.extend(data);
                    }
                    Event::End(id) => progress[ids.iter().position(|&known| known == id).unwrap()].3 = true,
                    Event::Response(..) | Event::Writable(_) | Event::AllWritable => {}
                    other => panic!("{other:?}"),
                }
            }
            if progress.iter().all(|state| state.3) {
                break;
            }
        }
        for (n, state) in progress.iter().enumerate() {
            prop_assert!(state.2 == sent[n]);
        }
        prop_assert_eq!((client.streams(), server.streams()), (0, 0));
    }

    #[test]
    fn readers_of_any_size_are_framed_whole(reads in vec((1usize..2_000_000, 0usize..100_000), 1..30)) {
        let config = Config { stream_window: 1 << 30, connection_window: 1 << 30, held_limit: u64::MAX, ..Config::default() };
        let mut client = Connection::new(Role::Client, Plain, &config);
        let mut server = Connection::new(Role::Server, Plain, &config);
        let id = client.open(&CONNECT, &[]).unwrap();
        super::carry(&mut client, &mut server).unwrap();
        super::carry(&mut server, &mut client).unwrap();
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for (max, give) in reads {
            let filled = client.fill(id, max, |slices| {
                let mut left = give;
                for slice in slices {
                    let n = left.min(slice.len());
                    slice[..n].fill(sent.len() as u8);
                    sent.extend_from_slice(&slice[..n]);
                    left -= n;
                }
                Ok(give - left)
            });
            let room = !matches!(filled.unwrap(), Fill::Blocked);
            if !room || give % 3 == 0 {
                for event in super::carry(&mut client, &mut server).unwrap() {
                    if let Event::Data(_, data) = event { received.extend(data) }
                }
            }
        }
        for event in super::carry(&mut client, &mut server).unwrap() {
            if let Event::Data(_, data) = event { received.extend(data) }
        }
        prop_assert!(sent == received);
    }
}
