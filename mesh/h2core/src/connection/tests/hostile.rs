//! Peers that break rules, on purpose or not: each ends in its own error, and GOAWAY says why.
use super::{CONNECT, Connection};
use super::{Event, GOOD, feed, frame, request, server};
use crate::frame::PREFACE;
use crate::{BadHeaders, Config, ErrorCode, Limit, Plain, ProtocolError, Role, StreamId};

/// Small limits, so that tests are short.
fn strict() -> Config {
    Config {
        max_early_resets: 10,
        max_pending_answers: 10,
        max_idle_frames: 10,
        max_window_updates: 10,
        max_header_list: 1000,
        ..Config::default()
    }
}

/// What a server makes of the bytes.
fn verdict(bytes: Vec<u8>) -> Result<Vec<Event>, ProtocolError> {
    feed(&mut server(&strict()), bytes)
}

fn repeat(times: u32, frames: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..times).flat_map(frames).collect()
}

#[test]
fn rules_of_the_connection() {
    let unexpected = ErrorCode::ProtocolError;
    let cases: [(&str, Vec<u8>, ErrorCode); 25] = [
        ("DATA on stream 0", frame(0, 0, 0, b"a"), unexpected),
        ("DATA on an idle stream", frame(0, 0, 1, b"a"), unexpected),
        ("DATA on an even stream", frame(0, 0, 2, b"a"), unexpected),
        ("HEADERS on stream 0", request(0, 4, &GOOD), unexpected),
        ("HEADERS on an even stream", request(2, 4, &GOOD), unexpected),
        ("RST_STREAM on an idle stream", frame(3, 0, 1, &[0; 4]), unexpected),
        (
            "RST_STREAM of 3 bytes",
            [request(1, 4, &GOOD), frame(3, 0, 1, &[0; 3])].concat(),
            ErrorCode::FrameSizeError,
        ),
        ("SETTINGS on a stream", frame(4, 0, 1, &[]), unexpected),
        (
            "SETTINGS of 5 bytes",
            frame(4, 0, 0, &[0; 5]),
            ErrorCode::FrameSizeError,
        ),
        (
            "SETTINGS acknowledgement with payload",
            frame(4, 1, 0, &[0; 6]),
            ErrorCode::FrameSizeError,
        ),
        (
            "initial window of 2^31",
            frame(4, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
            ErrorCode::FlowControlError,
        ),
        (
            "frame size of 16383",
            frame(4, 0, 0, &[0, 5, 0, 0, 0x3f, 0xff]),
            unexpected,
        ),
        ("push of 2", frame(4, 0, 0, &[0, 2, 0, 0, 0, 2]), unexpected),
        ("PUSH_PROMISE", frame(5, 4, 1, &[0; 4]), unexpected),
        ("PING of 7 bytes", frame(6, 0, 0, &[0; 7]), ErrorCode::FrameSizeError),
        ("PING on a stream", frame(6, 0, 1, &[0; 8]), unexpected),
        ("GOAWAY of 7 bytes", frame(7, 0, 0, &[0; 7]), ErrorCode::FrameSizeError),
        ("WINDOW_UPDATE of nothing", frame(8, 0, 0, &[0; 4]), unexpected),
        (
            "WINDOW_UPDATE beyond 2^31-1",
            frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            ErrorCode::FlowControlError,
        ),
        ("CONTINUATION of nothing", frame(9, 4, 1, &[]), unexpected),
        (
            "PING inside a header block",
            [request(1, 0, &GOOD), frame(6, 0, 0, &[0; 8])].concat(),
            unexpected,
        ),
        (
            "padding beyond the end",
            [request(1, 4, &GOOD), frame(0, 8, 1, &[3, 0, 0])].concat(),
            unexpected,
        ),
        (
            "frame of 2 MiB",
            frame(0, 0, 1, &vec![0; 2 << 20]),
            ErrorCode::FrameSizeError,
        ),
        (
            "PRIORITY of 4 bytes without its stream",
            frame(2, 0, 1, &[0; 4]),
            ErrorCode::FrameSizeError,
        ),
        (
            "header block that does not decode",
            frame(1, 4, 1, &[0x80]),
            ErrorCode::CompressionError,
        ),
    ];
    for (what, bytes, code) in cases {
        let mut server = server(&strict());
        let error = feed(&mut server, bytes).expect_err(what);
        assert_eq!(error.code(), code, "{what}");
        // The last frame is a GOAWAY with the code, and it stays at that.
        let output = server.output().to_vec();
        assert_eq!(output[output.len() - 4..], code.get().to_be_bytes(), "{what}");
        assert_eq!(output[output.len() - 14], 7, "{what}");
        assert_eq!(feed(&mut server, frame(6, 0, 0, &[0; 8])), Err(error), "{what}");
    }
}

#[test]
fn what_is_not_http2() {
    let mut server = Connection::new(Role::Server, Plain, &strict());
    assert_eq!(
        feed(&mut server, b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        Err(ProtocolError::Preface)
    );
    let mut server = Connection::new(Role::Server, Plain, &strict());
    let error = feed(&mut server, [PREFACE, &request(1, 4, &GOOD)].concat()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ProtocolError);
}

#[test]
fn rapid_reset() {
    let pair = |n: u32| [request(2 * n + 1, 4, &GOOD), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat();
    assert!(verdict(repeat(10, pair)).is_ok());
    assert_eq!(verdict(repeat(11, pair)), Err(Limit::EarlyResets.into()));
    // Streams that are answered first pay for it.
    let mut server = server(&strict());
    for n in 0..100 {
        let events = feed(&mut server, request(2 * n + 1, 4, &GOOD)).unwrap();
        let Event::Request(id, _) = events[0] else { panic!() };
        server.respond(id, 200, &[], false);
        feed(&mut server, frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])).unwrap();
    }
}

/// CVE-2025-8671: having streams reset by us.
#[test]
fn made_to_reset() {
    let pair = |n: u32| [request(2 * n + 1, 4, &GOOD), frame(8, 0, 2 * n + 1, &[0; 4])].concat();
    assert_eq!(verdict(repeat(11, pair)), Err(Limit::EarlyResets.into()));
}

#[test]
fn floods() {
    let answers = Err(Limit::PendingAnswers.into());
    assert_eq!(verdict(repeat(11, |_| frame(6, 0, 0, &[0; 8]))), answers);
    assert_eq!(verdict(repeat(11, |_| frame(4, 0, 0, &[]))), answers);
    let idle = Err(Limit::IdleFrames.into());
    let open = |frames: Vec<u8>| [request(1, 4, &GOOD), frames].concat();
    assert_eq!(verdict(open(repeat(11, |_| frame(0, 0, 1, &[])))), idle);
    assert_eq!(verdict(repeat(11, |_| frame(0xee, 0, 0, b"what?"))), idle);
    assert_eq!(verdict(repeat(11, |_| frame(2, 0, 1, &[0; 5]))), idle);
    assert_eq!(verdict(repeat(11, |_| frame(7, 0, 0, &[0; 8]))), idle);
    // Frames that carry something lie between.
    assert!(verdict(open(repeat(100, |n| frame(0, 0, 1, &[0; 8][..n as usize % 8])))).is_ok());
    // Answers are taken in between.
    let mut server = server(&strict());
    for _ in 0..100 {
        feed(&mut server, repeat(9, |_| frame(6, 0, 0, &[0; 8]))).unwrap();
        let n = server.output().len();
        server.written(n);
    }
}

#[test]
fn window_update_floods() {
    let updates = Err(Limit::WindowUpdates.into());
    let update = |stream: u32| frame(8, 0, stream, &[0, 0, 0, 1]);
    assert_eq!(verdict(repeat(11, |_| update(0))), updates);
    let open = |frames: Vec<u8>| [request(1, 4, &GOOD), frames].concat();
    assert_eq!(verdict(open(repeat(13, |_| update(1)))), updates);
    // Of a stream that is gone.
    let gone = [request(1, 4, &GOOD), frame(3, 0, 1, &[0, 0, 0, 8])].concat();
    assert_eq!(verdict([gone, repeat(13, |_| update(1))].concat()), updates);
}

/// A window that is opened by a byte at a time has a frame sent for each byte.
#[test]
fn data_is_not_sent_byte_by_byte_for_ever() {
    let no_window = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let mut server = server(&strict());
    feed(&mut server, [no_window, request(1, 4, &GOOD)].concat()).unwrap();
    let id = StreamId(1);
    server.respond(id, 200, &[], false);
    let mut sent = 0;
    let error = (0..100).find_map(|_| {
        let result = feed(&mut server, frame(8, 0, 1, &[0, 0, 0, 1]));
        sent += server.send(id, &[7; 100]);
        result.err()
    });
    assert_eq!(error, Some(Limit::WindowUpdates.into()));
    assert!(sent <= 12, "{sent} bytes");
}

/// Peers that give window back for whatever comes, however little that is, are as good as others.
#[test]
fn window_that_is_given_back_for_data_is_no_flood() {
    let mut server = server(&strict());
    feed(&mut server, request(1, 4, &GOOD)).unwrap();
    let id = StreamId(1);
    server.respond(id, 200, &[], false);
    for size in [1usize, 100, 5_000].into_iter().cycle().take(300) {
        assert_eq!(server.send(id, &vec![7; size]), size);
        let n = server.output().len();
        server.written(n);
        let update = |stream: u32| frame(8, 0, stream, &(size as u32).to_be_bytes());
        feed(&mut server, [update(1), update(0)].concat()).unwrap();
    }
    // All that the window allows is under way before the first credit comes, in small pieces.
    let window = server.send(id, &vec![7; 1 << 20]);
    assert!(window > 60_000, "{window}");
    let update = |stream: u32| frame(8, 0, stream, &[0, 0, 0x10, 0]);
    for _ in 0..window >> 12 {
        feed(&mut server, [update(1), update(0)].concat()).unwrap();
    }
}

#[test]
fn header_bombs() {
    let block = Err(Limit::HeaderBlock.into());
    assert_eq!(verdict(frame(1, 4, 1, &[0; 1001])), block);
    let pieces = |n: u32, size: usize| [frame(1, 0, 1, &[]), repeat(n, |_| frame(9, 0, 1, &vec![0; size]))].concat();
    assert_eq!(verdict(pieces(16, 0)), block);
    assert_eq!(verdict(pieces(2, 501)), block);
    assert_eq!(
        verdict(frame(9, 0, 1, &[])).unwrap_err().code(),
        ErrorCode::ProtocolError
    );
    // One byte on the wire, half a kilobyte each in memory: an entry of the table, again and again.
    let value = vec![b'a'; 500];
    let mut bomb = vec![0x40, 1, b'x', 0x7f];
    bomb.extend_from_slice(&[(500 - 127) as u8 | 0x80, ((500 - 127) >> 7) as u8]);
    bomb.extend_from_slice(&value);
    bomb.extend(vec![0xbe; 400]);
    let events = verdict(frame(1, 4, 1, &bomb)).unwrap();
    assert!(matches!(&events[..], [Event::Request(_, Err(BadHeaders::TooLarge))]));
}

#[test]
fn windows_are_bounds() {
    let config = Config {
        stream_window: 70_000,
        connection_window: 100_000,
        ..strict()
    };
    let mut server = server(&config);
    feed(&mut server, [request(1, 4, &GOOD), request(3, 4, &GOOD)].concat()).unwrap();
    let chunk = |stream| frame(0, 0, stream, &[0; 50_000]);
    feed(&mut server, chunk(1)).unwrap();
    // The stream's window is exceeded: the stream is lost, the connection goes on.
    let events = feed(&mut server, chunk(1)).unwrap();
    assert!(matches!(events[..], [Event::Reset(id, ErrorCode::FlowControlError)] if id.get() == 1));
    assert!(matches!(
        &feed(&mut server, frame(0, 0, 3, b"a")).unwrap()[..],
        [Event::Data(..)]
    ));
    // More than the connection's window in one frame.
    assert_eq!(
        feed(&mut server, frame(0, 0, 3, &[0; 200_000])),
        Err(ProtocolError::WindowExceeded)
    );
}

#[test]
fn rules_of_a_stream() {
    let open = request(1, 4, &GOOD);
    let cases: [(&str, Vec<u8>, ErrorCode); 6] = [
        (
            "WINDOW_UPDATE of nothing",
            frame(8, 0, 1, &[0; 4]),
            ErrorCode::ProtocolError,
        ),
        (
            "WINDOW_UPDATE beyond 2^31-1",
            frame(8, 0, 1, &[0x7f, 0xff, 0xff, 0xff]),
            ErrorCode::FlowControlError,
        ),
        ("HEADERS in the middle", request(1, 4, &[]), ErrorCode::ProtocolError),
        (
            "pseudo-header in trailers",
            request(1, 5, &GOOD),
            ErrorCode::ProtocolError,
        ),
        // RFC 9113 section 8.5
        (
            "trailers",
            request(1, 5, &[("grpc-status", "0")]),
            ErrorCode::ProtocolError,
        ),
        // Section 6.3
        (
            "PRIORITY of 4 bytes",
            frame(2, 0, 1, &[0; 4]),
            ErrorCode::FrameSizeError,
        ),
    ];
    for (what, bytes, code) in cases {
        let mut server = server(&strict());
        feed(&mut server, open.clone()).unwrap();
        let events = feed(&mut server, bytes).unwrap();
        assert!(
            matches!(events[..], [Event::Reset(_, said)] if said == code),
            "{what}: {events:?}"
        );
        assert_eq!(server.output(), frame(3, 0, 1, &code.get().to_be_bytes()), "{what}");
        // What was under way is passed over.
        assert_eq!(feed(&mut server, frame(0, 1, 1, b"late")), Ok(vec![]), "{what}");
    }
    let ended = [request(1, 5, &GOOD), frame(0, 0, 1, b"more")].concat();
    let events = verdict(ended).unwrap();
    assert!(matches!(
        events[..],
        [
            Event::Request(..),
            Event::End(_),
            Event::Reset(_, ErrorCode::StreamClosed)
        ]
    ));
}

#[test]
fn padding_and_priority_are_removed() {
    let mut padded = vec![2, 0, 0, 0, 0, 200];
    padded.extend_from_slice(&request(1, 0, &GOOD)[9..]);
    padded.extend_from_slice(&[0, 0]);
    let bytes = [
        frame(1, 4 | 8 | 0x20, 1, &padded),
        frame(0, 8, 1, &[&[3][..], b"data", &[0; 3]].concat()),
        frame(0, 8 | 1, 1, &[&[0][..], b"more"].concat()),
    ];
    let events = verdict(bytes.concat()).unwrap();
    assert!(
        matches!(&events[..], [Event::Request(_, Ok(_)), Event::Data(_, data), Event::End(_)] if data == b"datamore")
    );
}

#[test]
fn later_rules_of_the_connection() {
    let goaway = |last: u8| frame(7, 0, 0, &[0, 0, 0, last, 0, 0, 0, 0]);
    let connect_protocol = |value: u8| frame(4, 0, 0, &[0, 8, 0, 0, 0, value]);
    let cases = [
        ("PRIORITY on stream 0", frame(2, 0, 0, &[0; 5])),
        (
            "a stream that was passed over",
            [request(1, 5, &GOOD), request(7, 5, &GOOD), request(5, 5, &GOOD)].concat(),
        ),
        ("GOAWAY that takes streams back in", [goaway(3), goaway(5)].concat()),
        (
            "extended CONNECT taken back",
            [connect_protocol(1), connect_protocol(0)].concat(),
        ),
    ];
    for (what, bytes) in cases {
        assert_eq!(verdict(bytes).unwrap_err().code(), ErrorCode::ProtocolError, "{what}");
    }
    assert!(
        verdict(
            [
                goaway(5),
                goaway(3),
                goaway(3),
                connect_protocol(0),
                connect_protocol(1)
            ]
            .concat()
        )
        .is_ok()
    );
}

#[test]
fn a_peer_that_does_not_acknowledge_settings_is_seen_and_told() {
    let mut server = Connection::new(Role::Server, Plain, &strict());
    assert!(!server.is_greeted());
    feed(&mut server, [PREFACE, &frame(4, 0, 0, &[])].concat()).unwrap();
    assert!(!server.is_greeted());
    let n = server.output().len();
    server.written(n);
    server.abort(ErrorCode::SettingsTimeout);
    assert_eq!(server.output(), frame(7, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 4]));
    let mut server = Connection::new(Role::Server, Plain, &strict());
    feed(
        &mut server,
        [PREFACE, &frame(4, 0, 0, &[]), &frame(4, 1, 0, &[])].concat(),
    )
    .unwrap();
    assert!(server.is_greeted());
}

/// A client that a server plays tricks on.
#[test]
fn a_client_checks_too() {
    let settings = frame(4, 0, 0, &[]);
    let answer = |status: &str| request(1, 4, &[(":status", status)]);
    type Check = fn(Result<Vec<Event>, ProtocolError>) -> bool;
    let reset: Check = |result| matches!(&result.unwrap()[..], [Event::Reset(_, ErrorCode::ProtocolError)]);
    let error: Check = |result| result.unwrap_err().code() == ErrorCode::ProtocolError;
    let cases: [(&str, Vec<u8>, Check); 7] = [
        ("DATA before the answer", frame(0, 0, 1, b"a"), reset),
        ("status of 2 digits", answer("20"), reset),
        ("status that is none", answer("abc"), reset),
        (
            "informational answer that ends",
            request(1, 5, &[(":status", "100")]),
            reset,
        ),
        ("answer to nothing", request(3, 4, &[(":status", "200")]), error),
        ("stream of the server's own", request(2, 4, &GOOD), error),
        (
            "informational, then real",
            [answer("103"), answer("200")].concat(),
            |result| matches!(&result.unwrap()[..], [Event::Response(_, response)] if response.status == 200),
        ),
    ];
    for (what, bytes, check) in cases {
        let mut client = Connection::new(Role::Client, Plain, &strict());
        feed(&mut client, settings.clone()).unwrap();
        client.open(&CONNECT, &[]).unwrap();
        assert!(check(feed(&mut client, bytes)), "{what}");
    }
}

/// A peer that has everything answered and reads nothing.
#[test]
fn output_is_bounded() {
    let mut server = server(&strict());
    let value = "x".repeat(900);
    for n in 0.. {
        match feed(&mut server, request(2 * n + 1, 5, &GOOD)) {
            Ok(events) => {
                let Event::Request(id, _) = events[0] else { panic!() };
                server.respond(id, 401, &[("traceparent", &value)], true);
            }
            Err(error) => {
                assert_eq!(error, Limit::Output.into());
                break;
            }
        }
        assert!(server.output_len() < 2 << 20);
    }
}
