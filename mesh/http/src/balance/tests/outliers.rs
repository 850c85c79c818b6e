//! Endpoints that are left out since they fail.

use super::*;

fn detector(message: OutlierDetection) -> outlier::Detector {
    outlier::Detector::new(outlier::Settings::compile(&message).unwrap())
}

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

#[test]
fn with_the_default_of_ten_percent_nothing_is_ejected_below_ten_hosts() {
    let detector = detector(OutlierDetection::default());
    let now = Instant::now();
    let error = outlier::Result::ServerError { gateway: false };
    let ejects = |hosts| {
        let mut record = outlier::Record::default();
        (0..5)
            .map(|_| detector.record(&mut record, error, now, 0, hosts))
            .last()
            .unwrap()
    };
    assert!(!ejects(9) && ejects(10));
}

#[test]
fn a_host_is_out_longer_each_time_and_a_success_starts_the_count_anew() {
    let detector = detector(OutlierDetection {
        consecutive_5xx: number(2),
        max_ejection_percent: number(100),
        ..OutlierDetection::default()
    });
    let mut record = outlier::Record::default();
    let start = Instant::now();
    let error = outlier::Result::ServerError { gateway: true };
    assert!(!detector.record(&mut record, error, start, 0, 1));
    assert!(!detector.record(&mut record, outlier::Result::Success, start, 0, 1));
    assert!(!detector.record(&mut record, error, start, 0, 1));
    assert!(detector.record(&mut record, outlier::Result::Local, start, 0, 1));
    assert!(!detector.sweep(&mut record, start + Duration::from_secs(29)));
    assert!(detector.sweep(&mut record, start + Duration::from_secs(30)));
    for _ in 0..2 {
        detector.record(&mut record, error, start, 0, 1);
    }
    assert!(record.is_ejected() && !detector.sweep(&mut record, start + Duration::from_secs(59)));
    assert!(detector.sweep(&mut record, start + Duration::from_secs(60)));
}

#[test]
fn success_rates_are_refused_where_they_are_asked_for() {
    let asked = OutlierDetection {
        enforcing_success_rate: number(100),
        ..OutlierDetection::default()
    };
    assert!(
        outlier::Settings::compile(&asked)
            .unwrap_err()
            .to_string()
            .contains("enforcing_success_rate")
    );
}
