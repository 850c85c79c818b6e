//! Requests with curl from the visitor's pod, and what came back.

use crate::demo::{
    shop::{PORT, Shop},
    visits::MARKER,
};
use anyhow::{Context, Result};
use culvert_lab::{Pod, wait_until};
use serde_json::Value;
use std::{collections::BTreeMap, net::SocketAddr, process::Command, time::Duration};

/// How many requests came back how: a status with the version that answered, or with the path of a redirect.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: u32,
    pub(super) came_back: BTreeMap<String, u32>,
}

impl Counts {
    pub(super) fn get(&self, what: &str) -> Option<u32> {
        self.came_back.get(what).copied()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.came_back.keys()
    }

    /// With something that was counted elsewhere.
    pub(super) fn and(mut self, what: &str, count: u32) -> Self {
        self.came_back.insert(what.to_owned(), count);
        self
    }

    fn count(&mut self, what: String) {
        self.sent += 1;
        *self.came_back.entry(what).or_default() += 1;
    }
}

/// Asks one Service.
pub(super) struct Client<'a> {
    visitor: &'a Pod,
    name: String,
    address: SocketAddr,
}

impl<'a> Client<'a> {
    pub(super) fn new(shop: &'a Shop, service: &str) -> Result<Self> {
        Ok(Self {
            visitor: shop.pod("visitor")?,
            name: service.to_owned(),
            address: SocketAddr::from((shop.service(service)?.ip4(), PORT)),
        })
    }

    /// One answer in short.
    fn ask(&self, path: &str, headers: &[&str]) -> Result<String> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "20"])
            .args(["--write-out", "\n%{http_code} %{redirect_url}"])
            .args(["--header", &format!("Host: {}", self.name)])
            .args(["--header", &format!("X-Demo: {MARKER}")]);
        for header in headers {
            curl.args(["--header", header]);
        }
        let output = self
            .visitor
            .output(curl.arg(format!("http://{}{path}", self.address)))?;
        if !output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, end) = text.rsplit_once('\n').context("curl printed no status")?;
        let (status, location) = end.split_once(' ').unwrap_or((end, ""));
        if let Some((_, rest)) = location.split_once("://") {
            let path = rest.find('/').map_or("/", |at| &rest[at..]);
            return Ok(format!("{status} > {path}"));
        }
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let version = body["version"].as_str().filter(|_| status == "200");
        Ok(version.map_or_else(|| status.to_owned(), |version| format!("{status} {version}")))
    }

    /// Sends the same `times` times.
    pub(super) fn send(&self, times: u32, path: &str, headers: &[&str]) -> Result<Counts> {
        let mut counts = Counts::default();
        for _ in 0..times {
            counts.count(self.ask(path, headers)?);
        }
        Ok(counts)
    }

    /// Sends one request for each of `times` paths below `path`.
    pub(super) fn send_each(&self, times: u32, path: &str) -> Result<Counts> {
        let mut counts = Counts::default();
        for number in 0..times {
            counts.count(self.ask(&format!("{path}/{number}"), &[])?);
        }
        Ok(counts)
    }

    /// Waits until `times` requests in a row come back as `holds` says.
    pub(super) fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        times: u32,
        holds: impl Fn(&Counts) -> bool,
    ) -> Result<()> {
        let mut last = Counts::default();
        wait_until(what, patience, || {
            last = self.send(times, "/reviews/0", &[]).unwrap_or_default();
            holds(&last)
        })
        .with_context(|| format!("at last: {:?}", last.came_back))
    }

    /// Waits until a request comes back like this.
    pub(super) fn wait_for_answer(
        &self,
        what: &str,
        patience: Duration,
        path: &str,
        headers: &[&str],
        wanted: &str,
    ) -> Result<()> {
        let mut last = String::new();
        wait_until(what, patience, || {
            last = self.ask(path, headers).unwrap_or_else(|error| format!("{error:#}"));
            last == wanted
        })
        .with_context(|| format!("at last: {last}"))
    }

    /// The same, with another path below `path` each time.
    pub(super) fn wait_for_new(&self, what: &str, patience: Duration, path: &str, wanted: &str) -> Result<()> {
        let mut last = String::new();
        let mut number = 0;
        wait_until(what, patience, || {
            number += 1;
            let asked = self.ask(&format!("{path}/{number}"), &[]);
            last = asked.unwrap_or_else(|error| format!("{error:#}"));
            last == wanted
        })
        .with_context(|| format!("at last: {last}"))
    }
}

/// Waits until a program has logged a request this often, and returns how often it has; fewer when the time is up.
pub(super) fn wait_for_copies(shop: &Shop, pod: &Pod, request: &str, times: u32, patience: Duration) -> Result<u32> {
    let count = || -> Result<u32> { Ok(u32::try_from(shop.log(pod)?.matches(request).count())?) };
    // What is missing is one of the facts, and its own message is better than a timeout.
    let _waited = wait_until("the copies", patience, || count().is_ok_and(|count| count >= times));
    count()
}
