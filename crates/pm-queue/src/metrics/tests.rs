use super::histogram::BOUNDS;
use super::*;
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

type Samples = HashMap<String, f64>;

/// Reads the text as a scraper does, and checks what the formats demand: each family is described before its samples,
/// which are together, and no sample comes twice. Returns the samples, with labels unescaped.
fn parsed(text: &str, openmetrics: bool) -> Samples {
    let (mut samples, mut family, mut seen) = (Samples::new(), (String::new(), String::new()), Vec::new());
    let body = if openmetrics { text.strip_suffix("# EOF\n").expect("it ends in EOF") } else { text };
    assert!(body.ends_with('\n'));
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(!help.is_empty() && !seen.contains(&name.to_owned()), "{name} comes twice");
            seen.push(name.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(seen.last().map(String::as_str), Some(name));
            family = (name.to_owned(), kind.to_owned());
        } else if let Some(unit) = line.strip_prefix("# UNIT ") {
            assert_eq!(unit, format!("{} seconds", family.0));
        } else {
            let (series, value) = read_sample(line);
            check_name(series.split('{').next().unwrap(), &family, openmetrics);
            assert!(samples.insert(series, value).is_none(), "{line} comes twice");
        }
    }
    samples
}

fn check_name(name: &str, (family, kind): &(String, String), openmetrics: bool) {
    let suffixes: &[&str] = match (kind.as_str(), openmetrics) {
        ("counter", true) => &["_total"],
        ("histogram", _) => &["_bucket", "_sum", "_count"],
        _ => &[""],
    };
    assert!(suffixes.iter().any(|suffix| name == format!("{family}{suffix}")), "{name} in {family}");
    assert!(openmetrics || kind != "counter" || name.ends_with("_total"));
}

/// Reads `name{label="value",…} number`; returns the series with unescaped labels.
fn read_sample(line: &str) -> (String, f64) {
    let mut series = String::new();
    let mut chars = line.chars();
    let mut is_quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if is_quoted => series.push(match chars.next().unwrap() {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                c => panic!("\\{c} is no escape"),
            }),
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => break,
            c => series.push(c),
        }
    }
    assert!(!is_quoted, "{line}");
    (series, chars.as_str().parse().unwrap())
}

fn scraped(metrics: &Metrics) -> Samples {
    let samples = parsed(&metrics.render(false), false);
    assert_eq!(samples, parsed(&metrics.render(true), true), "both formats have the same samples");
    samples
}

fn run(metrics: &Metrics, queue: &str, outcome: SettleOutcome, ran: Duration) {
    let (job, attempt) = (Uuid::nil(), 1);
    metrics.observe(&Event::Enqueued { queue, outcome: EnqueueOutcome::Inserted, count: 1 });
    metrics.observe(&Event::Claimed { queue, jobs: 1, waited: &[ran * 2], took: ran });
    metrics.observe(&Event::Started { queue, job, attempt });
    metrics.observe(&Event::Settled { queue, job, attempt, outcome, ran });
}

#[test]
fn what_happens_to_jobs_is_counted() {
    let metrics = Metrics::new();
    run(&metrics, "mails", SettleOutcome::Finished, Duration::from_millis(20));
    run(&metrics, "mails", SettleOutcome::SoftFailed, Duration::from_secs(40));
    metrics.observe(&Event::Enqueued { queue: "mails", outcome: EnqueueOutcome::Existing, count: 9 });
    metrics.observe(&Event::Started { queue: "mails", job: Uuid::nil(), attempt: 1 });
    metrics.observe(&Event::LeaseLost { queue: "mails", job: Uuid::nil(), attempt: 1 });
    metrics.observe(&Event::Reaped { count: 3 });
    let samples = scraped(&metrics);
    for (series, value) in [
        ("pm_jobs_enqueued_total{queue=mails}", 2.0),
        ("pm_jobs_claimed_total{queue=mails}", 2.0),
        ("pm_jobs_settled_total{queue=mails,outcome=finished}", 1.0),
        ("pm_jobs_settled_total{queue=mails,outcome=soft_failed}", 1.0),
        ("pm_jobs_settled_total{queue=mails,outcome=lease_lost}", 0.0),
        ("pm_jobs_in_flight{queue=mails}", 1.0),
        ("pm_leases_lost_total", 1.0),
        ("pm_leases_reaped_total", 3.0),
        ("pm_job_run_seconds_count{queue=mails}", 2.0),
        ("pm_job_run_seconds_sum{queue=mails}", 40.02),
        ("pm_job_run_seconds_bucket{queue=mails,le=0.01}", 0.0),
        ("pm_job_run_seconds_bucket{queue=mails,le=0.025}", 1.0),
        ("pm_job_run_seconds_bucket{queue=mails,le=10.0}", 1.0),
        ("pm_job_run_seconds_bucket{queue=mails,le=60.0}", 2.0),
        ("pm_job_run_seconds_bucket{queue=mails,le=+Inf}", 2.0),
        ("pm_job_wait_seconds_sum{queue=mails}", 80.04),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(samples[&format!("pm_build_info{{version={version}}}")], 1.0);
}

#[test]
fn up_follows_outages() {
    let metrics = Metrics::new();
    let statement = |name, ok| Event::Statement { name, took: Duration::from_millis(3), ok };
    let up = |event: &Event<'_>| {
        metrics.observe(event);
        scraped(&metrics)["pm_up"]
    };
    assert_eq!(up(&statement("claim", false)), 0.0, "nothing has reached the database yet");
    assert_eq!(up(&statement("claim", true)), 1.0);
    assert_eq!(up(&statement("poll", false)), 1.0, "a single failure is no outage");
    assert_eq!(up(&Event::OutageBegan { why: "gone" }), 0.0);
    assert_eq!(up(&statement("poll", true)), 0.0, "claims fail");
    assert_eq!(up(&Event::OutageBegan { why: "gone" }), 0.0, "for another handle");
    assert_eq!(up(&Event::OutageHealed { lasted: Duration::ZERO }), 0.0, "for one of both");
    assert_eq!(up(&Event::OutageHealed { lasted: Duration::ZERO }), 1.0);
    assert_eq!(scraped(&metrics)["pm_claim_seconds_count"], 2.0);
}

#[test]
fn a_time_equal_to_a_bound_is_within_it() {
    let mut histogram = Histogram::default();
    for bound in BOUNDS {
        histogram.record(Duration::from_secs_f64(bound));
    }
    let counts: Vec<_> = histogram.cumulative().map(|(_, count)| count).collect();
    assert_eq!(counts, (1..=BOUNDS.len() as u64).collect::<Vec<_>>());
}

#[test]
fn hostile_queue_names_are_escaped() {
    let metrics = Metrics::new();
    let name = "a\"b\\c\nd{e=f},g} 1 # é\u{202e}";
    run(&metrics, name, SettleOutcome::Failed, Duration::ZERO);
    let samples = scraped(&metrics);
    assert_eq!(samples[&format!("pm_jobs_enqueued_total{{queue={name}}}")], 1.0);
    assert!(metrics.render(false).contains(r#"pm_jobs_in_flight{queue="a\"b\\c\nd{e=f},g} 1 # é"#));
}

#[test]
fn of_100_000_queues_500_have_metrics_of_their_own() {
    let metrics = Metrics::new();
    for number in 0..100_000 {
        run(&metrics, &format!("queue {number}"), SettleOutcome::Finished, Duration::from_millis(5));
    }
    let samples = scraped(&metrics);
    let enqueued: Vec<_> = samples.iter().filter(|(series, _)| series.starts_with("pm_jobs_enqueued_total")).collect();
    assert_eq!(enqueued.len(), 501);
    assert_eq!(enqueued.iter().map(|(_, count)| **count).sum::<f64>(), 100_000.0);
    assert_eq!(samples["pm_jobs_enqueued_total{queue=_other}"], 99_500.0);
    assert_eq!(samples["pm_job_run_seconds_count{queue=_other}"], 99_500.0);
    assert!(metrics.render(false).len() < 2_500_000);
    run(&metrics, "queue 7", SettleOutcome::Finished, Duration::ZERO);
    assert_eq!(scraped(&metrics)["pm_jobs_enqueued_total{queue=queue 7}"], 2.0, "a queue keeps its metrics");
}
