//! Which of the clusters is a test's.

use culvert_cluster::Cluster;
use rustix::fs::{FlockOperation, flock};
use std::{fs::File, path::Path, sync::OnceLock};

/// The clusters' names, separated by commas.
const NAMES: &str = "CULVERT_TEST_CLUSTER";
/// Which of the tests that run at the same time this is, as nextest counts them.
const SLOT: &str = "NEXTEST_TEST_GROUP_SLOT";
/// In the cluster's folder: whoever has it locked has the cluster for itself.
const LOCK: &str = "test.lock";

/// The cluster of this test, whose state is in a folder of `state`. Nobody else has it until this process ends.
pub(crate) fn cluster(state: &Path) -> Cluster {
    static HELD: OnceLock<File> = OnceLock::new();
    let names = std::env::var(NAMES).expect(
        "these tests need a cluster: run `cargo xtask test --cluster`, or name one that is up in CULVERT_TEST_CLUSTER",
    );
    let slot = std::env::var(SLOT).unwrap_or_default();
    let cluster = Cluster::attach(state, name(&names, &slot)).unwrap_or_else(|error| panic!("{error}"));
    // Tests that take a cluster twice have it already.
    HELD.get_or_init(|| {
        let file = File::create(cluster.folder().join(LOCK)).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        file
    });
    cluster
}

/// Of several names, the one for the test that runs in this slot.
fn name<'a>(names: &'a str, slot: &str) -> &'a str {
    let all: Vec<&str> = names.split(',').collect();
    all[slot.parse::<usize>().unwrap_or(0) % all.len()]
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn tests_that_run_at_the_same_time_have_a_cluster_each() {
        assert_eq!(["0", "1"].map(|slot| name("test1,test2", slot)), ["test1", "test2"]);
    }

    #[test]
    fn one_cluster_is_everybodys() {
        assert_eq!(["0", "1", "none", ""].map(|slot| name("mine", slot)), ["mine"; 4]);
    }
}
