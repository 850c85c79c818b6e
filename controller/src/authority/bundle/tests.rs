//! Who signs when, and what is trusted meanwhile.

use super::*;
use crate::authority::{Material, make};

const HOUR: Duration = Duration::from_secs(3600);
const TIMES: Times = Times {
    overlap: Duration::from_secs(300),
    leaf: Duration::from_secs(24 * 3600),
};

fn signer() -> Arc<Signer> {
    Arc::new(
        Signer::new(
            make("cluster.local", OffsetDateTime::now_utc()).unwrap(),
            "here",
            "cluster.local",
        )
        .unwrap(),
    )
}

fn root(signer: &Signer) -> Anchor {
    signer.anchors()[0].clone()
}

fn signs(trust: &Trust, signer: &Arc<Signer>) -> bool {
    trust.current().is_some_and(|current| Arc::ptr_eq(current, signer))
}

#[test]
fn the_first_signer_signs_at_once() {
    let mut trust = Trust::new(TIMES);
    assert!(trust.anchors().is_empty());
    let first = signer();
    trust.take(Arc::clone(&first), OffsetDateTime::now_utc());
    assert!(signs(&trust, &first));
    assert_eq!(trust.anchors(), [root(&first)]);
    assert_eq!(trust.due(), None);
}

#[test]
fn a_new_root_is_trusted_before_anything_is_signed_under_it_and_the_old_one_until_its_leaves_are_over() {
    let mut trust = Trust::new(TIMES);
    let (old, new) = (signer(), signer());
    let start = OffsetDateTime::now_utc();
    trust.take(Arc::clone(&old), start);
    trust.take(Arc::clone(&new), start);
    assert!(signs(&trust, &old));
    assert_eq!(trust.anchors(), [root(&old), root(&new)]);
    assert_eq!(trust.due(), Some(start + TIMES.overlap));
    trust.tick(start + TIMES.overlap / 2);
    assert!(signs(&trust, &old));
    let switch = start + TIMES.overlap;
    trust.tick(switch);
    assert!(signs(&trust, &new));
    assert_eq!(trust.anchors(), [root(&new), root(&old)]);
    trust.tick(switch + TIMES.leaf - HOUR);
    assert_eq!(trust.anchors().len(), 2);
    trust.tick(switch + TIMES.leaf);
    assert_eq!(trust.anchors(), [root(&new)]);
    assert_eq!(trust.due(), None);
}

#[test]
fn a_change_of_mind_within_the_overlap_goes_back_at_once() {
    let mut trust = Trust::new(TIMES);
    let (old, new) = (signer(), signer());
    let start = OffsetDateTime::now_utc();
    trust.take(Arc::clone(&old), start);
    trust.take(new, start);
    trust.take(Arc::clone(&old), start + HOUR / 60);
    trust.tick(start + 2 * TIMES.overlap);
    assert!(signs(&trust, &old));
    assert_eq!(trust.anchors(), [root(&old)]);
}

#[test]
fn another_signer_under_a_root_that_is_known_signs_at_once() {
    let mut trust = Trust::new(TIMES);
    let root_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_pem = params.self_signed(&root_key).unwrap().pem();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&root_pem, root_key).unwrap();
    let intermediate = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        let material = Material {
            certificate: params.signed_by(&key, &issuer).unwrap().pem(),
            key: key.serialize_pem(),
            roots: root_pem.clone(),
        };
        Arc::new(Signer::new(material, "given", "cluster.local").unwrap())
    };
    let (first, second) = (intermediate("first"), intermediate("second"));
    assert_eq!(first.chain().len(), 1, "leaves are followed by the intermediate");
    let start = OffsetDateTime::now_utc();
    trust.take(first, start);
    trust.take(Arc::clone(&second), start);
    assert!(signs(&trust, &second));
    assert_eq!(trust.anchors().len(), 1);
}

#[test]
fn roots_told_before_a_restart_stay_trusted() {
    let mut trust = Trust::new(TIMES);
    let (old, new) = (signer(), signer());
    let start = OffsetDateTime::now_utc();
    trust.remember(&format!("{}{}", old.anchors()[0].pem(), new.anchors()[0].pem()), start);
    trust.take(Arc::clone(&new), start);
    assert!(signs(&trust, &new));
    assert_eq!(trust.anchors(), [root(&new), root(&old)]);
    trust.tick(start + TIMES.leaf);
    assert_eq!(trust.anchors(), [root(&new)]);
    trust.remember("garbage", start);
    assert_eq!(trust.anchors(), [root(&new)]);
}

/// M7: a controller that starts while a root is being replaced goes on under the one before until the overlap is over.
#[test]
fn a_start_inside_a_rotation_signs_under_the_old_root_until_the_new_one_is_known() {
    let (old, new) = (signer(), signer());
    let start = OffsetDateTime::now_utc();
    let mut before = Trust::new(TIMES);
    before.take(Arc::clone(&old), start - HOUR);
    before.take(Arc::clone(&new), start);
    let known = before.known_since();
    assert_eq!(known.len(), 2);
    let pem: String = before.anchors().iter().map(|anchor| anchor.pem().to_owned()).collect();

    // Its key is kept, and since when the new root is known.
    let restart = start + TIMES.overlap / 2;
    let mut after = Trust::new(TIMES);
    after.resume(Arc::clone(&old), &known, restart);
    after.remember(&pem, restart);
    after.take(Arc::clone(&new), restart);
    assert!(signs(&after, &old));
    assert_eq!(after.anchors().len(), 2);
    after.tick(start + TIMES.overlap);
    assert!(signs(&after, &new), "no later than without the restart");

    // The Secret was replaced while no controller was there: nobody knows the new root yet.
    let alone = BTreeMap::from([(hex(root(&old).digest()), start - HOUR)]);
    let mut after = Trust::new(TIMES);
    after.resume(Arc::clone(&old), &alone, restart);
    after.remember(root(&old).pem(), restart);
    after.take(Arc::clone(&new), restart);
    assert!(signs(&after, &old));
    assert!(after.anchors().contains(&root(&new)), "it is told at once");
    after.tick(start + TIMES.overlap);
    assert!(signs(&after, &old));
    after.tick(restart + TIMES.overlap);
    assert!(signs(&after, &new));
}
