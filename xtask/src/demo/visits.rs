//! Real requests: curl in the visitor's pod asks the shop's page, which asks the shop's other services.

use super::shop::{PORT, Shop};
use anyhow::{Context, Result};
use culvert_lab::{Pod, wait_until};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

/// A text in each request, which whoever taps the wire would find there.
pub(super) const MARKER: &str = "culvert-demo-visitor-was-here";

/// How requests went.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) succeeded: u64,
    /// Answers by version of the reviews service.
    pub(super) reviews: BTreeMap<String, u64>,
    /// What went wrong, the first few.
    pub(super) failures: Vec<String>,
}

impl Tally {
    /// How many failures to keep.
    const FAILURES: usize = 5;

    /// Counts a request: what answered it, or why nothing did.
    pub(super) fn count(&mut self, outcome: Result<String>) {
        self.sent += 1;
        match outcome {
            Ok(reviews) => {
                self.succeeded += 1;
                *self.reviews.entry(reviews).or_default() += 1;
            }
            Err(error) if self.failures.len() < Self::FAILURES => self.failures.push(format!("{error:#}")),
            Err(_) => {}
        }
    }

    /// This tally and another one together.
    pub(super) fn and(mut self, other: &Self) -> Self {
        self.sent += other.sent;
        self.succeeded += other.succeeded;
        for (version, count) in &other.reviews {
            *self.reviews.entry(version.clone()).or_default() += count;
        }
        self.failures.extend(other.failures.iter().cloned());
        self.failures.truncate(Self::FAILURES);
        self
    }
}

/// Sends `count` requests one after another, IPv4 and IPv6 in turns.
pub(super) fn send(shop: &Shop, count: u32) -> Result<Tally> {
    let visitor = Visitor::new(shop)?;
    let mut tally = Tally::default();
    for number in 0..count {
        tally.count(visitor.ask(number));
    }
    Ok(tally)
}

/// Requests that several visitors at once send until they are told to stop.
pub(super) struct Crowd<'a> {
    shop: &'a Shop,
    stop: AtomicBool,
    sent: AtomicU64,
}

impl<'a> Crowd<'a> {
    /// How many visitors there are.
    pub(super) const VISITORS: u64 = 4;

    pub(super) fn new(shop: &'a Shop) -> Self {
        Self {
            shop,
            stop: AtomicBool::new(false),
            sent: AtomicU64::new(0),
        }
    }

    /// One visitor: sends requests until told to stop.
    pub(super) fn visit(&self) -> Result<Tally> {
        let visitor = Visitor::new(self.shop)?;
        let mut tally = Tally::default();
        while !self.stop.load(Ordering::Relaxed) {
            tally.count(visitor.ask(u32::try_from(tally.sent % 1000)?));
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
        Ok(tally)
    }

    /// Waits until the visitors have sent this many more requests.
    pub(super) fn wait(&self, more: u64) -> Result<()> {
        let goal = self.sent.load(Ordering::Relaxed) + more;
        let patience = Duration::from_secs(60);
        wait_until("requests of the crowd", patience, || {
            self.sent.load(Ordering::Relaxed) >= goal
        })
    }

    /// Lets the visitors end after the request that they are at.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Visitor<'a> {
    pod: &'a Pod,
    page: [IpAddr; 2],
}

impl<'a> Visitor<'a> {
    fn new(shop: &'a Shop) -> Result<Self> {
        Ok(Self {
            pod: shop.pod("visitor")?,
            page: shop.service("productpage")?.addresses(),
        })
    }

    /// Asks for one book, and returns the version of the reviews service that had a part in the answer.
    fn ask(&self, number: u32) -> Result<String> {
        let address = SocketAddr::new(self.page[number as usize % 2], PORT);
        let url = format!("http://{address}/api/books/{}", number / 2 % 3);
        let output = self.pod.output(&mut curl(&url))?;
        if !output.status.success() {
            anyhow::bail!("{url}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let book: Value = serde_json::from_slice(&output.stdout).with_context(|| url.clone())?;
        check(&book).with_context(|| url)
    }
}

/// A request of a visitor's.
pub(super) fn curl(url: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--noproxy",
        "*",
        "--max-time",
        "15",
    ])
    .arg("--header")
    .arg(format!("X-Demo: {MARKER}"))
    .arg(url);
    curl
}

/// Whether every service of the shop had its part in the page.
fn check(book: &Value) -> Result<String> {
    let whole = book["details"]["title"].is_string();
    let version = book["reviews"]["version"].as_str().unwrap_or_default();
    let reviews = book["reviews"]["reviews"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let rated = reviews.iter().all(|review| review["rating"]["stars"].is_u64());
    if !whole || reviews.is_empty() || (!rated && version != "v1") {
        anyhow::bail!("a part of the page is missing: {book}");
    }
    Ok(version.to_owned())
}
