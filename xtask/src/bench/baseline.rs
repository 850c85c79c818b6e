//! What functions took, and whether they take more now.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// How much more, or less, is a change. What the same code takes differs by less than 0.1% from build to build.
const CHANGE: f64 = 0.03;

/// What libraries look for in a processor to choose the code that they run, as far as valgrind has it: the cipher's, and `memcpy`'s.
const FEATURES: [&str; 9] = [
    "adx",
    "aes",
    "avx",
    "avx2",
    "bmi1",
    "bmi2",
    "pclmulqdq",
    "sse4_2",
    "ssse3",
];

/// Counts and where they were made.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Baseline {
    pub(super) environment: Environment,
    /// Instructions of a round, by case.
    pub(super) cases: BTreeMap<String, u64>,
}

/// What counts depend on beside the code.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Environment {
    rustc: String,
    libc: String,
    valgrind: String,
    features: Vec<String>,
}

impl Environment {
    /// From what programs say of their versions, and from `/proc/cpuinfo`.
    pub(super) fn new(rustc: &str, libc: &str, valgrind: &str, processor: &str) -> Self {
        let flags = processor
            .lines()
            .find(|line| line.starts_with("flags") || line.starts_with("Features"));
        let has = |feature: &&str| flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == *feature));
        Self {
            rustc: rustc.trim().to_owned(),
            libc: libc.trim().to_owned(),
            valgrind: valgrind.trim().to_owned(),
            features: FEATURES
                .iter()
                .filter(|feature| has(feature))
                .map(|feature| (*feature).to_owned())
                .collect(),
        }
    }

    /// In what this, the baseline's, is not that; none where counts can be compared.
    pub(super) fn differs_from(&self, other: &Self) -> Option<String> {
        let pairs = [
            (&self.rustc, &other.rustc),
            (&self.libc, &other.libc),
            (&self.valgrind, &other.valgrind),
        ];
        let mut differences: Vec<String> = pairs
            .iter()
            .filter(|(before, now)| before != now)
            .map(|(before, now)| format!("it was made with {before}, and this is {now}"))
            .collect();
        if self.features != other.features {
            let (before, now) = (self.features.join(" "), other.features.join(" "));
            differences.push(format!("its processor had {before}, and this one has {now}"));
        }
        (!differences.is_empty()).then(|| differences.join("; "))
    }
}

/// One case, before and now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) case: String,
    pub(super) before: Option<u64>,
    pub(super) now: Option<u64>,
}

impl Baseline {
    /// All cases of either.
    pub(super) fn compare(&self, now: &Self) -> Vec<Finding> {
        let mut cases: Vec<&String> = self.cases.keys().chain(now.cases.keys()).collect();
        cases.sort();
        cases.dedup();
        let finding = |case: &String| Finding {
            case: case.clone(),
            before: self.cases.get(case).copied(),
            now: now.cases.get(case).copied(),
        };
        cases.into_iter().map(finding).collect()
    }
}

impl Finding {
    /// Now by before.
    fn ratio(&self) -> Option<f64> {
        Some(self.now? as f64 / self.before? as f64)
    }

    /// Whether it takes more than it may.
    pub(super) fn rose(&self) -> bool {
        self.ratio().is_some_and(|ratio| ratio > 1.0 + CHANGE)
    }

    /// Whether the baseline says something that is no longer so, and nothing is lost: it takes less, it is new, or it is gone.
    pub(super) fn asks_to_renew(&self) -> bool {
        self.ratio().is_none_or(|ratio| ratio < 1.0 - CHANGE)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        write!(
            f,
            "{:<32} {:>12} {:>12}",
            self.case,
            count(self.before),
            count(self.now)
        )?;
        let Some(ratio) = self.ratio() else {
            return f.write_str(if self.before.is_none() { "  new" } else { "  gone" });
        };
        write!(f, "  {:+.2}%", (ratio - 1.0) * 100.0)?;
        match (self.rose(), self.asks_to_renew()) {
            (true, _) => f.write_str("  MORE"),
            (_, true) => f.write_str("  less"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Baseline, Environment, Finding};

    fn baseline(cases: &[(&str, u64)]) -> Baseline {
        Baseline {
            environment: Environment::new(
                "rustc 1.95.0\n",
                "glibc 2.36",
                "valgrind-3.19.0",
                "flags : fpu aes avx2 avx512f\n",
            ),
            cases: cases.iter().map(|(case, count)| ((*case).to_owned(), *count)).collect(),
        }
    }

    fn finding(before: u64, now: u64) -> Finding {
        let findings = baseline(&[("a", before)]).compare(&baseline(&[("a", now)]));
        findings.into_iter().next().unwrap()
    }

    #[test]
    fn three_percent_more_fails_and_three_percent_less_asks() {
        for (now, rose, asks) in [
            (1029, false, false),
            (1031, true, false),
            (971, false, false),
            (969, false, true),
        ] {
            let finding = finding(1000, now);
            assert_eq!((finding.rose(), finding.asks_to_renew()), (rose, asks), "{finding}");
        }
    }

    #[test]
    fn a_case_that_is_new_or_gone_asks_and_fails_nothing() {
        let findings = baseline(&[("old", 5), ("same", 7)]).compare(&baseline(&[("new", 6), ("same", 7)]));
        let said: Vec<_> = findings
            .iter()
            .map(|finding| (finding.case.as_str(), finding.rose(), finding.asks_to_renew()))
            .collect();
        assert_eq!(
            said,
            [("new", false, true), ("old", false, true), ("same", false, false)]
        );
        assert!(findings[0].to_string().ends_with("new") && findings[1].to_string().ends_with("gone"));
    }

    #[test]
    fn another_compiler_or_processor_is_no_comparison_and_features_that_valgrind_lacks_are_none() {
        let here = Environment::new("rustc 1.95.0", "glibc 2.36", "valgrind-3.19.0", "flags : aes avx2");
        assert_eq!(baseline(&[]).environment.differs_from(&here), None);
        let newer = Environment::new("rustc 1.96.0", "glibc 2.36", "valgrind-3.19.0", "flags : aes avx2");
        let said = here.differs_from(&newer).unwrap();
        assert_eq!(said, "it was made with rustc 1.95.0, and this is rustc 1.96.0");
        let older = Environment::new("rustc 1.95.0", "glibc 2.36", "valgrind-3.19.0", "flags : aes");
        let said = here.differs_from(&older).unwrap();
        assert_eq!(said, "its processor had aes avx2, and this one has aes");
    }
}
