#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "temporary")]
use culvert_lab::MeshOptions;
use culvert_tests::{Town, lab, probe, town::PORT};
#[test]
fn istio_under_our_agent() {
    let lab = lab("ag_istio");
    let options = MeshOptions {
        programs: Some("/tmp/agent-istio/bin".into()),
        ..MeshOptions::default()
    };
    let mut town = Town::unlabelled(&lab, options);
    town.join();
    for to in town.server.addresses() {
        town.in_the_tunnel(|| probe::dial(&town.client, (to, PORT), &[]))
            .unwrap();
    }
    town.assert_works();
    println!("{}", town.mesh.get(1, 15022, "/pods").unwrap().body);
    println!("{}", town.mesh.get(1, 15022, "/metrics").unwrap().body);
    town.mesh.restart_agent(1).unwrap();
    town.wait_enrolled(true);
    town.assert_works();
    println!("{}", town.mesh.get(1, 15022, "/pods").unwrap().body);
    town.leave();
    town.join();
    town.assert_works();
}
