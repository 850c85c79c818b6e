//! What the benches of the cores are made of: cases that `cargo bench` times, by criterion, and that `cargo xtask bench --instructions`
//! counts the instructions of, under `valgrind --tool=callgrind`.
//!
//! Times differ from run to run and from machine to machine, most of all on one that is shared. How many instructions a function takes
//! does not, so that a test can hold it.
//!
//! ```
//! use culvert_bench_cases::Cases;
//!
//! fn sums(cases: &mut Cases) {
//!     let numbers: Vec<u64> = (0..1000).collect();
//!     cases.case("sum", || numbers.iter().sum::<u64>());
//! }
//!
//! // In a bench: fn main() { culvert_bench_cases::main(&[sums]) }
//! sums(&mut Cases::counting());
//! ```
#![forbid(unsafe_code)]

use criterion::Criterion;
pub use criterion::Throughput;
use std::hint::black_box;
use std::time::Duration;

/// Set by who counts instructions.
pub const COUNT: &str = "CULVERT_COUNT_INSTRUCTIONS";
/// What a case's line begins with when instructions are counted. Its rounds and its name follow.
pub const CASE: &str = "case";
/// Rounds before those that are counted: what is made at first use is there, and memory that is used again has been used.
const WARM_UP: u64 = 3;
/// Rounds that are counted.
const ROUNDS: u64 = 10;

/// Where cases go: to criterion, or to who counts.
pub struct Cases {
    criterion: Option<Criterion>,
}

/// Runs a bench with the cases that these functions have.
pub fn main(all: &[fn(&mut Cases)]) {
    let mut cases = if std::env::var_os(COUNT).is_some() {
        Cases::counting()
    } else {
        Cases::timing()
    };
    for functions in all {
        functions(&mut cases);
    }
    if let Some(criterion) = &mut cases.criterion {
        criterion.final_summary();
    }
}

impl Cases {
    fn timing() -> Self {
        let criterion = Criterion::default()
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2))
            .configure_from_args();
        Self {
            criterion: Some(criterion),
        }
    }

    /// Counts, or rather lets be counted, what is in [`counted_rounds`].
    pub fn counting() -> Self {
        Self { criterion: None }
    }

    /// How large to make what a function looks through: a tenth of it where instructions are counted, because valgrind is slow with all
    /// that makes it, too.
    pub fn size(&self, whole: usize) -> usize {
        if self.criterion.is_some() { whole } else { whole / 10 }
    }

    /// What a round is. Its result is dropped within it.
    pub fn case<R>(&mut self, name: &str, routine: impl FnMut() -> R) {
        self.case_of(name, None, routine);
    }

    /// The same, and how much a round does.
    pub fn case_of<R>(
        &mut self,
        name: &str,
        throughput: impl Into<Option<Throughput>>,
        mut routine: impl FnMut() -> R,
    ) {
        if let Some(criterion) = &mut self.criterion {
            group(criterion, name, throughput.into(), |bencher| bencher.iter(&mut routine));
        } else {
            count(name, |rounds| (0..rounds).for_each(|_| drop(black_box(routine()))));
        }
    }

    /// Rounds that know themselves which part of them is to be timed. All of them is counted.
    pub fn timed(
        &mut self,
        name: &str,
        throughput: impl Into<Option<Throughput>>,
        mut rounds: impl FnMut(u64) -> Duration,
    ) {
        if let Some(criterion) = &mut self.criterion {
            group(criterion, name, throughput.into(), |bencher| {
                bencher.iter_custom(&mut rounds)
            });
        } else {
            count(name, |number| {
                black_box(rounds(number));
            });
        }
    }
}

/// `run` is called for each sample.
fn group(
    criterion: &mut Criterion,
    name: &str,
    throughput: Option<Throughput>,
    run: impl FnMut(&mut criterion::Bencher<'_>),
) {
    let (group, case) = name.rsplit_once('/').unwrap_or((name, name));
    let mut group = criterion.benchmark_group(group);
    if let Some(throughput) = throughput {
        group.throughput(throughput);
    }
    group.bench_function(case, run);
    group.finish();
}

fn count(name: &str, mut rounds: impl FnMut(u64)) {
    rounds(WARM_UP);
    counted_rounds(&mut rounds);
    println!("{CASE} {ROUNDS} {name}");
}

/// Callgrind counts from where this is entered to where it is left: its name is an argument of callgrind's.
#[inline(never)]
pub fn counted_rounds(rounds: &mut dyn FnMut(u64)) {
    rounds(black_box(ROUNDS));
}
