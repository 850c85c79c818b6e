//! What a controller that starts takes over from the one before.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use clap::Parser as _;

use super::*;
use crate::authority::{Anchor, AuthorityFlags, RootFolder, Setup};
use crate::clock::Clock;

/// What a controller that starts in `state` signs under, and what it tells everybody to trust.
fn start(state: &Path, clock: &Clock) -> Result<(Anchor, Arc<str>, Setup), AuthorityError> {
    let flags = Flags::parse_from([] as [&str; 0]);
    let setup = Setup::files(&flags.authority, "cluster.local", state, clock)?;
    let signs = setup.authority.signer().borrow().as_ref().unwrap().own().clone();
    let trusted = Arc::clone(&setup.authority.bundle().borrow());
    Ok((signs, trusted, setup))
}

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    authority: AuthorityFlags,
}

#[test]
fn a_root_that_is_replaced_while_no_controller_runs_is_trusted_first_and_signs_later() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("ca");
    let began = SystemTime::now();
    let later = |seconds: u64| Clock::new(move || began + Duration::from_secs(seconds));
    let (old, told, _) = start(state.path(), &later(0)).unwrap();
    assert_eq!(told.matches("BEGIN").count(), 1);
    let mode = fs::metadata(folder.join("signing.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds a key");

    let key = fs::read_to_string(folder.join("root.key")).unwrap();
    fs::remove_file(folder.join("root.pem")).unwrap();
    fs::remove_file(folder.join("root.key")).unwrap();
    let new = RootFolder::new(&folder, "cluster.local").open().unwrap().own().clone();
    let (signs, told, _) = start(state.path(), &later(60)).unwrap();
    assert_eq!(signs, old, "nobody has heard of the new root yet");
    assert!(told.contains(old.pem()) && told.contains(new.pem()));
    // Started again within the overlap of five minutes, which does not begin anew.
    let (signs, told, setup) = start(state.path(), &later(200)).unwrap();
    assert_eq!(signs, old);
    assert!(told.contains(old.pem()) && told.contains(new.pem()));
    drop(setup);
    let (signs, told, _) = start(state.path(), &later(361)).unwrap();
    assert_eq!(signs, new);
    assert!(told.contains(old.pem()), "what was signed under it is still about");
    let kept = fs::read_to_string(folder.join("signing.json")).unwrap();
    assert!(
        !kept.contains(key.lines().nth(1).unwrap()),
        "the key of the root before is gone"
    );
    let (signs, told, _) = start(state.path(), &later(362)).unwrap();
    assert!(
        signs == new && told.contains(old.pem()),
        "trusted after another start, too"
    );
}

#[test]
fn a_damaged_account_of_what_signed_is_named_and_nothing_is_signed() {
    let state = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    start(state.path(), &clock).unwrap();
    let path = state.path().join("ca/signing.json");
    let good = fs::read_to_string(&path).unwrap();
    for damaged in [
        String::new(),
        good.replace("BEGIN CERTIFICATE", "BEGIN"),
        good.replace("\"key\"", "\"lock\""),
    ] {
        fs::write(&path, damaged).unwrap();
        let error = start(state.path(), &clock).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("signing.json"), "{error}");
    }
    fs::write(&path, good).unwrap();
    start(state.path(), &clock).unwrap();
}
