//! The whole program, with little of everything, on real sockets.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare-bench"));
    command.args(arguments).arg("--quick").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_table_has_a_row_for_each_contender() {
    let output = bench(&["paced", "floor", "axum"]);
    let table = text(&output.stdout);
    assert!(output.status.success(), "{table}{}", text(&output.stderr));
    assert!(table.starts_with("### paced\n"), "{table}");
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 4, "{table}");
    assert!(rows[2].starts_with("| floor ") && rows[3].starts_with("| axum "));
    for row in &rows[2..] {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        // Before the closing bar: lost, what was wrong, closed.
        assert_eq!(cells[cells.len() - 4..], ["0", "0/0/0", "0", ""], "{row}");
    }
}

#[test]
fn json_is_a_line_for_each_load_and_contender() {
    let output = bench(&[
        "paced", "burst", "stuck", "resume", "floor", "axum", "--json",
    ]);
    let lines = text(&output.stdout);
    assert!(output.status.success(), "{lines}{}", text(&output.stderr));
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let who = |line: &Value| (line["load"].clone(), line["contender"].clone());
    let expected = ["paced", "burst", "resume", "stuck"]
        .map(|load| ["floor", "axum"].map(|contender| (load.into(), contender.into())));
    assert_eq!(lines.iter().map(who).collect::<Vec<_>>(), expected.concat());
    for line in &lines {
        if line["load"] == "resume" {
            assert_eq!(line["status"], "not-applicable", "{line}");
            continue;
        }
        let deliveries = match line["load"].as_str() {
            Some("burst") => 100 * 200,
            _ => 100 * 10,
        };
        assert_eq!(line["status"], "measured", "{line}");
        assert_eq!(line["deliveries"], deliveries, "{line}");
        for none in [
            "lost",
            "duplicated",
            "reordered",
            "corrupt",
            "closed",
            "failed",
        ] {
            assert_eq!(line[none], 0, "{line}");
        }
        let latency = &line["latency_us"];
        assert!(latency["p50"].as_u64() <= latency["max"].as_u64(), "{line}");
        assert!(latency["p50"].as_u64() > Some(0), "{line}");
    }
}

#[test]
fn channels_are_made_and_forgotten() {
    let output = bench(&["crowd", "forget", "soak", "floor", "hub", "--json"]);
    let lines = text(&output.stdout);
    assert!(output.status.success(), "{lines}{}", text(&output.stderr));
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 6);
    let of = |load: &str, contender: &str| {
        let mut lines = lines.iter();
        let is_it = |line: &&Value| line["load"] == load && line["contender"] == contender;
        lines.find(is_it).unwrap()
    };
    assert_eq!(of("forget", "floor")["status"], "not-applicable");
    let forget = of("forget", "hub");
    assert_eq!(forget["channels_at_peak"], 10_000, "{forget}");
    assert!(forget["bytes_per_channel"].as_u64() > Some(0), "{forget}");
    assert!(forget["left_over_bytes"].is_i64(), "{forget}");
    for contender in ["floor", "hub"] {
        let crowd = of("crowd", contender);
        assert_eq!(crowd["deliveries"], 200 * 5, "{crowd}");
        let soak = of("soak", contender);
        assert!(soak["streams_in_all"].as_u64() > Some(40), "{soak}");
        assert!(soak["growth_percent"].is_f64(), "{soak}");
        assert_eq!(soak["lost"], 0, "{soak}");
    }
}

#[test]
fn calls_and_repeats_are_compared_with_what_is_native() {
    let output = bench(&["calls", "hostcall", "paced", "axum", "hub", "--json"]);
    let lines = text(&output.stdout);
    assert!(output.status.success(), "{lines}{}", text(&output.stderr));
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let who: Vec<_> = lines
        .iter()
        .map(|line| (line["load"].as_str(), line["contender"].as_str()))
        .collect();
    // Each load has those contenders that can do such a thing.
    let expected = [
        ("paced", "axum"),
        ("paced", "hub"),
        ("calls", "axum"),
        ("hostcall", "hub"),
    ];
    assert_eq!(who, expected.map(|(load, one)| (Some(load), Some(one))));
    let calls = &lines[2];
    assert!(calls["requests"].as_u64() > Some(100), "{calls}");
    assert_eq!(calls["rate_ratio"], 1.0, "{calls}");
    assert_eq!(calls["failed"], 0, "{calls}");
    let repeats = &lines[3];
    assert_eq!(repeats["events"], 2000, "{repeats}");
    assert!(repeats["ns_per_event"].as_f64() > Some(0.0), "{repeats}");
    assert_eq!(repeats["ns_over_native"], 0.0, "{repeats}");
}

#[test]
fn a_broker_is_beside_its_own_client() {
    let output = bench(&["brokers", "durable-process"]);
    let tables = text(&output.stdout);
    assert!(output.status.success(), "{tables}{}", text(&output.stderr));
    let rows: Vec<Vec<&str>> = tables
        .lines()
        .filter(|line| line.starts_with("| durable-process "))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let [latency, rate] = &rows[..] else {
        panic!("{tables}");
    };
    // After what the bare way is called.
    assert_eq!(latency[4], "INSERT, heard by nobody", "{tables}");
    for figure in latency[2..4]
        .iter()
        .chain(&latency[5..9])
        .chain(&rate[2..5])
    {
        let figure: f64 = figure.parse().unwrap();
        assert!(figure > 0.0, "{tables}");
    }
}

#[test]
fn a_wrong_broker_is_told() {
    let output = bench(&["brokers", "rabbit"]);
    assert!(!output.status.success());
    let error = text(&output.stderr);
    let known = "rabbit is no broker; brokers: redis, nats, postgres, kafka, durable-process";
    assert!(error.contains(known), "{error}");
}

#[test]
fn a_wrong_name_is_told() {
    let output = bench(&["pased"]);
    assert!(!output.status.success());
    let error = text(&output.stderr);
    assert!(
        error.contains("pased is no load and no contender"),
        "{error}"
    );
    assert!(error.contains("durable-streams"), "{error}");
}
