//! What clients write down, what is read of it, and what is said of what is wrong.

use super::super::{Expected, check};
use super::*;

const DRAINED: Expected = Expected { idempotent: true, drained: true };

/// Lines of one file, in short: `AT CLIENT OP EVENT FIELDS`.
fn file(lines: &[&str]) -> String {
    let line = |text: &&str| {
        let words: Vec<_> = text.splitn(5, ' ').collect();
        let [at, client, op, event] = words[..4] else { panic!("not a line: {text}") };
        let fields = words.get(4).map_or(String::new(), |fields| format!(", {fields}"));
        format!(
            "{{\"at\": {at}, \"client\": \"{client}\", \"op\": {op}, \"event\": \"{event}\"{fields}}}\n"
        )
    };
    lines.iter().map(line).collect()
}

fn read_all(files: &[&[&str]]) -> Result<Recorded, Unreadable> {
    let named = |(at, lines): (usize, &&[&str])| (format!("{at}.jsonl"), file(lines));
    read(&files.iter().enumerate().map(named).collect::<Vec<_>>())
}

/// One transaction that sends to two partitions, and a reader.
const SENDER: &[&str] = &[
    r#"10 a 1 begin "kind": "transaction", "protocol": 2"#,
    r#"11 a 1 send "to": ["t", 0], "value": 7"#,
    r#"12 a 1 send "to": ["t", 1], "value": 8"#,
    r#"13 a 1 sent "value": 8, "offset": 5"#,
    r#"14 a 1 commit "group": "g", "offsets": [["t", 0, 3]]"#,
    r"15 a 1 committing",
    r#"18 a 1 end "outcome": "ok""#,
];
const READER: &[&str] = &[
    r#"20 b 1 begin "kind": "plain""#,
    r"20 b 1 assign",
    r#"21 b 1 polled "committed": true, "records": [["t", 1, 5, 8], ["t", 0, 2, 7]]"#,
    r#"21 b 1 holds "group": "g", "epoch": 4, "partitions": [["t", 1]]"#,
    r#"22 b 1 fetched "group": "g", "offsets": [["t", 0, 3], ["t", 1, null]]"#,
    r#"23 b 1 end "outcome": "ok""#,
];

#[test]
fn every_event_is_read() {
    let recorded = read_all(&[READER, SENDER]).expect("readable");
    let [sender, reader] = &recorded.operations[..] else { panic!("{recorded:?}") };
    let (zero, one, group) = (Partition(0), Partition(1), Group(0));
    let place = |partition, offset| Place { partition, offset: Offset(offset) };
    assert_eq!(
        sender.steps,
        [
            Step::Send { partition: zero, value: Value(7), offset: None },
            Step::Send { partition: one, value: Value(8), offset: Some(Offset(5)) },
            Step::Commit { group, place: place(zero, 3) },
        ]
    );
    let committing = Some(Moment(6));
    assert_eq!(sender.kind, Kind::Transaction { first_protocol: false, committing });
    assert_eq!((sender.begun, sender.ended), (Moment(1), Moment(7)));
    assert_eq!(sender.outcome, Outcome::Succeeded);
    assert_eq!(
        reader.steps,
        [
            Step::Assign,
            Step::Poll {
                committed: true,
                records: vec![(place(one, 5), Value(8)), (place(zero, 2), Value(7))]
            },
            Step::Hold { group, epoch: Epoch(4), partition: one },
            Step::Fetch { group, partition: zero, offset: Some(Offset(3)) },
            Step::Fetch { group, partition: one, offset: None },
        ]
    );
    assert!(check(&recorded.operations, DRAINED).is_clean());
}

#[test]
fn what_has_no_end_is_unknown_and_what_nobody_asked_to_commit_has_failed() {
    for (length, outcome) in
        [(7, Outcome::Succeeded), (6, Outcome::Unknown), (5, Outcome::Failed), (1, Outcome::Failed)]
    {
        let recorded = read_all(&[&SENDER[..length]]).expect("readable");
        assert_eq!(recorded.operations[0].outcome, outcome, "{length} lines");
    }
    let plain = read_all(&[&READER[..1]]).expect("readable");
    assert_eq!(plain.operations[0].outcome, Outcome::Unknown);
    assert_eq!(plain.operations[0].ended, Moment(u64::MAX));
}

#[test]
fn half_a_line_at_the_end_is_passed_over() {
    let whole = file(SENDER);
    let half = whole[..whole.len() - 3].to_owned();
    let recorded = read(&[("a".to_owned(), half)]).expect("readable");
    assert_eq!(recorded.operations[0].outcome, Outcome::Unknown);
}

#[test]
fn an_acknowledgement_may_come_after_the_end() {
    let lines = [SENDER[0], SENDER[2], r#"12 a 1 end "outcome": "failed""#, SENDER[3]];
    let recorded = read_all(&[&lines]).expect("readable");
    let sent = Step::Send { partition: Partition(0), value: Value(8), offset: Some(Offset(5)) };
    assert_eq!(recorded.operations[0].steps, [sent]);
}

#[test]
fn what_is_not_sent_after_all_is_not_a_send() {
    let lines = [SENDER[0], SENDER[1], r#"12 a 1 unsent "value": 7"#];
    assert_eq!(read_all(&[&lines]).expect("readable").operations[0].steps, []);
}

#[test]
fn what_is_done_at_the_same_moment_overlaps() {
    let one = [r#"5 a 1 begin "kind": "plain""#, r#"6 a 1 end "outcome": "ok""#];
    let other = [r#"6 b 1 begin "kind": "plain""#, r#"7 b 1 end "outcome": "ok""#];
    for files in [[&one[..], &other[..]], [&other, &one]] {
        let recorded = read_all(&files).expect("readable");
        let [first, second] = &recorded.operations[..] else { panic!("{recorded:?}") };
        assert!(second.begun < first.ended, "{recorded:?}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    for (lines, what) in [
        (&[r#"1 a 1 begun "kind": "plain""#][..], "0.jsonl:1: not an event"),
        (&[r"1 a 1 assign"], "0.jsonl:1: an operation that has not begun"),
        (&[READER[0], READER[5], r"24 b 1 assign"], "0.jsonl:3: an operation that has ended"),
        (&[READER[0], READER[0]], "0.jsonl:2: an operation that has begun already"),
        (&[READER[0], r"21 b 1 committing"], "0.jsonl:2: only a transaction"),
        (&[SENDER[0], SENDER[3]], "0.jsonl:2: a value that is not of this operation"),
    ] {
        let error = read_all(&[lines]).expect_err("unreadable").to_string();
        assert!(error.starts_with(what), "{error}");
    }
}

/// What is said of the first violation.
fn explained(files: &[&[&str]]) -> String {
    let recorded = read_all(files).expect("readable");
    let report = check(&recorded.operations, DRAINED);
    recorded.explain(report.violations.first().expect("a violation"))
}

#[test]
fn a_violation_is_told_with_its_operations_and_faults() {
    let aborted: Vec<_> = SENDER[..5]
        .iter()
        .copied()
        .chain([r#"17000 a 1 end "outcome": "failed", "why": "aborted""#])
        .collect();
    let faults = [r#"16000 - 0 fault "what": "kill""#, r#"18000 - 0 fault "what": "stop""#];
    let reader = READER.iter().map(|line| line.replacen('2', "20002", 1)).collect::<Vec<_>>();
    let reader: Vec<_> = reader.iter().map(String::as_str).collect();
    let text = explained(&[&aborted, &reader, &faults]);
    let expected = "\
AbortedRead: 7 at offset 2 of partition 0 was not committed, and was polled
  0.jsonl:1-6 a transaction failed from 0.000000 to 0.000017 (aborted) [0.000016: kill]: sent 7 to t-0:?
  1.jsonl:1-6 b ok from 0.000200 to 0.000200: polled t-0:2=7
";
    assert_eq!(text, expected);
}

#[test]
fn of_many_commits_those_before_the_wrong_answer_are_told() {
    let mut lines = Vec::new();
    for at in 0..40 {
        let begin = format!("1{at:02}0 a {at} begin \"kind\": \"plain\"");
        let commit =
            format!("1{at:02}1 a {at} commit \"group\": \"g\", \"offsets\": [[\"t\", 0, {at}]]");
        let end = format!("1{at:02}2 a {at} end \"outcome\": \"ok\"");
        lines.extend([begin, commit, end]);
    }
    lines.push("1301 b 1 begin \"kind\": \"plain\"".to_owned());
    lines.push("1302 b 1 fetched \"group\": \"g\", \"offsets\": [[\"t\", 0, 9]]".to_owned());
    lines.push("1303 b 1 end \"outcome\": \"ok\"".to_owned());
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let text = explained(&[&lines]);
    assert!(text.starts_with("OffsetWentBack: "), "{text}");
    assert!(text.contains("b ok from 0.000001 to 0.000001: was told t-0:9 for g\n"), "{text}");
    assert!(text.contains("committed t-0:29 for g"), "{text}");
    assert!(!text.contains("committed t-0:31 for g"), "{text}");
    assert!(text.ends_with("(29 of 41 operations are left out)\n"), "{text}");
}
