//! What an installation can tell the programs, against the programs themselves: no flag is forgotten, and what is accepted for a program
//! is what the program accepts.

use culvert_deploy::{Kind, SETTINGS, Setting};
use std::{collections::BTreeSet, path::PathBuf, process::Command};

const PAGE: &str = include_str!("../../docs/settings.md");
const PROGRAMS: [&str; 4] = ["agent", "ztunnel", "controller", "waypoint"];

type Flags = BTreeSet<(String, String)>;

/// A program that was built beside this one.
fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_else(|error| panic!("the running program: {error}"));
    let mut folders = own.ancestors().skip(1).take(2);
    let found = folders.find_map(|folder| Some(folder.join(format!("culvert-{name}"))).filter(|path| path.is_file()));
    found.unwrap_or_else(|| panic!("culvert-{name} is not built: cargo build --workspace --bins"))
}

/// What the program says, without the environment of this one.
fn said(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(program(name));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let texts = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    texts.concat()
}

/// Flags stand at the same depth, and nothing else does.
fn flags_of(name: &str) -> Flags {
    let help = said(name, &["--help"], &[]);
    let lines = help.lines().filter_map(|line| line.strip_prefix("      --"));
    let names = lines.filter_map(|rest| rest.split_whitespace().next());
    names.map(|flag| (name.to_owned(), flag.to_owned())).collect()
}

/// The second table of the page.
fn exceptions() -> Flags {
    let rows = PAGE.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let program = cells.next().filter(|cell| PROGRAMS.contains(cell))?;
        let flag = cells.next()?.strip_prefix("`--")?.strip_suffix('`')?;
        let reason = cells.next()?.trim_end_matches(['|', ' ']);
        assert!(reason.len() > 5, "{program} --{flag} has no reason");
        Some((program.to_owned(), flag.to_owned()))
    });
    rows.collect()
}

#[test]
fn every_flag_of_every_program_can_be_set_or_has_a_reason_why_not() {
    let there: Flags = PROGRAMS.into_iter().flat_map(flags_of).collect();
    assert!(there.len() > 100, "{there:?}");
    let of_programs = |key: &'static str, programs: &'static [&'static str]| {
        programs
            .iter()
            .map(move |program| ((*program).to_owned(), key.to_owned()))
    };
    let settable: Flags = SETTINGS
        .iter()
        .flat_map(|one| of_programs(one.key, one.programs))
        .collect();
    let excepted = exceptions();
    let both: Vec<_> = settable.intersection(&excepted).collect();
    assert!(both.is_empty(), "can be set, and have a reason why not: {both:?}");
    let known: Flags = settable.union(&excepted).cloned().collect();
    let forgotten: Vec<_> = there.difference(&known).collect();
    assert!(
        forgotten.is_empty(),
        "make them settings (deploy/src/settings/table.rs), or give a reason why not (docs/settings.md): {forgotten:?}"
    );
    let gone: Vec<_> = known.difference(&there).collect();
    assert!(gone.is_empty(), "there are no such flags: {gone:?}");
}

/// The last argument keeps the program from starting.
#[test]
fn programs_take_what_settings_allow_and_refuse_what_they_refuse() {
    const STOP: &str = "--no-such-flag";
    for setting in SETTINGS {
        let examples = setting.kind.examples();
        for program in setting.programs {
            let tried = |value: &str| said(program, &[&format!("--{}={value}", setting.key), STOP], &[]);
            if setting.key == "no-cni" {
                continue;
            }
            for value in &examples.allowed {
                let said = tried(value);
                assert!(
                    said.contains(&format!("unexpected argument '{STOP}'")),
                    "{program}: {said}"
                );
            }
            // Texts are looked at where they are used, if at all.
            let is_text = matches!(
                setting.kind,
                Kind::Name | Kind::TrustDomain | Kind::Word | Kind::Path | Kind::Image | Kind::LogFilter
            );
            for value in examples.refused.iter().filter(|_| !is_text) {
                let said = tried(value);
                assert!(
                    said.contains("invalid value"),
                    "{program} takes {} {value}: {said}",
                    setting.key
                );
            }
        }
    }
}

/// The program names them when it is told another.
#[test]
fn every_label_of_the_connection_metrics_can_be_left_out_but_the_one_that_has_to_stay() {
    let said = said("ztunnel", &["--metric-labels-drop=none-such"], &[]);
    let (_, named) = said.split_once("there are: ").expect("their names");
    let named = named.lines().next().unwrap_or_default().split(", ").map(str::trim);
    let named: BTreeSet<&str> = named.filter(|name| *name != "reporter").collect();
    let Some(Kind::SomeOf(words)) = Setting::of("metric-labels-drop").map(|setting| setting.kind) else {
        panic!("metric-labels-drop is no list");
    };
    assert_eq!(words.iter().copied().collect::<BTreeSet<_>>(), named);
}

/// A switch has no value on the command line; it has one where it comes from the ConfigMap.
#[test]
fn a_switch_takes_its_setting_from_the_environment() {
    let stop = ("CULVERT_LOG_FORMAT", "none-such");
    for value in ["true", "false"] {
        let said = said("agent", &[], &[("CULVERT_NO_CNI", value), stop]);
        assert!(said.contains("none-such") && !said.contains("no-cni"), "{said}");
    }
    assert!(said("agent", &[], &[("CULVERT_NO_CNI", "other"), stop]).contains("--no-cni"));
}
