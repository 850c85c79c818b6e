//! When what failed in a namespace is tried again: less and less often, with one line in the log and one finding.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// The first pause, which doubles up to the last.
const FIRST: Duration = Duration::from_secs(5);
const LAST: Duration = Duration::from_secs(600);

/// How many namespaces a finding names.
const NAMED: usize = 5;

/// The namespaces in which something fails.
#[derive(Debug, Default)]
pub(super) struct Retries {
    failed: BTreeMap<String, Failure>,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    pause: Duration,
    again: Instant,
}

impl Retries {
    /// Whether a namespace may be tried now.
    pub(super) fn is_due(&self, namespace: &str, now: Instant) -> bool {
        self.failed.get(namespace).is_none_or(|failure| failure.again <= now)
    }

    /// It failed there. Whether that is news.
    pub(super) fn failed(&mut self, namespace: &str, reason: String, now: Instant) -> bool {
        let before = self.failed.get(namespace);
        let is_news = before.is_none_or(|before| before.reason != reason);
        let pause = before.map_or(FIRST, |before| (before.pause * 2).min(LAST));
        let failure = Failure {
            reason,
            pause,
            again: now + pause,
        };
        self.failed.insert(namespace.to_owned(), failure);
        is_news
    }

    /// It worked there. Whether it had failed before.
    pub(super) fn succeeded(&mut self, namespace: &str) -> bool {
        self.failed.remove(namespace).is_some()
    }

    /// Forgets namespaces in which nothing is to be done any more.
    pub(super) fn retain(&mut self, namespaces: &BTreeSet<String>) {
        self.failed.retain(|namespace, _| namespaces.contains(namespace));
    }

    /// When something is to be tried again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.failed.values().map(|failure| failure.again).min()
    }

    /// All of it in one sentence.
    pub(super) fn finding(&self) -> Option<String> {
        let (first, failure) = self.failed.iter().next()?;
        let named: Vec<&str> = self.failed.keys().take(NAMED).map(String::as_str).collect();
        let more = match self.failed.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "the trust bundle (ConfigMap culvert-ca-root-cert) cannot be written in {}{more}: programs there do not find the \
             mesh's roots. In {first}: {}",
            named.join(", "),
            failure.reason
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Report 10: 50 namespaces with a full quota made 539 warnings in a minute, 50 requests every five seconds.
    #[tokio::test(start_paused = true)]
    async fn namespaces_that_refuse_are_tried_less_and_less_often_and_make_one_finding() {
        let mut retries = Retries::default();
        let names: Vec<String> = (0..50).map(|number| format!("quota-{number:02}")).collect();
        let (mut tries, mut lines) = (0, 0);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(3600) {
            let now = Instant::now();
            for name in names
                .iter()
                .filter(|name| retries.is_due(name, now))
                .collect::<Vec<_>>()
            {
                tries += 1;
                lines += usize::from(retries.failed(name, "exceeded quota".to_owned(), now));
            }
            tokio::time::sleep_until(retries.next().unwrap()).await;
        }
        assert_eq!(lines, 50, "a line for each");
        assert!(tries <= 50 * 14, "{tries} in an hour");
        let finding = retries.finding().unwrap();
        assert!(
            finding.contains("quota-00, quota-01") && finding.contains("45 more"),
            "{finding}"
        );
        assert!(
            retries.failed("quota-00", "forbidden".to_owned(), Instant::now()),
            "another reason is news"
        );
        assert!(retries.succeeded("quota-00") && !retries.succeeded("quota-00"));
        retries.retain(&BTreeSet::new());
        assert_eq!((retries.finding(), retries.next()), (None, None));
    }
}
