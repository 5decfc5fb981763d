//! Every cache of every plugin keeps the invariants, through its loaded library; and every
//! invariant is known to catch something.

use serde_json::json;
use wan_plugin_api::Choice;
use wan_plugin_kit::{
    CacheUnderTest, Config, Entry, FakeModel, Levels, PROPERTIES, Script, VecOps, check, decisions,
    drive, side_by_side, with_frozen_prefix,
};
use wan_tests::checkout::checkout;
use wan_tests::mutants;

use crate::stream::run_on_host;
use crate::support::{
    choice, demo_model, latent_bits, profile_folder, short_request, with_cache, with_sampler,
};

/// All caches of the project's plugins.
pub(crate) fn subjects() -> Vec<CacheUnderTest> {
    let (_, plugins) = mutants::libraries(&profile_folder()).unwrap();
    mutants::subjects(&plugins).unwrap()
}

fn subject(id: &str) -> CacheUnderTest {
    subjects().into_iter().find(|s| s.id() == id).unwrap()
}

#[test]
fn every_cache_keeps_every_property() {
    let subjects = subjects();
    assert!(subjects.len() >= 10, "{}", subjects.len());
    for subject in subjects {
        let report = check(&subject, &Config::default());
        assert!(report.is_whole(), "{report}");
        let untested: Vec<_> = report.untested().collect();
        assert!(untested.is_empty(), "{untested:?} were never reached:\n{report}");
    }
}

#[test]
fn teacache_keeps_every_property_with_a_polynomial_of_its_own() {
    let config = Config { cases: 96, ..Config::default() };
    for id in ["teacache", "teacache-half"] {
        for coefficients in [json!([1.3, -0.02]), json!([-4.0, 2.0, 0.01])] {
            let report = check(&subject(id).with("coefficients", coefficients), &config);
            assert!(report.is_whole(), "{report}");
        }
    }
}

#[test]
fn what_was_once_found_stays_mended() {
    let subjects = subjects();
    let found = include_str!("cache_properties.regressions");
    for line in found.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let [cache, property, seed, cases] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("not `cache property seed cases`: {line}");
        };
        let subject = subjects.iter().find(|s| s.id() == cache).unwrap();
        let property = PROPERTIES.iter().find(|p| p.name == property).unwrap();
        let config = Config {
            seed: seed.parse().unwrap(),
            cases: cases.parse().unwrap(),
            ..Config::default()
        };
        let finding = property.check_on(subject, &config);
        assert!(finding.broken.is_none(), "{line}: {finding:?}");
    }
}

#[test]
fn every_mutant_is_killed_and_the_page_says_by_what() {
    let (library, plugins) = mutants::libraries(&profile_folder()).unwrap();
    let mut lines = Vec::new();
    let outcomes =
        mutants::run(&library, &plugins, &mutants::config(), &mut |o| lines.push(o.to_string()))
            .unwrap();
    assert!(outcomes.iter().all(|o| o.is_good()), "{}", lines.join("\n"));
    assert!(outcomes.iter().filter(|o| o.defect.is_some()).count() >= 16, "{}", lines.join("\n"));
    for property in PROPERTIES {
        let kills = |o: &&mutants::Outcome| o.defect.is_some() && o.broken.contains(&property.name);
        assert!(outcomes.iter().any(|o| kills(&o)), "{} kills nothing", property.name);
    }
    is_up_to_date("cache-properties.md", &mutants::document(&outcomes));
}

/// Compares a page with what it would be if it were written now.
pub(crate) fn is_up_to_date(page: &str, expected: &str) {
    let path = checkout().join("docs").join(page);
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    // Not `assert_eq`: it would print both pages.
    assert!(found == expected, "docs/{page} is old: `cargo xtask mutants caches --documents docs`");
}

#[test]
fn the_hosts_operations_decide_as_plain_vectors_with_a_row_per_frame_and_per_token() {
    for subject in subjects() {
        for lag in [0.0, 10.0] {
            let mut script = Script::new(side_by_side(3, 20, lag), FakeModel::new(5));
            let framewise = check_on_host(&subject, &script);
            script.model.rows_per_token = true;
            assert_eq!(framewise, check_on_host(&subject, &script), "{}", subject.id());
        }
    }
}

/// The decisions on the host's operations; decisions, tensors and bytes are those on plain vectors.
fn check_on_host(subject: &CacheUnderTest, script: &Script) -> String {
    let cache = subject.create(subject.base(), &script.context()).unwrap();
    let (plain, _) = drive(cache, VecOps::default(), script).unwrap();
    let (host, left) = run_on_host(subject, subject.base(), script);
    assert_eq!(decisions(&plain), decisions(&host), "{}", subject.id());
    assert_eq!(left, 0, "{}", subject.id());
    for (plain, host) in plain.iter().zip(&host) {
        let elements = |e: &Entry| e.reused.as_ref().map(|reused| reused.elements.clone());
        assert_eq!(elements(plain), elements(host), "{}", subject.id());
        assert_eq!(plain.held, host.held, "{}", subject.id());
    }
    decisions(&host)
}

#[test]
fn a_threshold_of_zero_gives_the_bits_of_no_cache_on_the_demo_model() {
    let model = demo_model();
    let async_forcing =
        choice("diffusion-forcing", &[("ar_step", json!(2)), ("causal_block_size", json!(1))]);
    for sampler in [choice("unipc", &[]), choice("diffusion-forcing", &[]), async_forcing] {
        let request = with_sampler(short_request(), sampler);
        let plain = latent_bits(&model, &request);
        for subject in subjects() {
            let cache = choice(subject.id(), &[("threshold", json!(0.0))]);
            let bits = latent_bits(&model, &with_cache(request.clone(), cache));
            assert_eq!(plain, bits, "{}", subject.id());
        }
    }
}

#[test]
fn a_halved_signal_moves_the_distance_within_its_bound() {
    // Unit roundoff of bf16.
    let u = 2f64.powi(-8);
    let halved = subject("teacache-half").with("store", "signal").with("retention", 1000);
    let full = halved.full_width().unwrap().clone().with("retention", 1000);
    for mode in ["e", "e0"] {
        let (halved, full) = (halved.clone().with("mode", mode), full.clone().with("mode", mode));
        for lag in [0.0, 10.0, 35.0] {
            let script = Script::new(side_by_side(3, 40, lag), FakeModel::new(0));
            // Everything computes, so that both compare the same pairs.
            let (half, _) = run_on_host(&halved, halved.base(), &script);
            let (full, _) = run_on_host(&full, full.base(), &script);
            assert!(half.iter().all(|e| e.choice == Choice::Compute));
            for (full, half) in full.iter().zip(&half) {
                let (d, d16) = (full.measured[0], half.measured[0]);
                // With A <= B (1 + d), the bound of `HalfMemory`'s documentation.
                let slack = u * (2.0 + d);
                assert!(d16 >= (d - slack) / (1.0 + u), "{d16} against {d}");
                assert!(d16 <= (d + slack) / (1.0 - u), "{d16} against {d}");
            }
        }
    }
}

#[test]
fn a_clean_prefix_dilutes_the_distance_where_all_frames_count() {
    // The same falling timesteps, with and without two clean frames in front.
    let first = side_by_side(1, 24, 0.0);
    let extension = with_frozen_prefix(&first, 2, 0.0);
    let skips = |scope: &str, levels: &Levels| {
        let cache = subject("teacache").with("scope", scope).with("threshold", 0.12);
        let cache = cache.with("max_skips", 0);
        let script = Script::new(levels.clone(), FakeModel::new(0));
        decisions(&run_on_host(&cache, cache.base(), &script).0).matches('s').count()
    };
    assert_eq!(skips("updated-frames", &first), skips("updated-frames", &extension));
    assert!(skips("all-frames", &extension) > skips("all-frames", &first));
}
