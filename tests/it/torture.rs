//! Runs that are killed at random places of their course and go on: twenty kills of
//! `cargo xtask torture`, at places that are counted in what the program writes.

use std::collections::BTreeSet;

use serde_json::Value;
use wan_tests::torture::{CACHES, Ending, Moments, Options, SOLVERS, torture};

use crate::support::{done, program};

fn options(ending: Ending, stops: usize) -> Options {
    let (seed, moments, threads, keep) = (1, Moments::Lines, 2, None);
    Options { program: program(), ending, stops, seed, moments, threads, keep }
}

#[test]
fn runs_that_are_killed_end_with_the_bits_of_quiet_ones() {
    let report = torture(&options(Ending::Kill, 20), &|_| {}).unwrap();
    assert!(report.failures.is_empty(), "{report}");
    assert!(report.stops.len() >= 20 && report.runs >= 10, "{report}");
    let phases: BTreeSet<_> = report.stops.iter().map(|stop| stop.phase).collect();
    assert!(phases.len() >= 3, "{report}");
}

#[test]
fn runs_that_are_interrupted_lose_no_round() {
    let report = torture(&options(Ending::Interrupt, 4), &|_| {}).unwrap();
    assert!(report.failures.is_empty(), "{report}");
    assert_eq!(report.stops.iter().map(|stop| stop.lost).sum::<u64>(), 0, "{report}");
}

#[test]
fn all_strategies_of_the_project_are_tortured() {
    let list: Vec<Value> = serde_json::from_str(&done(&["plugins", "list", "--json"])).unwrap();
    let ids = |kind: &str, is_wanted: &dyn Fn(&Value) -> bool| {
        let plugins = list.iter().filter(|plugin| is_wanted(plugin));
        let found = plugins.flat_map(|p| p["plugin"][kind].as_array().unwrap());
        found.map(|s| s["id"].as_str().unwrap().to_string()).collect::<BTreeSet<_>>()
    };
    let solvers = ids("samplers", &|plugin| plugin["source"]["path"].is_null());
    assert_eq!(solvers, SOLVERS.map(String::from).into());
    let caches = CACHES.iter().map(|(id, _)| id.to_string()).filter(|id| id != "none");
    assert_eq!(ids("caches", &|_| true), caches.collect());
}
