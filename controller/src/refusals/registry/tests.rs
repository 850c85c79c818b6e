use std::sync::Arc;
use std::time::Duration;

use culvert_envoy::ROUTE_TYPE;
use culvert_proto::AUTHORIZATION_TYPE;

use super::{LINGER, MOST_OF_ONE, Refusals, Refuser};
use crate::authority::Caller;

const A: &str = "shop/wp/shop/a.shop.svc:80";

fn stream(refusals: &Refusals, pod: &str) -> Refuser {
    let caller = Caller::Workload {
        namespace: "shop".to_owned(),
        account: "wp".to_owned(),
        pod: Some(pod.to_owned()),
        node: None,
    };
    refusals.of(&caller, Some(&Arc::from("shop/wp")))
}

/// A proxy connects again every half an hour, and a condition must not come and go with that.
#[tokio::test(start_paused = true)]
async fn a_refusal_outlives_its_stream_until_the_next_one_has_had_time_to_say_it_again() {
    let refusals = Refusals::default();
    let all = refusals.all();
    let first = stream(&refusals, "wp-1");
    first.refuses(ROUTE_TYPE, Some(A), "no");
    drop(first);
    tokio::time::sleep(LINGER / 2).await;
    assert_eq!(all.borrow().len(), 1);
    // It is said again.
    let second = stream(&refusals, "wp-1");
    second.refuses(ROUTE_TYPE, Some(A), "no");
    tokio::time::sleep(2 * LINGER).await;
    assert_eq!(
        all.borrow().len(),
        1,
        "the end of the first stream does not count any more"
    );
    drop(second);
    // It is not.
    let _third = stream(&refusals, "wp-1");
    tokio::time::sleep(LINGER + Duration::from_secs(1)).await;
    assert_eq!(all.borrow().len(), 0);
}

#[tokio::test]
async fn only_what_changes_is_told_and_a_proxy_that_refuses_everything_leaves_room_for_others() {
    let refusals = Refusals::default();
    let mut all = refusals.all();
    let first = stream(&refusals, "wp-1");
    for number in 0..2 * MOST_OF_ONE {
        first.refuses(ROUTE_TYPE, Some(&format!("shop/wp/shop/a{number}:80")), "no");
    }
    assert_eq!(all.borrow_and_update().len(), MOST_OF_ONE);
    stream(&refusals, "wp-2").refuses(ROUTE_TYPE, Some(A), "no");
    assert_eq!(all.borrow_and_update().len(), MOST_OF_ONE + 1);
    first.refuses(ROUTE_TYPE, Some("shop/wp/shop/a1:80"), "no");
    first.settle(ROUTE_TYPE, ["shop/wp/shop/never:80"].into_iter());
    assert!(!all.has_changed().unwrap());
    let node = refusals.of(&Caller::Node { name: "n1".to_owned() }, None);
    node.refuses(AUTHORIZATION_TYPE, Some("shop/a"), "no");
    let found = all.borrow_and_update().clone();
    let of_node: Vec<_> = found.iter().filter(|one| one.waypoint.is_none()).collect();
    assert_eq!((of_node.len(), &*of_node[0].proxy), (1, "n1"));
}
