//! What is made of one sample. Which figures a load has depends on its kind, which its name tells.

use crate::record::Sample;
use culvert_report::stats::percentile;

/// A figure of a sample.
#[derive(Debug)]
pub(super) struct Figure {
    /// In JSON.
    pub(super) key: &'static str,
    /// In tables, with its unit.
    pub(super) label: &'static str,
    pub(super) decimals: usize,
    /// Of this sample. None where the sample does not have it: no work was done, or nobody counted.
    pub(super) of: fn(&Sample) -> Option<f64>,
}

/// What a load is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// Bytes, as many as possible.
    Streams,
    /// Requests, the next when the last is answered.
    Requests,
    /// Requests of a fixed rate a second.
    Rate(f64),
    /// New connections, each with one request.
    Connections,
    /// Datagrams and their answers.
    Datagrams,
}

impl Kind {
    /// Of the load of this name, as the command line says it.
    pub(super) fn of(load: &str) -> Self {
        let starts = |words: &[&str]| words.iter().any(|word| load.starts_with(word));
        let rate = || load.rsplit('-').find_map(|part| part.parse().ok());
        if starts(&["stream", "bulk", "upload", "download"]) {
            Self::Streams
        } else if starts(&["conn", "new"]) {
            Self::Connections
        } else if starts(&["dns", "udp"]) {
            Self::Datagrams
        } else if let (true, Some(rate)) = (starts(&["rate", "open"]), rate()) {
            Self::Rate(rate)
        } else {
            Self::Requests
        }
    }

    /// The figures of such a load, in the order of a table.
    pub(super) fn figures(self) -> &'static [&'static Figure] {
        match self {
            Self::Streams => &OF_STREAMS,
            Self::Requests | Self::Rate(_) => &OF_REQUESTS,
            Self::Connections | Self::Datagrams => &OF_CONNECTIONS,
        }
    }

    /// What one mode is compared by with another: costs and latencies, and rates where the load has no fixed one.
    pub(super) fn compared(self) -> &'static [&'static Figure] {
        match self {
            Self::Streams => &COMPARED_STREAMS,
            Self::Rate(_) => &COMPARED_RATES,
            Self::Requests | Self::Connections | Self::Datagrams => &COMPARED_REQUESTS,
        }
    }

    /// What the work costs the proxies.
    pub(super) fn cost(self) -> &'static Figure {
        match self {
            Self::Streams => &CPU_GB,
            _ => &CPU,
        }
    }
}

static OF_STREAMS: [&Figure; 6] = [&GBIT, &CPU_GB, &MACHINE_GB, &SWITCHES_GB, &SYSTEM_CALLS_GB, &WIRE];
static OF_REQUESTS: [&Figure; 10] = [
    &RATE,
    &CPU,
    &MACHINE,
    &P50,
    &P90,
    &P99,
    &P999,
    &SWITCHES,
    &SYSTEM_CALLS,
    &WIRE,
];
static OF_CONNECTIONS: [&Figure; 9] = [&RATE, &CPU, &MACHINE, &P50, &P90, &P99, &P999, &SWITCHES, &SYSTEM_CALLS];
static COMPARED_STREAMS: [&Figure; 3] = [&GBIT, &CPU_GB, &MACHINE_GB];
static COMPARED_RATES: [&Figure; 5] = [&CPU, &MACHINE, &P50, &P99, &P999];
static COMPARED_REQUESTS: [&Figure; 5] = [&RATE, &CPU, &MACHINE, &P50, &P99];

pub(super) static GBIT: Figure = Figure {
    key: "gbit_per_s",
    label: "Gbit/s",
    decimals: 2,
    of: |sample| per(sample.bytes as f64 * 8e-9, sample.seconds),
};
pub(super) static CPU_GB: Figure = Figure {
    key: "cpu_s_per_gb",
    label: "proxies' CPU, s per GB",
    decimals: 3,
    of: |sample| per(sample.proxies.cpu_seconds, gigabytes(sample)),
};
static MACHINE_GB: Figure = Figure {
    key: "machine_cpu_s_per_gb",
    label: "machine's CPU, s per GB",
    decimals: 3,
    of: |sample| per(sample.machine_cpu_seconds, gigabytes(sample)),
};
static SWITCHES_GB: Figure = Figure {
    key: "switches_per_gb",
    label: "proxies' context switches per GB",
    decimals: 0,
    of: |sample| per(sample.proxies.switches as f64, gigabytes(sample)),
};
static SYSTEM_CALLS_GB: Figure = Figure {
    key: "system_calls_per_gb",
    label: "proxies' system calls per GB",
    decimals: 0,
    of: |sample| per(sample.proxies.system_calls? as f64, gigabytes(sample)),
};
/// Both ways, so that 1 would be nothing but payload.
static WIRE: Figure = Figure {
    key: "wire_bytes_per_byte",
    label: "bytes on the wire per byte",
    decimals: 3,
    of: |sample| per(sample.wire_bytes? as f64, sample.bytes as f64),
};
pub(super) static RATE: Figure = Figure {
    key: "per_s",
    label: "per second",
    decimals: 0,
    of: |sample| per(sample.count as f64, sample.seconds),
};
pub(super) static CPU: Figure = Figure {
    key: "cpu_s_per_100k",
    label: "proxies' CPU, s per 100,000",
    decimals: 2,
    of: |sample| per(sample.proxies.cpu_seconds * 1e5, sample.count as f64),
};
static MACHINE: Figure = Figure {
    key: "machine_cpu_s_per_100k",
    label: "machine's CPU, s per 100,000",
    decimals: 2,
    of: |sample| per(sample.machine_cpu_seconds * 1e5, sample.count as f64),
};
pub(super) static P50: Figure = Figure {
    key: "p50_us",
    label: "p50, us",
    decimals: 0,
    of: |sample| time(sample, 0.5),
};
static P90: Figure = Figure {
    key: "p90_us",
    label: "p90, us",
    decimals: 0,
    of: |sample| time(sample, 0.9),
};
pub(super) static P99: Figure = Figure {
    key: "p99_us",
    label: "p99, us",
    decimals: 0,
    of: |sample| time(sample, 0.99),
};
static P999: Figure = Figure {
    key: "p999_us",
    label: "p99.9, us",
    decimals: 0,
    of: |sample| time(sample, 0.999),
};
static SWITCHES: Figure = Figure {
    key: "switches_per_one",
    label: "proxies' context switches each",
    decimals: 2,
    of: |sample| per(sample.proxies.switches as f64, sample.count as f64),
};
static SYSTEM_CALLS: Figure = Figure {
    key: "system_calls_per_one",
    label: "proxies' system calls each",
    decimals: 2,
    of: |sample| per(sample.proxies.system_calls? as f64, sample.count as f64),
};

fn gigabytes(sample: &Sample) -> f64 {
    sample.bytes as f64 / 1e9
}

/// None where there is nothing to divide by.
fn per(value: f64, by: f64) -> Option<f64> {
    (by > 0.0 && value.is_finite()).then(|| value / by)
}

fn time(sample: &Sample, share: f64) -> Option<f64> {
    let any = sample.times_us.iter().any(|(_, count)| *count > 0);
    any.then(|| percentile(&sample.times_us, share) as f64)
}

#[cfg(test)]
mod tests {
    use super::{CPU, CPU_GB, GBIT, Kind, P50, P99, RATE, SYSTEM_CALLS, WIRE};
    use crate::record::{Sample, Work};

    #[test]
    fn rates_and_costs_are_per_unit_of_work() {
        let mut sample = Sample {
            seconds: 2.0,
            bytes: 5_000_000_000,
            wire_bytes: Some(5_500_000_000),
            ..Sample::default()
        };
        sample.proxies.cpu_seconds = 1.0;
        assert_eq!(((GBIT.of)(&sample), (CPU_GB.of)(&sample)), (Some(20.0), Some(0.2)));
        assert_eq!((WIRE.of)(&sample), Some(1.1));
        let sample = Sample {
            seconds: 2.0,
            count: 50_000,
            times_us: vec![(5, 49_000), (9, 1000)],
            proxies: Work {
                cpu_seconds: 3.0,
                switches: 0,
                system_calls: Some(200_000),
            },
            ..Sample::default()
        };
        assert_eq!(((RATE.of)(&sample), (CPU.of)(&sample)), (Some(25_000.0), Some(6.0)));
        assert_eq!(((P50.of)(&sample), (P99.of)(&sample)), (Some(5.0), Some(9.0)));
        assert_eq!((SYSTEM_CALLS.of)(&sample), Some(4.0));
    }

    #[test]
    fn a_sample_in_which_nothing_was_done_has_no_figures_of_work() {
        let idle = Sample {
            seconds: 2.0,
            ..Sample::default()
        };
        for load in ["stream", "requests-16", "rate-1000", "connections", "dns"] {
            for figure in Kind::of(load).figures() {
                let value = (figure.of)(&idle);
                assert!(
                    value.is_none_or(|value| value == 0.0),
                    "{load}, {}: {value:?}",
                    figure.key
                );
            }
        }
    }

    #[test]
    fn a_name_tells_what_a_load_is_made_of() {
        for (name, kind) in [
            ("stream", Kind::Streams),
            ("streams-8-down", Kind::Streams),
            ("requests-16", Kind::Requests),
            ("http1-16", Kind::Requests),
            ("grpc", Kind::Requests),
            ("rate-20000", Kind::Rate(20_000.0)),
            ("connections", Kind::Connections),
            ("dns", Kind::Datagrams),
        ] {
            assert_eq!(Kind::of(name), kind, "{name}");
        }
    }
}
