//! Certificates end, or are revoked.

use culvert_lab::MeshOptions;
use culvert_tests::{authority::Authority, lab, strict_town::StrictTown};
use serde_json::Value;
use std::fs;

#[test]
fn no_byte_is_in_clear_when_certificates_have_ended() {
    let lab = lab("sf_ended");
    let options = MeshOptions {
        // No certificate lives for less.
        controller_args: ["--leaf-ttl", "60s"].map(str::to_owned).into(),
        ztunnel_args: ["--tunnel-grace", "1s"].map(str::to_owned).into(),
        ..MeshOptions::default()
    };
    let mut strict = StrictTown::start(&lab, options);
    strict.during("no certificate is valid any more", |strict| {
        strict.town.mesh.controller().unwrap().kill().unwrap();
        strict.nobody_is_answered();
        strict.everybody_tries();
        strict.town.mesh.start_controller().unwrap();
    });
}

#[test]
fn no_byte_is_in_clear_when_a_certificate_is_revoked() {
    let lab = lab("sf_crl");
    let list = lab.dir().join("ca-crl.pem");
    let options = MeshOptions {
        controller_args: vec!["--ca-crl".into(), list.display().to_string()],
        ztunnel_args: ["--tunnel-grace", "1s"].map(str::to_owned).into(),
        ..MeshOptions::default()
    };
    let mut strict = StrictTown::start(&lab, options);
    strict.during("every pod's certificate is revoked", |strict| {
        let serials: Vec<String> = [1, 2].into_iter().flat_map(|node| serials(strict, node)).collect();
        let serials: Vec<&str> = serials.iter().map(String::as_str).collect();
        let authority = Authority::of(&lab);
        fs::write(&list, authority.revoke(&serials)).unwrap();
        strict.nobody_is_answered();
        fs::write(&list, authority.revoke(&[])).unwrap();
    });
}

/// The serial numbers of the certificates of a node's proxy.
fn serials(strict: &StrictTown<'_>, node: u8) -> Vec<String> {
    let page = strict.town.mesh.get(node, 15000, "/certificates").unwrap().body;
    let page: Value = serde_json::from_str(&page).unwrap();
    let all = page["certificates"].as_array().unwrap().iter();
    all.filter_map(|one| Some(one["serial"].as_str()?.to_owned())).collect()
}
