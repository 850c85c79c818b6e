//! The waypoint beside Envoy: the same objects, from the same controller, the same way from client to server, in one run.
//!
//! `side` is one proxy with its client, server and Services; `objects` are its Kubernetes objects, `token` what a request proves itself
//! by. `cases` are the loads, which `rounds` sends through both sides in turns; `memory` and `changes` measure with many Services and
//! routes. `findings` makes of it figures, each with the ratio of both proxies and what is aimed at; `ask` sends single requests,
//! and `output` says what is being done.

mod ask;
mod cases;
mod changes;
mod findings;
mod memory;
mod objects;
mod options;
mod output;
mod rounds;
mod side;
mod token;

use anyhow::Result;
use cases::CASES;
use culvert_lab::{Lab, Mesh, MeshOptions, Options as LabOptions, remove_labs_on_signals};
pub(crate) use options::Options;
use output::say;
use side::{Proxy, Side};

/// Makes both sides, measures, and prints the findings.
pub(crate) fn run(options: &Options) -> Result<()> {
    remove_labs_on_signals(|| eprintln!("==> interrupted: removing the nodes and pods"))?;
    say("making two nodes with their pods, and starting the mesh and both waypoints");
    let lab = Lab::new(&format!("bench_{}", std::process::id()), LabOptions::default())?;
    let mut findings = Vec::new();
    let outcome = measure(&lab, options, &mut findings).inspect_err(|_| {
        eprintln!("what the programs said last:\n{}", lab.logs(15));
    });
    if options.before.is_some() {
        findings.iter_mut().for_each(findings::Finding::forget_aim);
    }
    // What was measured before something failed is shown, too.
    println!("{}", findings::table(&findings, options.other().name()));
    outcome?;
    println!("{}", notes(options));
    if options.json {
        println!("{}", findings::json(&findings, options.rounds(), options.seconds())?);
    }
    Ok(())
}

fn measure(lab: &Lab, options: &Options, findings: &mut Vec<findings::Finding>) -> Result<()> {
    let for_mesh = MeshOptions {
        programs: options.programs.clone(),
        log: Some("warn".to_owned()),
        ..MeshOptions::default()
    };
    let mesh = Mesh::start(lab, for_mesh)?;
    let token = token::make()?;
    let sides: Result<Vec<Side>> = Proxy::BOTH
        .into_iter()
        .map(|proxy| Side::start(lab, &mesh, proxy, &options.other(), &token))
        .collect();
    let mut sides = sides?;
    if !options.loads_only {
        findings.push(memory::idle(&mut sides, &mesh)?);
    }
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| name.starts_with(&**only));
    let cases: Vec<_> = CASES.into_iter().filter(|case| wanted(case.name)).collect();
    let many = if options.short { 100 } else { 1000 };
    for side in &sides {
        side.guard_and_multiply(lab, &token, many)?;
    }
    findings.extend(rounds::run(&sides, &cases, many, options)?);
    if !options.loads_only {
        let services = if options.short { 20 } else { 1000 };
        findings.push(memory::with_services(&mut sides, lab, &mesh, services)?);
        findings.extend(changes::run(&mut sides, lab, services, options)?);
    }
    Ok(())
}

/// What a reader of the table must know.
fn notes(options: &Options) -> String {
    format!(
        "Medians of {} rounds of {} s; a ratio is Culvert's figure by the other's, the median of the rounds' with the lowest and the highest. \
         CPU is the waypoint's own, user and system; client, server, the ztunnels before and behind it and the waypoint share {} processors, \
         so requests/s is what all of them together can.",
        options.rounds(),
        options.seconds(),
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get)
    )
}
