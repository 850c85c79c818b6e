use super::figure::CPU;
use super::measured::Measured;
use super::{grid, json, page, synthetic, targets};
use crate::record::{Run, Sample};
use culvert_report::stats::Verdict;

fn well_formed(html: &str) -> String {
    let xml = html.replacen("<!DOCTYPE html>", "", 1);
    let document = roxmltree::Document::parse(xml.trim()).unwrap_or_else(|error| panic!("{error}"));
    document
        .descendants()
        .filter_map(|node| node.text())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn modes_that_differ_are_told_apart_and_modes_within_the_spread_are_not() {
    let run = synthetic::run(1, 5);
    let measured = Measured::of(&run);
    let verdict = |that: &str| {
        let ratio = measured.ratio("culvert", that, "requests-16", &CPU).unwrap();
        (ratio.verdict(), grid::compared(&ratio, grid::Cells::Spreads))
    };
    let (verdict_of_sidecar, said) = verdict("sidecar");
    assert_eq!(verdict_of_sidecar, Verdict::Less);
    assert!(said.starts_with("0.4"), "{said}");
    let (verdict_of_same_node, said) = verdict("culvert-same-node");
    assert_eq!(verdict_of_same_node, Verdict::NoDifference);
    assert!(said.starts_with("no difference ("), "{said}");
    assert!(grid::text(&measured).contains("no difference"));
}

#[test]
fn json_has_modes_by_load_the_old_names_and_every_sample() {
    let run = synthetic::run(2, 3);
    let object = json::object(&Measured::of(&run));
    let culvert = &object["modes"]["culvert"];
    for key in [
        "gbit_per_s",
        "cpu_s_per_gb",
        "requests_per_s",
        "cpu_s_per_100k_requests",
        "p50_us",
        "p99_us",
        "connections_per_s",
        "cpu_s_per_100k_connections",
    ] {
        assert!(
            culvert[key].as_f64().is_some_and(|value| value > 0.0),
            "{key}: {culvert}"
        );
    }
    assert_eq!(culvert["requests_per_s"], culvert["requests-16"]["per_s"]);
    assert_eq!(culvert["pss_mb"]["10000"], 59.0);
    let [low, high] = [0, 1].map(|end| culvert["stream"]["spread"]["gbit_per_s"][end].as_f64().unwrap());
    assert!(low <= culvert["gbit_per_s"].as_f64().unwrap() && low < high);
    assert_eq!(
        object["ratios"]["by"]["sidecar"]["requests-16"]["cpu_s_per_100k"]["verdict"],
        "less"
    );
    let again: Run = serde_json::from_value(object["run"].clone()).unwrap();
    assert_eq!(again.samples.len(), run.samples.len());
}

#[test]
fn pages_name_command_machine_versions_spread_and_what_is_missing() {
    let mut run = synthetic::run(3, 3);
    run.samples[0].disturbed = Some("other programs used 9.0%".to_owned());
    let folder = tempfile::tempdir().unwrap();
    super::show(&run, true, Some(folder.path())).unwrap();
    let html = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    let markdown = std::fs::read_to_string(folder.path().join("report.md")).unwrap();
    let text = well_formed(&html);
    for wanted in [
        "cargo xtask bench --out FOLDER",
        "6.18.0",
        "3 rounds, all modes and loads in turns; 1 of",
        "missing: culvert-waypoint: it is not built",
        "counted for want of a better one: direct, stream, round 1: other programs used 9.0%",
        "s per GB",
        "requests/s, offered",
        "open connections",
    ] {
        assert!(text.contains(wanted), "{wanted}");
    }
    assert!(text.contains("Example <Processor> & Co, 2 usable"));
    assert!(markdown.contains("Versions: culvert 0.1.0, envoy 1.40.0"), "{markdown}");
    for plot in [
        "cpu-stream.svg",
        "cpu-requests-16.svg",
        "latency-connections.svg",
        "rates-p99.svg",
        "memory.svg",
    ] {
        assert!(
            markdown.contains(&format!("({plot})")) && folder.path().join(plot).is_file(),
            "{plot}"
        );
    }
    // What is kept can be shown again.
    let kept = std::fs::read(folder.path().join("run.json")).unwrap();
    let kept: Run = serde_json::from_slice(&kept).unwrap();
    assert_eq!(kept.samples.len(), run.samples.len());
}

#[test]
fn a_disturbed_sample_counts_only_where_no_other_came() {
    let mut run = synthetic::run(4, 1);
    let place = run
        .samples
        .iter()
        .position(|sample| sample.mode == "culvert" && sample.load == "connections")
        .unwrap();
    let good = run.samples[place].clone();
    run.samples[place].disturbed = Some("noise".to_owned());
    run.samples[place].count = 1;
    let count = |run: &Run| {
        Measured::of(run)
            .samples("culvert", "connections")
            .map(|sample| sample.count)
            .collect::<Vec<_>>()
    };
    assert_eq!(count(&run), [1]);
    run.samples.push(good.clone());
    assert_eq!(count(&run), [good.count]);
    let (replaced, kept) = Measured::of(&run).disturbed();
    assert_eq!((replaced.len(), kept.len()), (1, 0));
    let said = |run: &Run| grid::text(&Measured::of(run));
    assert!(said(&run).contains("disturbed and repeated: culvert, connections, round 1: noise"));
    let mut again = run.samples[place].clone();
    again.disturbed = Some("more noise".to_owned());
    run.samples.insert(place + 1, again);
    let text = said(&run);
    assert!(
        text.contains("disturbed and repeated: culvert 2 times, at last in connections, round 1: more noise"),
        "{text}"
    );
}

#[test]
fn targets_without_their_modes_are_left_out() {
    let mut run = synthetic::run(5, 3);
    let whats = |run: &Run| {
        let outcomes = targets::outcomes(&Measured::of(run));
        outcomes.into_iter().map(|outcome| outcome.what).collect::<Vec<_>>()
    };
    assert_eq!(whats(&run).len(), 13, "{:?}", whats(&run));
    run.samples
        .retain(|sample| !["ztunnel", "culvert-kernel"].contains(&sample.mode.as_str()));
    let left = whats(&run);
    assert!(
        !left
            .iter()
            .any(|what| what.contains("ztunnel") || what.contains("kernel")),
        "{left:?}"
    );
    assert_eq!(left.len(), 6, "{left:?}");
}

#[test]
fn a_mode_without_samples_and_samples_without_work_leave_the_rest_as_it_is() {
    let mut run = synthetic::run(6, 2);
    run.samples
        .retain(|sample| sample.mode != "sidecar" || sample.load == "stream");
    for sample in run.samples.iter_mut().filter(|sample| sample.mode == "ztunnel") {
        *sample = Sample {
            mode: sample.mode.clone(),
            load: sample.load.clone(),
            round: sample.round,
            seconds: 5.0,
            failed: 16,
            ..Sample::default()
        };
    }
    let measured = Measured::of(&run);
    let text = grid::text(&measured);
    assert!(
        text.contains("FAILED: ztunnel, requests-16, round 2: 16 of its requests or connections"),
        "{text}"
    );
    well_formed(&page::page(&measured).unwrap().html());
    assert!(json::object(&measured)["modes"]["ztunnel"]["requests-16"]["p50_us"].is_null());
}

#[test]
fn a_run_of_nothing_is_shown_too() {
    let run = Run::default();
    well_formed(&page::page(&Measured::of(&run)).unwrap().html());
    assert_eq!(grid::text(&Measured::of(&run)), "");
}
