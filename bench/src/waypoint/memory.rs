//! Resident memory: idle, and with many Services.

use super::{
    findings::{Finding, Target},
    objects,
    output::say,
    side::{Proxy, Side},
};
use crate::usage::{self, settle};
use anyhow::Result;
use culvert_lab::{Lab, Mesh};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// How long a freshly started proxy is left alone before it is looked at.
const SETTLES: Duration = Duration::from_secs(3);

/// With the few Services of the loads, started anew.
pub(super) fn idle(sides: &mut [Side], mesh: &Mesh<'_>) -> Result<Finding> {
    say("memory of idle waypoints");
    resident(sides, mesh, "RSS idle".to_owned(), Target::Most(15.0))
}

/// With so many more Services behind the waypoint.
pub(super) fn with_services(sides: &mut [Side], lab: &Lab, mesh: &Mesh<'_>, services: usize) -> Result<Finding> {
    say(&format!("memory with {services} Services"));
    for number in 0..services {
        for side in sides.iter() {
            let at = address(side, number)?;
            lab.apply(&objects::service(side.proxy.name(), &name(number), at))?;
        }
    }
    for side in sides.iter() {
        // The last one is there when all are: files are read in no order, so each of the first and the last few is asked for.
        for number in (0..services).step_by((services / 10).max(1)) {
            wait_answered(side, number, "/r0")?;
        }
        wait_answered(side, services - 1, "/r0")?;
    }
    resident(sides, mesh, format!("RSS with {services} Services"), Target::Ratio(0.3))
}

/// The name of one of many Services.
pub(super) fn name(number: usize) -> String {
    format!("service-{number}")
}

/// Its address: outside of those that the lab gives.
pub(super) fn address(side: &Side, number: usize) -> Result<Ipv4Addr> {
    let block = match side.proxy {
        Proxy::Culvert => 64,
        Proxy::Other => 128,
    };
    let [_, _, high, low] = u32::try_from(number)?.to_be_bytes();
    Ok(Ipv4Addr::new(198, 19, block + high, low))
}

/// Waits until one of many Services answers 200.
pub(super) fn wait_answered(side: &Side, number: usize, path: &str) -> Result<()> {
    let to = SocketAddr::from((address(side, number)?, 80));
    let name = name(number);
    let what = format!("{} serves {name}", side.proxy.name());
    side.wait_answered(&what, to, &name, path, |status| status == 200)
}

fn resident(sides: &mut [Side], mesh: &Mesh<'_>, name: String, target: Target) -> Result<Finding> {
    for side in sides.iter_mut() {
        side.restart(mesh)?;
    }
    settle(SETTLES);
    let used: Result<Vec<_>> = sides
        .iter()
        .map(|side| Ok(vec![usage::of(&[side.pid()])?.rss_mb]))
        .collect();
    Ok(Finding::of_rounds(name, "MB", &used?, Some(target)))
}
