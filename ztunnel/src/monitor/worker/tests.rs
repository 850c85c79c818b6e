//! Children that are a shell here: what is watched is how they talk, die and are replaced.

use tokio::time::timeout;

use super::*;
use crate::wire::PodAdded;

const LIMIT: Duration = Duration::from_secs(20);

impl Worker {
    /// A worker whose end of the socket the caller holds; the child only lives.
    pub(in crate::monitor) fn attended() -> (AsyncPacketSocket, Self) {
        let (ours, theirs) = PacketSocket::pair().unwrap();
        let worker = Self {
            socket: AsyncPacketSocket::new(ours).unwrap(),
            ..worker("exec sleep 600")
        };
        (AsyncPacketSocket::new(theirs).unwrap(), worker)
    }
}

/// A worker that runs this script, with the monitor's socket as descriptor 0.
fn worker(script: &str) -> Worker {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script);
    Worker::start_as(command).unwrap()
}

async fn next(worker: &mut Worker) -> Event {
    timeout(LIMIT, worker.next()).await.expect("an event in time")
}

async fn died(worker: &mut Worker) -> String {
    match next(worker).await {
        Event::Died(how) => how,
        Event::Report(report) => panic!("it lives and says {report:?}"),
    }
}

#[tokio::test]
async fn what_a_worker_said_before_it_died_comes_before_its_death() {
    let mut worker = worker(r"printf '\010\001' >&0; printf '\030\001' >&0; exit 7");
    // Both are there when the monitor looks.
    worker.child.wait().await.unwrap();
    assert!(matches!(next(&mut worker).await, Event::Report(Report::Ready(true))));
    assert!(matches!(next(&mut worker).await, Event::Report(Report::Drained(true))));
    assert_eq!(died(&mut worker).await, "exit status: 7");
}

#[tokio::test]
async fn garbage_from_a_worker_is_passed_over() {
    let mut worker =
        worker(r"printf '\377\377\377' >&0; printf '\232\006\000' >&0; printf '\010\001' >&0; exec sleep 600");
    assert!(matches!(next(&mut worker).await, Event::Report(Report::Ready(true))));
}

#[tokio::test]
async fn orders_reach_the_worker() {
    // An added pod that comes back as it is reads as a request for sockets: both have a uid first, and are message 2.
    let mut worker = worker("exec cat <&0 >&0");
    let uid = "a-uid".to_owned();
    let pod = PodAdded {
        uid: uid.clone(),
        ..Default::default()
    };
    worker.send(Order::PodAdded(pod), &[]).await;
    match next(&mut worker).await {
        Event::Report(Report::NeedSockets(need)) => assert_eq!(need.uid, uid),
        _ => panic!("the order must come back"),
    }
}

#[tokio::test]
async fn a_killed_worker_is_told_as_such_and_nobody_minds_talking_to_it() {
    let mut worker = worker("exec sleep 600");
    worker.child.start_kill().unwrap();
    assert!(died(&mut worker).await.contains("signal: 9"));
    worker.send(Order::Drain(true), &[]).await;
    assert!(
        died(&mut worker).await.contains("signal: 9"),
        "however often it is asked"
    );
}

#[tokio::test]
async fn a_worker_that_hangs_up_and_stays_is_ended() {
    let mut worker = worker("exec sleep 600 </dev/null");
    assert!(died(&mut worker).await.contains("killed"));
    assert!(worker.child.try_wait().unwrap().is_some());
}

/// The next worker is this very program, as in earnest; being a test program, it knows no `--worker` and ends at once.
#[tokio::test]
async fn a_worker_that_dies_at_once_is_replaced_at_once_but_not_for_ever() {
    let mut worker = Worker::start().unwrap();
    let first = worker.pid();
    let mut waited = Vec::new();
    for _ in 0..=super::PATIENCE {
        died(&mut worker).await;
        let begun = Instant::now();
        // However long a busy machine took to start and to end it.
        worker.started = begun;
        worker.restart().await.unwrap();
        waited.push(begun.elapsed());
    }
    assert_ne!(worker.pid(), first);
    assert!(
        waited.pop().unwrap() >= INSTANT,
        "after that many deaths there is a pause"
    );
    assert!(waited.iter().any(|time| *time < INSTANT), "none before: {waited:?}");

    worker.started -= INSTANT;
    died(&mut worker).await;
    worker.restart().await.unwrap();
    assert_eq!(worker.instant_deaths, 0, "one that lived for a while is forgiven");
}
