//! What `wan plugins check` tries a library with: a library that writes it down tells.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{error_text, fixture, program};

/// All objects that a test makes, in order, and what the test says.
fn recorded(test: &str, seed: u64) -> (Vec<Value>, String) {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("records");
    let mut command = Command::new(program());
    command.args(["plugins", "check", "--json", "--only", test, "--seed", &seed.to_string()]);
    let output = command.arg(fixture("records")).env("WAN_RECORDS", &records).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let is_it = |f: &&Value| f["test"] == test && f["strategy"] == "records";
    let said = findings.iter().find(is_it).unwrap()["message"].as_str().unwrap().to_string();
    let text = fs::read_to_string(&records).unwrap();
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), said)
}

fn defaults() -> Value {
    json!({
        "switch": false, "wide": 5, "narrow": 1, "share": 0.5, "word": "a", "list": [],
        "document": null,
    })
}

/// What of the options is not at its default.
fn changes(record: &Value) -> Vec<(String, Value)> {
    let options = record["options"].as_object().unwrap();
    let changed = options.iter().filter(|(name, value)| defaults()[name.as_str()] != **value);
    changed.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Every option alone, at each value that a range should be tried at.
fn alone() -> Vec<(String, Value)> {
    let falling: Vec<f64> = (0..=8).map(|step| 1.0 - f64::from(step) / 8.0).collect();
    let of = |name: &str, values: Vec<Value>| {
        values.into_iter().map(|value| (name.to_string(), value)).collect::<Vec<_>>()
    };
    [
        of("switch", vec![json!(true)]),
        of("wide", [-1000, -999, -998, -997, 1_000_000].map(Value::from).into()),
        of("narrow", vec![json!(0), json!(2)]),
        of("share", vec![json!(0.25), json!(0.75)]),
        of("word", vec![json!("b"), json!("c")]),
        of("list", vec![json!(falling)]),
    ]
    .concat()
}

fn values<'a>(records: &'a [Value], name: &str) -> Vec<&'a Value> {
    records.iter().map(|record| &record["options"][name]).collect()
}

/// Asserts that numbers lie in a range, reach both ends and each of its quarters.
fn cover(numbers: &[f64], (min, max): (f64, f64), what: &str) {
    let count = |from: f64, to: f64| numbers.iter().filter(|n| (from..=to).contains(*n)).count();
    assert_eq!(count(min, max), numbers.len(), "{what} out of range: {numbers:?}");
    assert!(count(min, min) >= 5 && count(max, max) >= 5, "{what}: {numbers:?}");
    let width = (max - min) / 4.0;
    for quarter in 0..4 {
        let from = min + width * f64::from(quarter);
        let inside = numbers.iter().filter(|n| **n > from && **n < from + width).count();
        assert!(inside >= 1, "{what}: nothing in quarter {quarter} of {numbers:?}");
    }
}

/// The sets in range, which come first: each option alone, then 200 at random, without those that
/// change nothing.
fn in_range(test: &str, seed: u64) -> (Vec<Value>, Vec<Value>) {
    let (records, said) = recorded(test, seed);
    let all = said.split(' ').next().unwrap().parse::<usize>().unwrap();
    assert_eq!(said, format!("{all} of {all} sets accepted"), "seed {seed}");
    let (sound, absurd) = records.split_at(all);
    (sound.to_vec(), absurd.to_vec())
}

fn check_options(test: &str) {
    let seed = 11;
    let (sound, absurd) = in_range(test, seed);
    let alone = alone();
    let (first, random) = sound.split_at(alone.len());
    let first: Vec<_> = first.iter().flat_map(changes).collect();
    assert_eq!(first, alone, "seed {seed}");
    assert!((150..=200).contains(&random.len()), "{} with seed {seed}", random.len());
    assert!(random.iter().all(|record| !changes(record).is_empty()));

    let floats =
        |name| values(random, name).iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
    cover(&floats("share"), (0.25, 0.75), "share");
    cover(&floats("wide"), (-1_000.0, 1_000_000.0), "wide");
    let near = floats("wide").iter().filter(|n| (-999.0..=-977.0).contains(*n)).count();
    assert!(near >= 5, "near the lower end: {:?}", floats("wide"));
    let distinct =
        |name| values(random, name).iter().map(|v| v.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(distinct("narrow"), ["0", "1", "2"].map(String::from).into());
    assert_eq!(distinct("word"), ["\"a\"", "\"b\"", "\"c\""].map(String::from).into());
    assert_eq!(distinct("switch"), ["false", "true"].map(String::from).into());
    assert_eq!(distinct("document"), ["null".to_string()].into());
    assert!(distinct("share").len() > 20, "{:?}", distinct("share"));
    let lists: Vec<Vec<f64>> = values(random, "list")
        .iter()
        .map(|list| list.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect())
        .collect();
    let lengths: BTreeSet<usize> = lists.iter().map(Vec::len).collect();
    assert_eq!(lengths, (0..6).collect());
    let numbers = lists.concat();
    assert!(numbers.iter().all(|n| (-2.0..2.0).contains(n)), "{numbers:?}");
    assert!(numbers.iter().any(|n| *n > 1.0) && numbers.iter().any(|n| *n < -1.0));
    // Some sets are small, and some change most.
    let counts: Vec<usize> = random.iter().map(|record| changes(record).len()).collect();
    assert!(counts.contains(&1) && counts.iter().any(|count| *count >= 5), "{counts:?}");

    // None, one too many, and ten values that no range has for each of seven options.
    assert_eq!(absurd.len(), 2 + 7 * 10);
    assert_eq!(absurd[0]["options"], json!({}));
    assert_eq!(changes(&absurd[1]), [("there_is_no_such_option".to_string(), json!(1))]);
    for name in ["switch", "wide", "narrow", "share", "word", "list", "document"] {
        let given = values(&absurd[2..], name);
        for value in [json!(i64::MIN), json!(u64::MAX), json!(-1), json!(1e308), json!({ "a": [] })]
        {
            assert!(given.contains(&&value), "{name} was never {value}");
        }
    }
}

#[test]
fn a_samplers_options_are_tried_at_their_ends_and_all_over() {
    check_options("sampler-options");
}

#[test]
fn a_caches_options_are_tried_at_their_ends_and_all_over() {
    check_options("cache-options");
}

fn request(frames: u32, prefix: u32, steps: u32, shift: f64) -> Value {
    json!({
        "frames": frames, "prefix_frames": prefix, "steps": steps, "shift": shift,
        "temporal_scale": 4,
    })
}

#[test]
fn schedules_are_asked_for_at_every_size() {
    let (records, _) = recorded("sampler-schedule", 11);
    let steps = [1, 2, 3, 5, 8, 50, 333, 1000].map(|steps| request(5, 0, steps, 3.0));
    let frames = [1, 2, 5, 21, 81].map(|frames| request(frames, 0, 8, 3.0));
    let shifts = [1.0, 0.2, 17.0].map(|shift| request(5, 0, 8, shift));
    let prefixes = [1, 4].map(|prefix| request(5, prefix, 8, 3.0));
    let long = request(41, 0, 8, 3.0);
    let plain = request(5, 0, 8, 3.0);
    let expected = [&[plain][..], &steps, &frames, &shifts, &prefixes, &[long]].concat();
    let asked: Vec<&Value> = records.iter().map(|record| &record["request"]).collect();
    assert_eq!(asked, expected.iter().collect::<Vec<_>>());
    assert!(records.iter().all(|record| changes(record).is_empty()));
}

#[test]
fn a_scene_is_a_request_of_any_size_with_any_options() {
    let (records, said) = recorded("sampler-frozen", 11);
    assert!(said.ends_with(" frozen frames"), "{said}");
    // 25 requests at the defaults, each option alone with and without a prefix, 150 at random, and
    // two with large frames.
    assert_eq!(records.len(), 25 + 2 * alone().len() + 150 + 2);
    let (plain, rest) = records.split_at(25);
    let number = |record: &Value, name: &str| record["request"][name].as_u64().unwrap();
    let of = |records: &[Value], name: &str| -> BTreeSet<u64> {
        records.iter().map(|record| number(record, name)).collect()
    };
    assert_eq!(plain[0]["request"], request(5, 0, 8, 3.0));
    assert!(plain.iter().all(|record| changes(record).is_empty()));
    assert_eq!(of(plain, "steps"), [1, 2, 3, 4, 5, 6, 7, 8, 13, 20, 50].into());
    assert_eq!(of(plain, "frames"), [1, 2, 3, 5, 7, 9, 12, 21].into());
    assert_eq!(of(plain, "prefix_frames"), [0, 1, 2, 3, 4].into());
    let (each, random) = rest.split_at(2 * alone().len());
    for (pair, alone) in each.chunks(2).zip(alone()) {
        assert_eq!([changes(&pair[0]), changes(&pair[1])], [vec![alone.clone()], vec![alone]]);
        assert_eq!(pair[0]["request"], request(5, 0, 8, 3.0));
        assert_eq!(pair[1]["request"], request(5, 2, 8, 3.0));
    }
    let random = &random[..150];
    assert_eq!(of(random, "frames"), (1..=9).collect());
    assert!(of(random, "steps").len() >= 15 && of(random, "steps").iter().all(|s| *s <= 24));
    assert!(of(random, "prefix_frames").len() >= 5);
    let fits = |r: &Value| {
        let [frames, prefix] = ["frames", "prefix_frames"].map(|name| number(r, name));
        prefix < frames
    };
    assert!(random.iter().all(fits));
    let shifts: BTreeSet<String> =
        random.iter().map(|r| r["request"]["shift"].to_string()).collect();
    assert_eq!(shifts, ["1.0", "3.0", "5.0", "12.0"].map(String::from).into());
    for record in &records[records.len() - 2..] {
        assert!(changes(record).is_empty() && number(record, "prefix_frames") > 0);
    }
}

#[test]
fn a_seed_repeats_every_input_and_another_has_others() {
    for test in ["sampler-options", "sampler-constant", "cache-options", "cache-rules"] {
        let [first, again, other] = [7, 7, 8].map(|seed| recorded(test, seed));
        assert_eq!(first, again, "{test}");
        assert_ne!(first.0, other.0, "{test}");
    }
}

#[test]
fn without_a_seed_one_is_drawn_and_told() {
    let run = |flags: &[&str]| {
        let mut command = Command::new(program());
        command.args(["plugins", "check", "--only", "manifest"]).args(flags);
        let output = command.arg(fixture("records")).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.trim_end().rsplit_once("; seed ").unwrap().1.parse::<u64>().unwrap()
    };
    let drawn: BTreeSet<u64> = (0..8).map(|_| run(&[])).collect();
    assert!(drawn.len() > 1 && drawn.iter().all(|seed| *seed < 1_000_000), "{drawn:?}");
    assert_eq!(run(&["--seed", "18446744073709551615"]), u64::MAX);
    assert_eq!(run(&["--reproduce", "12"]), 12);
}
