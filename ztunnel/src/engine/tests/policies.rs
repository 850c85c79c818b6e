//! Policies that are named before they arrive.

use super::*;

/// Sends a byte through an open connection.
fn works(mut from: &TcpStream, mut to: &TcpStream) {
    from.write_all(b"x").unwrap();
    to.read_exact(&mut [0]).unwrap();
}

fn allow_client() -> policy::Authorization {
    policy::Authorization {
        name: "late".to_owned(),
        namespace: "shop".to_owned(),
        scope: policy::Scope::WorkloadSelector.into(),
        action: policy::Action::Allow.into(),
        rules: vec![policy::Rule {
            clauses: vec![policy::Clause {
                matches: vec![policy::Match {
                    service_accounts: vec![policy::ServiceAccountMatch {
                        namespace: "shop".to_owned(),
                        service_account: "front".to_owned(),
                    }],
                    ..policy::Match::default()
                }],
            }],
        }],
        ..policy::Authorization::default()
    }
}

/// The server's workload names a policy that nobody has received.
fn name_policy(scene: &mut Scene) {
    let address = scene.server_address;
    scene.world.put_bound("cart", address, "cart", true, &["shop/late"]);
    scene.world.publish(&[&scene.server]);
}

#[test]
fn open_connections_keep_their_verdict_and_new_ones_wait_for_a_policy_that_is_named_before_it_arrives() {
    let mut scene = Scene::new();
    let stream = dial(scene.front);
    let app = accept(&scene.app);
    name_policy(&mut scene);
    let later = dial(scene.front);
    works(&stream, &app);
    scene.world.put_policy(&allow_client());
    scene.world.publish(&[&scene.server]);
    works(&later, &accept(&scene.app));
    works(&stream, &app);
}

#[test]
fn a_policy_that_never_arrives_denies_in_the_end() {
    let mut scene = Scene::with_server(|config| {
        config.policy_grace = Duration::from_millis(200);
        config.connect_timeout = Duration::from_millis(500);
    });
    let stream = dial(scene.front);
    let _app = accept(&scene.app);
    name_policy(&mut scene);
    assert_reset(&stream);
    assert_refused(scene.front);
}
