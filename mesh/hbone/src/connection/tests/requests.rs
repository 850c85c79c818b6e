//! What a CONNECT must look like.
use super::{Event, GOOD, feed, request, server};
use crate::{Authority, BadRequest, Config};

#[test]
fn requests_are_checked() {
    let ok = Authority::Address("198.18.0.1:80".parse().unwrap());
    type Verdict = Result<Authority, u16>;
    let cases: [(&[(&str, &str)], Verdict); 14] = [
        (&GOOD, Ok(ok)),
        (
            &[
                (":method", "GET"),
                (":authority", "a:80"),
                (":scheme", "https"),
                (":path", "/"),
            ],
            Err(405),
        ),
        (&[(":authority", "198.18.0.1:80")], Err(400)),
        (&[(":method", "CONNECT")], Err(400)),
        (&[(":method", "CONNECT"), (":authority", "198.18.0.1")], Err(400)),
        (&[GOOD[0], GOOD[1], (":scheme", "https")], Err(400)),
        (&[GOOD[0], GOOD[1], (":path", "/")], Err(400)),
        (&[GOOD[0], GOOD[1], (":protocol", "websocket")], Err(400)),
        (&[GOOD[0], GOOD[1], GOOD[1]], Err(400)),
        (&[GOOD[0], GOOD[1], ("Baggage", "a=b")], Err(400)),
        (&[GOOD[0], ("baggage", "a=b"), GOOD[1]], Err(400)),
        (&[GOOD[0], GOOD[1], ("connection", "close")], Err(400)),
        (&[GOOD[0], GOOD[1], ("baggage", "a\r\nb")], Err(400)),
        (&[GOOD[0], GOOD[1], (":unknown", "a")], Err(400)),
    ];
    for (headers, expected) in cases {
        let events = feed(&mut server(&Config::default()), request(1, 4, headers)).unwrap();
        let [Event::Connect(_, request)] = &events[..] else {
            panic!("{headers:?}: {events:?}")
        };
        let verdict = request
            .as_ref()
            .map(|request| request.authority.clone())
            .map_err(BadRequest::status);
        assert_eq!(verdict, expected, "{headers:?}");
    }
    let many: Vec<_> = (0..200).map(|_| ("a", "b")).collect();
    let config = Config {
        max_header_list: 4000,
        ..Config::default()
    };
    let events = feed(&mut server(&config), request(1, 4, &[&GOOD[..], &many].concat())).unwrap();
    assert!(matches!(&events[..], [Event::Connect(_, Err(BadRequest::TooLarge))]));
}
