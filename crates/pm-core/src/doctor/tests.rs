use super::*;
use crate::Timestamp;

const THRESHOLD: Duration = Duration::from_secs(300);

fn checks(symptoms: &Symptoms) -> Vec<Check> {
    findings(symptoms).into_iter().map(|finding| finding.check).collect()
}

fn findings(symptoms: &Symptoms) -> Vec<Finding> {
    examine(symptoms, &SchemaName::default(), THRESHOLD)
}

fn healthy() -> Symptoms {
    let names = expected_indexes(&SchemaName::default()).into_keys();
    Symptoms {
        tables: vec![job_table()],
        indexes: names.map(|name| IndexHealth { name, is_valid: true }).collect(),
        queues: vec![mail()],
        activity: vec![QueueActivity { queue: "mail".to_owned(), ..QueueActivity::default() }],
        ..Symptoms::default()
    }
}

fn job_table() -> TableHealth {
    TableHealth {
        name: "job".to_owned(),
        live: 100_000,
        dead: 0,
        scans: 0,
        scanned_rows: 0,
        counted: Duration::from_secs(3_600),
        has_autovacuum: true,
        server_has_autovacuum: true,
        age: 0,
        freeze_age: 200_000_000,
        read_at: Timestamp::from_unix_us(0),
    }
}

fn mail() -> QueueHealth {
    QueueHealth { name: Some("mail".to_owned()), paused: false, in_progress: 0, stale: 0, overdue: Duration::ZERO }
}

fn holder(kind: RowHolderKind, age_s: Option<u64>, transactions: u64) -> RowHolder {
    RowHolder {
        kind,
        name: "o'clock".to_owned(),
        role: Some("ada".to_owned()),
        application: Some("psql".to_owned()),
        state: Some("idle in transaction".to_owned()),
        age: age_s.map(Duration::from_secs),
        transactions,
    }
}

#[test]
fn a_healthy_database_has_no_findings() {
    assert_eq!(findings(&healthy()), []);
}

#[test]
fn check_names_are_distinct() {
    let names: std::collections::BTreeSet<_> = Check::ALL.into_iter().map(Check::name).collect();
    assert_eq!(names.len(), Check::ALL.len());
    assert!(Check::ALL.is_sorted(), "findings come in this order");
}

#[test]
fn holders_of_old_rows_are_reported_above_the_threshold() {
    for (kind, age_s, transactions, is_wrong) in [
        (RowHolderKind::Session, Some(301), 0, true),
        (RowHolderKind::Session, Some(299), u64::MAX, false),
        (RowHolderKind::Prepared, Some(301), 0, true),
        (RowHolderKind::Standby, None, 1_000_001, true),
        (RowHolderKind::Standby, None, 1_000_000, false),
        (RowHolderKind::Slot, None, 1_000_001, true),
        (RowHolderKind::Slot, None, 5, false),
    ] {
        let symptoms = Symptoms { holders: vec![holder(kind, age_s, transactions)], ..healthy() };
        assert_eq!(checks(&symptoms) == [Check::HeldRows], is_wrong, "{kind:?} {age_s:?} {transactions}");
    }
    let holders = vec![holder(RowHolderKind::Session, Some(720), 7)];
    let what = findings(&Symptoms { holders, ..healthy() }).remove(0).what;
    assert_eq!(
        what,
        "process o'clock of application psql as role ada has had a transaction open for 12m 0s, state: idle in transaction"
    );
}

#[test]
fn names_do_not_break_out_of_remedies() {
    let holders = vec![holder(RowHolderKind::Slot, None, u64::MAX)];
    let remedy = findings(&Symptoms { holders, ..healthy() }).remove(0).remedy;
    assert_eq!(remedy.sql(), ["select pg_drop_replication_slot('o''clock')"]);
}

#[test]
fn many_dead_rows_are_reported() {
    for (live, dead, is_wrong) in
        [(0, 10_000, false), (0, 10_001, true), (100_000, 20_000, false), (100_000, 20_001, true)]
    {
        let symptoms = Symptoms { tables: vec![TableHealth { live, dead, ..job_table() }], ..healthy() };
        assert_eq!(checks(&symptoms) == [Check::DeadRows], is_wrong, "{dead} of {live}");
    }
}

#[test]
fn frequent_scans_of_large_tables_are_reported() {
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    for (scans, rows, counted, is_wrong) in [
        (20, 10_000, hours(1), true),
        (19, 10_000, hours(1), false),
        (20, 9_999, hours(1), false),
        (100, 1_000_000, hours(24), false),
        (0, 0, Duration::ZERO, false),
    ] {
        let table = TableHealth { scans, scanned_rows: scans * rows, counted, ..job_table() };
        let symptoms = Symptoms { tables: vec![table], ..healthy() };
        assert_eq!(checks(&symptoms) == [Check::Scans], is_wrong, "{scans} × {rows} in {counted:?}");
    }
}

#[test]
fn missing_and_invalid_indexes_are_reported() {
    let mut symptoms = healthy();
    symptoms.indexes.retain(|index| index.name != "job_line");
    symptoms.indexes.iter_mut().filter(|index| index.name == "job_wait").for_each(|index| index.is_valid = false);
    let found = findings(&symptoms);
    assert_eq!(checks(&symptoms), [Check::MissingIndex, Check::InvalidIndex]);
    assert!(found[0].remedy.sql()[0].starts_with("create index concurrently job_line "));
    assert_eq!(found[1].remedy.sql(), ["reindex index concurrently \"pm\".job_wait"]);
}

#[test]
fn a_queue_is_unserved_when_its_jobs_wait_and_none_is_in_progress() {
    let waits = |seconds| QueueActivity {
        queue: "mail".to_owned(),
        oldest_waiting: Some(Duration::from_secs(seconds)),
        ..QueueActivity::default()
    };
    for (queue, activity, is_wrong) in [
        (mail(), waits(301), true),
        (mail(), waits(299), false),
        (QueueHealth { paused: true, ..mail() }, waits(301), false),
        (QueueHealth { in_progress: 1, ..mail() }, waits(301), false),
    ] {
        let symptoms = Symptoms { queues: vec![queue.clone()], activity: vec![activity], ..healthy() };
        assert_eq!(checks(&symptoms) == [Check::UnservedQueue], is_wrong, "{queue:?}");
    }
}

#[test]
fn leases_clocks_vacuum_and_deleted_queues_are_checked() {
    let stale = QueueHealth { stale: 1, in_progress: 1, overdue: Duration::from_secs(7_500), ..mail() };
    let found = findings(&Symptoms { queues: vec![stale], ..healthy() });
    assert_eq!(found[0].what, "1 lease of queue \"mail\" ran out up to 2h 5m ago without being reaped");
    let clock_offset = Duration::from_secs(6);
    assert_eq!(checks(&Symptoms { clock_offset, ..healthy() }), [Check::ClockOffset]);
    let deleted = QueueHealth { name: None, ..mail() };
    assert_eq!(checks(&Symptoms { queues: vec![deleted], ..healthy() }), [Check::DeletedQueue]);
    let off = TableHealth { has_autovacuum: false, ..job_table() };
    let found = findings(&Symptoms { tables: vec![off.clone()], ..healthy() });
    assert_eq!(found[0].remedy.sql(), ["alter table \"pm\".job reset (autovacuum_enabled)"]);
    let all_off = TableHealth { server_has_autovacuum: false, ..off };
    assert_eq!(checks(&Symptoms { tables: vec![all_off.clone(), all_off], ..healthy() }), [Check::NoAutovacuum]);
    let old = TableHealth { age: 400_000_001, ..job_table() };
    assert_eq!(checks(&Symptoms { tables: vec![old], ..healthy() }), [Check::Wraparound]);
}
