//! Names and their addresses, by a clock of the test's own.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{
        RData, Record, RecordType,
        rdata::{A, AAAA},
    },
};
use proptest::prelude::*;

use super::{
    Asking, Look, NameError, NameQuery, Names, Wanted,
    cache::{IN_ALL, PER_POD},
    question::PATIENCE,
};

const SECOND: Duration = Duration::from_secs(1);
const FIRST: &str = "203.0.113.1";
const SECOND_ADDRESS: &str = "203.0.113.2";

fn resolvers() -> Vec<SocketAddr> {
    vec!["198.18.0.53:53".parse().unwrap(), "198.18.1.53:53".parse().unwrap()]
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn known(text: &str) -> Look {
    Look::Known(ip(text))
}

/// The answer to a query: of these addresses those of its family.
fn answer(query: &NameQuery, code: ResponseCode, ttl: u32, addresses: &[&str]) -> Vec<u8> {
    let mut message = Message::from_vec(&query.message).unwrap();
    message.metadata.message_type = MessageType::Response;
    message.metadata.response_code = code;
    let question = message.queries[0].clone();
    for address in addresses {
        let data = match (ip(address), question.query_type) {
            (IpAddr::V4(v4), RecordType::A) => RData::A(A(v4)),
            (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA(AAAA(v6)),
            _ => continue,
        };
        message.add_answer(Record::from_rdata(question.name.clone(), ttl, data));
    }
    message.to_vec().unwrap()
}

struct Scene {
    names: Names<u32>,
    now: Instant,
    pod: Arc<str>,
    host: Arc<str>,
    families: (bool, bool),
    resolvers: Vec<SocketAddr>,
}

impl Scene {
    fn new() -> Self {
        Self {
            names: Names::default(),
            now: Instant::now(),
            pod: "pod".into(),
            host: "db.example.com".into(),
            families: (true, false),
            resolvers: resolvers(),
        }
    }

    fn look(&mut self, waiter: u32) -> Look {
        self.look_past(waiter, &[])
    }

    fn look_past(&mut self, waiter: u32, tried: &[IpAddr]) -> Look {
        let asking = Asking {
            pod: &self.pod,
            host: &self.host,
            families: self.families,
        };
        let resolvers = self.resolvers.clone();
        let wanted = Wanted { v4: true, tried };
        self.names.look(asking, wanted, || resolvers, waiter, self.now)
    }

    fn query(&mut self) -> NameQuery {
        let mut queries = self.names.take_queries();
        assert_eq!(queries.len(), 1, "{queries:?}");
        queries.remove(0)
    }

    fn say(&mut self, query: &NameQuery, code: ResponseCode, ttl: u32, addresses: &[&str]) {
        let message = answer(query, code, ttl, addresses);
        self.names.answered(query.part, &message, self.now);
    }

    /// Learns addresses by a question of its own.
    fn learn(&mut self, ttl: u32, addresses: &[&str]) {
        assert_eq!(self.look(0), Look::Wait);
        let query = self.query();
        self.say(&query, ResponseCode::NoError, ttl, addresses);
        assert_eq!(self.names.take_woken(), [0]);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.names.expire(self.now);
    }

    fn outcome(&mut self) -> Result<usize, NameError> {
        let ended = self.names.take_ended();
        assert_eq!(ended.len(), 1, "{ended:?}");
        ended[0].outcome
    }
}

#[test]
fn connections_share_a_question_and_take_the_addresses_in_turn_as_long_as_they_hold() {
    let mut scene = Scene::new();
    for waiter in 1..=3 {
        assert_eq!(scene.look(waiter), Look::Wait);
    }
    let query = scene.query();
    assert_eq!((&query.pod, query.resolver), (&scene.pod, resolvers()[0]));
    assert!(scene.names.take_woken().is_empty());
    scene.say(&query, ResponseCode::NoError, 20, &[FIRST, SECOND_ADDRESS]);
    assert_eq!(scene.names.take_woken(), [1, 2, 3]);
    assert_eq!(scene.outcome(), Ok(2));
    for expected in [FIRST, SECOND_ADDRESS, FIRST] {
        assert_eq!(scene.look(4), known(expected));
    }
    assert_eq!(
        scene.look_past(4, &[ip(SECOND_ADDRESS)]),
        known(FIRST),
        "the other has failed"
    );
    assert!(
        !scene
            .names
            .has_untried("pod", "db.example.com", &[ip(FIRST), ip(SECOND_ADDRESS)], scene.now)
    );
    assert!(
        scene
            .names
            .has_untried("pod", "db.example.com", &[ip(FIRST)], scene.now)
    );
    scene.pass(20 * SECOND);
    assert_eq!(scene.look(5), Look::Wait, "their time is over");
    let query = scene.query();
    scene.say(&query, ResponseCode::NoError, 20, &["203.0.113.9"]);
    assert_eq!(scene.look(6), known("203.0.113.9"));
}

#[test]
fn answers_hold_for_a_second_at_least_and_five_minutes_at_most() {
    for (ttl, holds) in [(0, SECOND), (7, 7 * SECOND), (86_400, 300 * SECOND)] {
        let mut scene = Scene::new();
        scene.learn(ttl, &[FIRST]);
        scene.pass(holds - Duration::from_millis(1));
        assert_eq!(scene.look(1), known(FIRST), "{ttl}");
        scene.pass(Duration::from_millis(1));
        assert_eq!(scene.look(1), Look::Wait, "{ttl}");
    }
}

#[test]
fn resolvers_are_asked_in_turn_and_a_failure_holds_for_a_second() {
    let mut scene = Scene::new();
    assert_eq!(scene.look(1), Look::Wait);
    // A refusal is not waited for; silence is, for a second.
    let query = scene.query();
    scene.say(&query, ResponseCode::ServFail, 0, &[]);
    let query = scene.query();
    assert_eq!(query.resolver, resolvers()[1]);
    assert_eq!(scene.names.next_deadline(), Some(scene.now + PATIENCE));
    scene.pass(PATIENCE);
    assert_eq!(scene.query().resolver, resolvers()[0]);
    scene.names.refused(query.part, scene.now);
    assert_eq!(scene.query().resolver, resolvers()[1], "a late refusal is one, too");
    assert!(scene.names.take_woken().is_empty());
    scene.pass(PATIENCE);
    assert_eq!(scene.names.take_woken(), [1]);
    assert_eq!(scene.outcome(), Err(NameError::Silent));
    assert_eq!(scene.look(1), Look::Failed(NameError::Silent));
    assert!(!scene.names.has_untried("pod", "db.example.com", &[], scene.now));
    // An answer to a question that is over changes nothing.
    scene.say(&query, ResponseCode::NoError, 60, &[FIRST]);
    assert_eq!(scene.look(1), Look::Failed(NameError::Silent));
    scene.pass(SECOND);
    assert_eq!(scene.look(1), Look::Wait);
}

#[test]
fn a_name_that_is_not_there_is_known_at_once_and_its_old_addresses_are_forgotten() {
    for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
        let mut scene = Scene::new();
        scene.learn(5, &[FIRST]);
        scene.names.take_ended();
        scene.pass(5 * SECOND);
        assert_eq!(scene.look(1), Look::Wait);
        let query = scene.query();
        scene.say(&query, code, 0, &[]);
        assert_eq!(scene.outcome(), Err(NameError::NoAddress));
        assert_eq!(scene.look(1), Look::Failed(NameError::NoAddress));
    }
}

#[test]
fn old_addresses_are_used_for_half_a_minute_while_nobody_answers() {
    let mut scene = Scene::new();
    scene.learn(5, &[FIRST]);
    scene.pass(5 * SECOND);
    assert_eq!(scene.look(1), Look::Wait);
    assert_eq!(scene.look(2), Look::Wait);
    scene.pass(PATIENCE);
    assert_eq!(scene.names.take_woken(), [1, 2], "the first resolver was slow");
    assert_eq!(scene.look(1), known(FIRST));
    for _ in 0..3 {
        scene.pass(PATIENCE);
    }
    let ended = scene.names.take_ended().pop().unwrap();
    assert_eq!((ended.outcome, ended.is_stale), (Err(NameError::Silent), true));
    assert_eq!(scene.look(3), known(FIRST));
    scene.pass(30 * SECOND);
    assert_eq!(scene.look(3), Look::Wait);
    for _ in 0..4 {
        scene.pass(PATIENCE);
    }
    assert_eq!(scene.look(3), Look::Failed(NameError::Silent));
}

#[test]
fn both_families_are_asked_for_and_one_that_has_addresses_is_enough() {
    let v6 = "2001:db8::1";
    let mut scene = Scene::new();
    scene.families = (true, true);
    assert_eq!(scene.look(1), Look::Wait);
    let queries = scene.names.take_queries();
    assert_eq!(queries.len(), 2);
    scene.say(&queries[0], ResponseCode::NoError, 60, &[FIRST, v6]);
    assert!(scene.names.take_woken().is_empty(), "the other family is to come");
    scene.say(&queries[1], ResponseCode::NoError, 60, &[FIRST, v6]);
    assert_eq!(scene.names.take_woken(), [1]);
    for _ in 0..3 {
        assert_eq!(scene.look(1), known(FIRST), "the family that was dialled");
    }
    assert_eq!(scene.look_past(1, &[ip(FIRST)]), known(v6));

    // Of a family that is refused, or silent.
    for is_silent in [true, false] {
        let mut scene = Scene::new();
        scene.families = (true, true);
        assert_eq!(scene.look(1), Look::Wait);
        let queries = scene.names.take_queries();
        scene.say(&queries[1], ResponseCode::NoError, 60, &[v6]);
        match is_silent {
            true => scene.pass(PATIENCE),
            false => scene.say(&queries[0], ResponseCode::ServFail, 0, &[]),
        }
        assert_eq!(scene.look(1), known(v6));
    }
}

#[test]
fn who_cannot_ask_hears_why() {
    let mut scene = Scene::new();
    scene.resolvers = Vec::new();
    assert_eq!(scene.look(1), Look::Failed(NameError::NoResolver));
    assert_eq!(scene.outcome(), Err(NameError::NoResolver));
    let mut scene = Scene::new();
    scene.host = "a..example.com".into();
    assert_eq!(scene.look(1), Look::Failed(NameError::Malformed));
    let mut scene = Scene::new();
    scene.families = (false, false);
    assert_eq!(scene.look(1), Look::Failed(NameError::NoAddress));
    assert!(scene.names.take_woken().is_empty() && scene.names.take_queries().is_empty());
}

#[test]
fn each_pod_has_its_own_answers_and_its_share_of_names() {
    let mut scene = Scene::new();
    scene.learn(300, &[FIRST]);
    scene.pod = "other".into();
    assert_eq!(
        scene.look(1),
        Look::Wait,
        "what one pod's resolver says holds for that pod"
    );
    for number in 0..PER_POD {
        scene.host = format!("{number}.example.com").into();
        scene.look(number as u32);
    }
    // All of them are being asked for; then the one that was not used for longest goes.
    assert_eq!(scene.look(0), Look::Failed(NameError::Overflow));
    let queries = scene.names.take_queries();
    scene.say(&queries[0], ResponseCode::NoError, 300, &[FIRST]);
    assert_eq!(scene.look(0), Look::Wait);
    for pod in 0..2 * IN_ALL / PER_POD {
        scene.pod = format!("{pod}").into();
        for number in 0..PER_POD {
            scene.host = format!("{number}.example.com").into();
            scene.look(0);
        }
    }
    assert_eq!(scene.names.views(scene.now).len(), IN_ALL);
    scene.names.forget("other");
    assert_eq!(scene.names.views(scene.now).len(), IN_ALL - PER_POD);
    scene.pass(10 * SECOND);
    scene.pass(10 * SECOND);
    for _ in 0..10 {
        scene.pass(10 * SECOND);
    }
    scene.names.sweep(scene.now);
    assert_eq!(scene.names.views(scene.now).len(), 1, "the first alone holds still");
}

proptest! {
    #[test]
    fn whatever_comes_every_question_ends_and_wakes_who_waits(
        events in proptest::collection::vec((0..6_u8, 0..400_u32), 0..80)
    ) {
        let mut scene = Scene::new();
        scene.families = (true, true);
        let (mut waiting, mut sent) = (Vec::new(), Vec::new());
        for (number, (event, value)) in events.into_iter().enumerate() {
            let query: Option<NameQuery> = (!sent.is_empty()).then(|| &sent[value as usize % sent.len()]).cloned();
            match (event, query) {
                (0 | 1, _) => {
                    let number = number as u32;
                    waiting.extend((scene.look(number) == Look::Wait).then_some(number));
                }
                (2, _) => scene.pass(Duration::from_millis(u64::from(value) * 10)),
                (3, Some(query)) => scene.say(&query, ResponseCode::NoError, value, &[FIRST]),
                (4, Some(query)) => scene.say(&query, ResponseCode::Refused, value, &[]),
                (5, Some(query)) => scene.names.answered(query.part, &value.to_be_bytes(), scene.now),
                _ => {}
            }
            sent.extend(scene.names.take_queries());
            let woken = scene.names.take_woken();
            waiting.retain(|waiter| !woken.contains(waiter));
        }
        for _ in 0..5 {
            scene.pass(PATIENCE);
        }
        let woken = scene.names.take_woken();
        waiting.retain(|waiter| !woken.contains(waiter));
        prop_assert!(waiting.is_empty(), "{:?}", waiting);
        prop_assert_eq!(scene.names.next_deadline(), None);
    }
}
