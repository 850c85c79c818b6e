//! The steps of the demo, each a file of `examples/bookstore/waypoint`, what is sent then, and what is promised.

use super::{
    facts::{Promise, Row},
    requests::{self, Client, Counts},
};
use crate::demo::{
    progress::Progress,
    shop::{self, Shop},
};
use anyhow::{Context, Result};
use culvert_lab::Lab;
use std::time::Duration;

/// How long pods may take to join, and objects to come into force. Debug builds on busy machines are slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Headers of the user who gets a version of his own.
const JASON: [&str; 1] = ["end-user: jason"];
/// What the steps need, and what they found out.
pub(super) struct Steps<'a> {
    lab: &'a Lab,
    shop: &'a Shop,
    progress: &'a Progress,
    /// How many requests a step sends.
    requests: u32,
    reviews: Client<'a>,
    rows: Vec<Row>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(lab: &'a Lab, shop: &'a Shop, progress: &'a Progress, requests: u32) -> Result<Self> {
        Ok(Self {
            lab,
            shop,
            progress,
            requests,
            reviews: Client::new(shop, "reviews")?,
            rows: Vec::new(),
        })
    }

    /// Brings the first route into force.
    pub(super) fn apply_canary(&self) -> Result<()> {
        self.progress
            .step("canary.yaml: most requests for v1, a tenth of them for v2");
        self.apply("canary")?;
        self.reviews.wait_for("the canary", PATIENCE, 20, |counts| {
            counts.keys().all(|what| ["200 v1", "200 v2"].contains(&what.as_str()))
        })
    }

    /// Plays all of them, in order.
    pub(super) fn play(mut self) -> Result<Vec<Row>> {
        self.canary()?;
        self.user()?;
        self.mirror()?;
        self.paths()?;
        self.retry()?;
        self.fault()?;
        self.token()?;
        self.path()?;
        Ok(self.rows)
    }

    fn canary(&mut self) -> Result<()> {
        let many = self.requests.max(200);
        let tenth = many / 10;
        let counts = self.reviews.send(many, "/reviews/0", &[])?;
        let promises = vec![
            Promise::between("200 v2", tenth / 4, tenth * 5 / 2),
            Promise::between("200 v1", many - tenth * 5 / 2, many),
        ];
        self.row("90/10 canary", counts, promises);
        Ok(())
    }

    fn user(&mut self) -> Result<()> {
        self.progress.step("user.yaml: one user gets v3");
        self.apply("user")?;
        self.reviews
            .wait_for_answer("the user's route", PATIENCE, "/reviews/0", &JASON, "200 v3")?;
        let counts = self.reviews.send(self.requests, "/reviews/0", &JASON)?;
        self.row_of_all("the same as user jason: v3", counts, "200 v3");
        Ok(())
    }

    fn mirror(&mut self) -> Result<()> {
        self.progress.step("mirror.yaml: v1 answers, v3 gets copies");
        self.apply("mirror")?;
        self.reviews
            .wait_for_answer("the mirror", PATIENCE, "/reviews/0", &JASON, "200 v1")?;
        let counts = self.reviews.send(self.requests, "/reviews/1", &[])?;
        let v3 = self.shop.pod("reviews-v3")?;
        let copies = requests::wait_for_copies(self.shop, v3, "GET /reviews/1 ", self.requests, PATIENCE)?;
        let promises = ["200 v1", "copies at v3"].map(|what| Promise::between(what, self.requests, self.requests));
        let counts = counts.and("copies at v3", copies);
        self.row("mirrored to v3, answered by v1", counts, promises.into());
        Ok(())
    }

    fn paths(&mut self) -> Result<()> {
        self.progress.step("paths.yaml: a rewrite and a redirect");
        self.apply("paths")?;
        let moved = "301 > /reviews/2";
        self.reviews
            .wait_for_answer("the new paths", PATIENCE, "/critics/2", &[], moved)?;
        let counts = self.reviews.send(self.requests, "/opinions/2", &[])?;
        self.row_of_all("/opinions, rewritten to /reviews", counts, "200 v1");
        let counts = self.reviews.send(self.requests, "/critics/2", &[])?;
        self.row_of_all("/critics, redirected to /reviews", counts, moved);
        Ok(())
    }

    fn retry(&mut self) -> Result<()> {
        self.progress.step("retry.yaml: a service that fails first");
        let flaky = Client::new(self.shop, "flaky")?;
        let counts = flaky.send_each(self.requests, "/before")?;
        self.row_of_all("fails first, nothing tried again", counts, "503");
        self.apply("retry")?;
        flaky.wait_for_new("retries", PATIENCE, "/waiting", "200 flaky")?;
        let counts = flaky.send_each(self.requests, "/after")?;
        self.row_of_all("fails first, tried again by the waypoint", counts, "200 flaky");
        Ok(())
    }

    fn fault(&mut self) -> Result<()> {
        self.progress.step("fault.yaml: half of the requests for details fail");
        let details = Client::new(self.shop, "details")?;
        let many = self.requests.max(40);
        let counts = details.send(many, "/details/0", &[])?;
        self.row_of_all("details as they are", counts, "200");
        self.apply("fault")?;
        details.wait_for_answer("the fault", PATIENCE, "/details/0", &[], "503")?;
        let counts = details.send(many, "/details/0", &[])?;
        // Of 40 tosses of a coin, fewer than 6 heads come up once in a million times.
        let promises = ["200", "503"].map(|what| Promise::between(what, many / 8, many));
        self.row("details, half of them made to fail", counts, promises.into());
        Ok(())
    }

    fn token(&mut self) -> Result<()> {
        self.progress.step("token.yaml: ratings for readers alone");
        let ratings = Client::new(self.shop, "ratings")?;
        let token = shop::read_text("waypoint/reader.jwt")?;
        let token = format!("authorization: Bearer {}", token.trim());
        // The reader's, with another signature.
        let signature = token.rfind('.').context("reader.jwt is no token")?;
        let forged = format!("{}.{}", &token[..signature], "A".repeat(86));
        self.apply("token")?;
        ratings.wait_for_answer("the policy", PATIENCE, "/ratings/0", &[], "403")?;
        ratings.wait_for_answer("the issuer's keys", PATIENCE, "/ratings/0", &[&token], "200")?;
        let counts = ratings.send(self.requests, "/ratings/0", &[])?;
        self.row_of_all("ratings without a token", counts, "403");
        let counts = ratings.send(self.requests, "/ratings/0", &[&forged])?;
        self.row_of_all("ratings with a forged token", counts, "401");
        let counts = ratings.send(self.requests, "/ratings/0", &[&token])?;
        self.row_of_all("ratings with a reader's token", counts, "200");
        Ok(())
    }

    fn path(&mut self) -> Result<()> {
        self.apply_canary()?;
        self.progress.step("path.yaml: one path is denied");
        self.apply("path")?;
        self.reviews
            .wait_for_answer("the policy", PATIENCE, "/reviews/2", &[], "403")?;
        let counts = self.reviews.send(self.requests, "/reviews/2", &[])?;
        self.row_of_all("/reviews/2, denied by a policy", counts, "403");
        let counts = self.reviews.send(self.requests, "/reviews/1", &[])?;
        let promises = ["200 v1", "200 v2"].map(|what| Promise::between(what, 0, self.requests));
        self.row("/reviews/1, next to it", counts, promises.into());
        Ok(())
    }

    /// Applies the objects of a file.
    fn apply(&self, name: &str) -> Result<()> {
        let objects = shop::read_file(&format!("waypoint/{name}.yaml"))?;
        objects
            .iter()
            .try_for_each(|object| self.lab.apply(object))
            .with_context(|| format!("{name}.yaml"))
    }

    /// All that was sent comes back like this.
    fn row_of_all(&mut self, what: &'static str, counts: Counts, came_back: &'static str) {
        let promise = Promise::between(came_back, counts.sent, counts.sent);
        self.row(what, counts, vec![promise]);
    }

    fn row(&mut self, what: &'static str, counts: Counts, promises: Vec<Promise>) {
        self.rows.push(Row { what, counts, promises });
    }
}
