//! Whether something else on the machine made a sample worthless.

use crate::record::Sample;

/// Of all processors' time. Others that take a twentieth of it change a rate by as much where the processors are full, which is more than
/// rounds of a quiet machine differ by.
const OTHERS: f64 = 0.05;
/// Of all processors' time. What the hypervisor takes is missing at once from whoever would run, and comes in bursts that a median of few
/// rounds does not remove; the virtual machine that this was written on lost 0.3% in half a day.
const STEAL: f64 = 0.02;
/// After by before. Time on a processor counts for less work at a lower frequency: CPU per unit of work grows by as much.
const FREQUENCY: f64 = 0.90;

/// Why a sample does not count, in a sentence; none where it does.
pub(crate) fn disturbed(sample: &Sample) -> Option<String> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    disturbed_on(sample, processors)
}

fn disturbed_on(sample: &Sample, processors: usize) -> Option<String> {
    let all = sample.seconds * processors as f64;
    if all <= 0.0 {
        return None;
    }
    let noise = &sample.noise;
    let share = |seconds: f64, limit: f64, what: &str| {
        let share = seconds / all;
        (share > limit).then(|| {
            format!(
                "{what} {:.1}% of the machine's processors, more than {:.0}%",
                share * 100.0,
                limit * 100.0
            )
        })
    };
    let slower = |ratio: f64| {
        (ratio < FREQUENCY).then(|| format!("a processor's frequency fell to {:.0}% of what it was", ratio * 100.0))
    };
    share(noise.others_cpu_seconds, OTHERS, "other programs used")
        .or_else(|| share(noise.steal_seconds, STEAL, "the hypervisor took"))
        .or_else(|| noise.frequency_ratio.and_then(slower))
}

#[cfg(test)]
mod tests {
    use super::disturbed_on;
    use crate::record::{Noise, Sample};

    /// Of 5 s on two processors.
    fn judged(others_cpu_seconds: f64, steal_seconds: f64, frequency_ratio: Option<f64>) -> Option<String> {
        let noise = Noise {
            others_cpu_seconds,
            steal_seconds,
            frequency_ratio,
        };
        let sample = Sample {
            seconds: 5.0,
            noise,
            ..Sample::default()
        };
        disturbed_on(&sample, 2)
    }

    #[test]
    fn a_quiet_machine_disturbs_nothing() {
        assert_eq!(judged(0.0, 0.0, None), None);
        assert_eq!(judged(0.49, 0.19, Some(0.91)), None);
        assert_eq!(judged(0.0, 0.0, Some(1.3)), None);
    }

    #[test]
    fn other_programs_steal_and_a_lower_frequency_disturb_each_by_itself() {
        let others = judged(0.6, 0.0, None).unwrap();
        assert_eq!(
            others,
            "other programs used 6.0% of the machine's processors, more than 5%"
        );
        let steal = judged(0.0, 0.3, Some(1.0)).unwrap();
        assert_eq!(
            steal,
            "the hypervisor took 3.0% of the machine's processors, more than 2%"
        );
        let slower = judged(0.0, 0.0, Some(0.85)).unwrap();
        assert_eq!(slower, "a processor's frequency fell to 85% of what it was");
    }

    #[test]
    fn a_sample_without_any_time_is_not_judged() {
        assert_eq!(disturbed_on(&Sample::default(), 2), None);
    }
}
