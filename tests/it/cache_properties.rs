//! First properties of a cache, against the loaded libraries.

use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::json;
use wan_host::registry::Registry;
use wan_plugin_api::{FrameLevel, OptionValues};

use crate::stream::{Levels, Rows, Stream, levels};
use crate::support::{choice, demo_model, latent_bits, registry, short_settings};

const CACHES: [&str; 2] = ["teacache", "teacache-half"];

/// Options of a TeaCache, over what users can set.
fn options() -> impl Strategy<Value = OptionValues> {
    let words = (
        prop::sample::select(vec!["e", "e0"]),
        prop::sample::select(vec!["previous", "computed"]),
        prop::sample::select(vec!["updated-frames", "all-frames"]),
        prop::sample::select(vec!["clamp", "reference"]),
    );
    let coefficients =
        prop::sample::select(vec![json!([]), json!([1.3, -0.02]), json!([-4.0, 2.0, 0.01])]);
    let numbers = (0.0f64..0.5, 1u32..4, 0u32..3, 0u32..5);
    (words, coefficients, numbers).prop_map(|(words, coefficients, numbers)| {
        [
            ("mode", json!(words.0)),
            ("anchor", json!(words.1)),
            ("scope", json!(words.2)),
            ("negative", json!(words.3)),
            ("coefficients", coefficients),
            ("threshold", json!(numbers.0)),
            ("retention", json!(numbers.1)),
            ("last", json!(numbers.2)),
            ("max_skips", json!(numbers.3)),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .into()
    })
}

fn config() -> Config {
    Config { cases: 64, failure_persistence: None, ..Config::default() }
}

fn run(registry: &Registry, id: &str, options: &OptionValues, levels: &Levels) -> Stream {
    Stream::new(registry, id, options, levels.len()).run(levels)
}

fn with(options: &OptionValues, name: &str, value: serde_json::Value) -> OptionValues {
    let mut options = options.clone();
    options.insert(name.into(), value);
    options
}

#[test]
fn a_threshold_of_zero_gives_the_bits_of_no_cache() {
    let registry = registry();
    proptest!(config(), |(options in options(), levels in levels())| {
        let off = with(&options, "threshold", json!(0.0));
        // With as many protected evaluations as there are, nothing can be reused.
        let none = with(&options, "retention", json!(1000));
        for id in CACHES {
            let (off, none) = (run(&registry, id, &off, &levels), run(&registry, id, &none, &levels));
            prop_assert_eq!(&off.decisions, &"C".repeat(levels.len()));
            prop_assert_eq!(off.bits(), none.bits());
            prop_assert_eq!(off.held_max, 0);
        }
    });
}

#[test]
fn a_threshold_of_zero_gives_the_bits_of_no_cache_on_the_demo_model() {
    let (pipeline, registry) = (demo_model(), registry());
    let async_forcing =
        choice("diffusion-forcing", &[("ar_step", json!(2)), ("causal_block_size", json!(1))]);
    for sampler in [choice("unipc", &[]), choice("diffusion-forcing", &[]), async_forcing] {
        let mut settings = short_settings();
        settings.sampler = sampler;
        let plain = latent_bits(&pipeline, &registry, &settings);
        for id in CACHES {
            settings.cache = Some(choice(id, &[("threshold", json!(0.0))]));
            assert_eq!(plain, latent_bits(&pipeline, &registry, &settings), "{id}");
        }
    }
}

#[test]
fn protected_evaluations_compute_and_every_evaluation_is_decided() {
    let registry = registry();
    proptest!(config(), |(options in options(), levels in levels())| {
        let (retention, last) = (number(&options, "retention"), number(&options, "last"));
        let max_skips = number(&options, "max_skips");
        for id in CACHES {
            let decisions = run(&registry, id, &options, &levels).decisions;
            let count = levels.len();
            prop_assert_eq!(decisions.len(), count);
            for (index, decision) in decisions.chars().enumerate() {
                if index < retention || index + last >= count {
                    prop_assert_eq!(decision, 'C', "{} at {}", &decisions, index);
                }
            }
            let longest = decisions.split('C').map(str::len).max().unwrap_or(0);
            prop_assert!(max_skips == 0 || longest <= max_skips, "{}", &decisions);
        }
    });
}

fn number(options: &OptionValues, name: &str) -> usize {
    options[name].as_u64().unwrap() as usize
}

#[test]
fn two_branches_in_any_order_decide_as_alone() {
    let registry = registry();
    let order = prop::collection::vec(any::<bool>(), 40);
    proptest!(config(), |(options in options(), a in levels(), b in levels(), order in order)| {
        for id in CACHES {
            let alone = [&a, &b].map(|levels| run(&registry, id, &options, levels));
            let stream = |levels: &Levels| Stream::new(&registry, id, &options, levels.len());
            let mut together = [(stream(&a), &a, 0), (stream(&b), &b, 0)];
            // Whatever the order leaves over comes at the end.
            let rest = [true, false].into_iter().flat_map(|branch| [branch; 40]);
            for branch in order.iter().copied().chain(rest) {
                let (stream, levels, next) = &mut together[usize::from(branch)];
                if *next < levels.len() {
                    stream.evaluate(*next, levels);
                    *next += 1;
                }
            }
            for (alone, (stream, ..)) in alone.iter().zip(&together) {
                prop_assert_eq!(&alone.decisions, &stream.decisions);
                prop_assert_eq!(alone.bits(), stream.bits());
            }
        }
    });
}

#[test]
fn a_halved_residual_decides_the_same_and_is_held_in_half_the_bytes() {
    let registry = registry();
    proptest!(config(), |(options in options(), levels in levels())| {
        let full = run(&registry, "teacache", &options, &levels);
        let half = run(&registry, "teacache-half", &options, &levels);
        prop_assert_eq!(&full.decisions, &half.decisions);
        prop_assert_eq!(&full.measured, &half.measured);
        let both = with(&options, "store", json!("both"));
        let both = run(&registry, "teacache-half", &both, &levels);
        prop_assert!(2 * both.held_max <= full.held_max, "{} {}", both.held_max, full.held_max);
    });
}

#[test]
fn a_halved_signal_moves_the_distance_within_its_bound() {
    let registry = registry();
    // Unit roundoff of bf16.
    let u = 2f64.powi(-8);
    proptest!(config(), |(options in options(), levels in levels())| {
        // Compute always, so that both compare the same pairs.
        let options = with(&options, "retention", json!(1000));
        let options = with(&with(&options, "threshold", json!(0.1)), "coefficients", json!([]));
        let full = run(&registry, "teacache", &options, &levels);
        let options = with(&options, "store", json!("signal"));
        let half = run(&registry, "teacache-half", &options, &levels);
        for (full, half) in full.measured.iter().zip(&half.measured) {
            let (d, d16) = (full[0], half[0]);
            // With A <= B (1 + d), the bound of `HalfMemory`'s documentation.
            let slack = u * (2.0 + d);
            prop_assert!(d16 >= (d - slack) / (1.0 + u), "{d16} against {d}");
            prop_assert!(d16 <= (d + slack) / (1.0 - u), "{d16} against {d}");
        }
    });
}

#[test]
fn one_row_per_timestep_decides_as_one_row_per_token() {
    let registry = registry();
    proptest!(config(), |(options in options(), levels in levels())| {
        let distinct = run(&registry, "teacache", &options, &levels);
        let dense = Stream::new(&registry, "teacache", &options, levels.len())
            .with_rows(Rows::PerToken)
            .run(&levels);
        // Equal in exact arithmetic; a sum that falls on the threshold may round either way.
        let threshold = options["threshold"].as_f64().unwrap();
        let on_the_edge = |m: &Vec<f64>| m.len() == 4 && (m[2] - threshold).abs() < 1e-9;
        prop_assume!(!distinct.measured.iter().any(on_the_edge));
        prop_assert_eq!(&distinct.decisions, &dense.decisions);
        for (a, b) in distinct.measured.iter().flatten().zip(dense.measured.iter().flatten()) {
            prop_assert!((a - b).abs() <= 1e-12 * a.abs().max(1.0), "{a} {b}");
        }
    });
}

#[test]
fn a_cache_holds_what_it_declared_and_no_more() {
    let registry = registry();
    proptest!(config(), |(options in options(), levels in levels())| {
        for id in CACHES {
            for store in ["residual", "signal", "both"] {
                let halved = id == "teacache-half";
                let options =
                    if halved { with(&options, "store", json!(store)) } else { options.clone() };
                let stream = run(&registry, id, &options, &levels);
                prop_assert!(
                    stream.held_max <= stream.declared(),
                    "{id} {store}: {} of {}", stream.held_max, stream.declared()
                );
            }
        }
    });
}

#[test]
fn a_clean_prefix_does_not_dilute_the_distance() {
    let registry = registry();
    // The same falling timesteps, with and without two clean frames in front.
    let first: Levels = (0..12)
        .map(|i| {
            let sigma = |i: i32| 0.999 - 0.08 * f64::from(i);
            (0..3)
                .map(|f| FrameLevel::moving(f, 1000.0 * sigma(i), sigma(i), sigma(i + 1)))
                .collect()
        })
        .collect();
    let mut extension = first.clone();
    for levels in &mut extension {
        for level in &mut levels[..2] {
            *level = FrameLevel::frozen(level.frame, 0.0, 0.0);
        }
    }
    let decisions = |scope: &str, levels: &Levels| {
        let options = [
            ("scope".to_string(), json!(scope)),
            ("threshold".to_string(), json!(0.12)),
            ("max_skips".to_string(), json!(0)),
        ]
        .into();
        run(&registry, "teacache", &options, levels).decisions
    };
    assert_eq!(decisions("updated-frames", &first), decisions("updated-frames", &extension));
    let skips = |scope, levels| decisions(scope, levels).matches('s').count();
    assert!(skips("all-frames", &extension) > skips("all-frames", &first));
}
