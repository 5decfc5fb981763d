//! The random inputs of the property kit: what they reach, and that a seed repeats them.

use std::collections::BTreeSet;
use std::sync::Mutex;

use wan_plugin_api::library::Library;
use wan_plugin_api::{
    Cache, CacheContext, CachePlan, DType, Decision, Evaluation, OptionSpec, OptionValues, Place,
    Result, Tensor, TensorOps,
};
use wan_plugin_kit::{CacheUnderTest, Config, Levels, PROPERTIES};

/// What the cache below was made with and shown, in order.
static SHOWN: Mutex<Vec<Shown>> = Mutex::new(Vec::new());

/// Options, context, and the levels of each evaluation.
type Shown = (OptionValues, CacheContext, Levels);

/// Writes down its options, its stream and the levels that it sees.
struct Writes;

impl Cache for Writes {
    type Options = OptionValues;
    const ID: &'static str = "writes";
    const DOC: &'static str = "writes down what it is shown";

    fn options() -> Vec<OptionSpec> {
        vec![
            OptionSpec::bool("switch", false, "a switch"),
            OptionSpec::int("wide", 1, (0, 1000), "a whole number"),
            OptionSpec::int("narrow", 1, (0, 2), "a whole number of a few"),
            OptionSpec::float("share", 0.5, (0.25, 100.0), "a number"),
            OptionSpec::choice("word", &["a", "b", "c"], "a word"),
            OptionSpec::float_list("list", "numbers"),
        ]
    }

    fn new(options: OptionValues, context: &CacheContext) -> Result<Self> {
        SHOWN.lock().unwrap().push((options, context.clone(), Vec::new()));
        Ok(Self)
    }

    fn plan(&self) -> CachePlan {
        CachePlan::default()
    }

    fn decide(&mut self, evaluation: &Evaluation<'_>, _: &dyn TensorOps) -> Result<Decision> {
        let levels = evaluation.levels.to_vec();
        SHOWN.lock().unwrap().last_mut().unwrap().2.push(levels);
        Ok(Decision::compute_and_forget())
    }

    fn store(&mut self, _: &Tensor, _: &dyn TensorOps) -> Result<()> {
        Ok(())
    }
}

wan_plugin_api::plugin! { struct Writing { samplers: [], caches: [Writes] } }

#[test]
fn random_inputs_reach_what_they_should_and_a_seed_repeats_them() {
    let subject = CacheUnderTest::new(Library::built_in::<Writing>(), "writes").unwrap();
    let first = PROPERTIES.iter().find(|property| property.name == "first").unwrap();
    let run = |seed: u64| {
        SHOWN.lock().unwrap().clear();
        let config = Config { cases: 256, seed, ..Config::default() };
        let finding = first.check_on(&subject, &config);
        assert_eq!(finding.held, 256, "seed {seed}");
        // Each case makes two objects: one for its plan, and one that runs.
        let mut shown = std::mem::take(&mut *SHOWN.lock().unwrap());
        assert_eq!(shown.len(), 512, "seed {seed}");
        shown.retain(|(_, _, levels)| !levels.is_empty());
        shown
    };
    let shown = run(17);
    assert_eq!(shown, run(17));
    assert_ne!(shown, run(18));
    assert_eq!(shown.len(), 256);

    let count = |holds: &dyn Fn(&CacheContext) -> bool| {
        shown.iter().filter(|(_, context, _)| holds(context)).count()
    };
    for frames in 1..=3 {
        assert!(count(&|c| c.frames == frames) > 25, "{frames} frames");
    }
    assert_eq!(count(&|c| (1..=3).contains(&c.frames)), 256);
    assert!(count(&|c| c.dtype == DType::F32) > 85 && count(&|c| c.dtype == DType::BF16) > 85);
    assert!(count(&|c| c.keep == Place::Device) > 85 && count(&|c| c.keep == Place::Host) > 85);
    assert_eq!(count(&|c| (5..=20).contains(&c.evaluations)), 256);
    assert!(count(&|c| c.evaluations <= 6) > 5 && count(&|c| c.evaluations >= 15) > 5);
    for (_, context, levels) in &shown {
        assert_eq!(levels.len(), context.evaluations as usize);
        assert!(levels.iter().all(|l| l.len() == context.frames as usize));
        assert!(levels[0].iter().any(|l| l.update && l.timestep == 999.0), "{levels:?}");
        for level in levels.iter().flatten().filter(|l| l.update && l.sigma_next > 0.0) {
            let fall = ((level.sigma - level.sigma_next) * 1000.0).round();
            assert!((20.0..180.0).contains(&fall), "{level:?}");
        }
    }
    let paces = shown.iter().filter(|(_, c, _)| c.timesteps_max > 1).count();
    assert!(paces > 50 && paces < 206, "{paces} with frames at levels of their own");

    let base = subject.base();
    let plain = shown.iter().filter(|(options, ..)| options == base).count();
    assert!((26..128).contains(&plain), "{plain} at the subject's own options");
    let values = |name: &str| -> Vec<&serde_json::Value> {
        shown.iter().map(|(options, ..)| &options[name]).collect()
    };
    let words = |name: &str| values(name).iter().map(|v| v.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(words("switch"), ["false", "true"].map(String::from).into());
    assert_eq!(words("wide"), (0..=6).map(|n| n.to_string()).collect());
    assert_eq!(words("narrow"), (0..=2).map(|n| n.to_string()).collect());
    assert_eq!(words("word"), ["\"a\"", "\"b\"", "\"c\""].map(String::from).into());
    assert_eq!(words("list"), ["[]".to_string()].into());
    // Its own size times a power of two from -3 to 4, or of size one; in range.
    let shares: Vec<f64> = values("share").iter().map(|v| v.as_f64().unwrap()).collect();
    assert!(shares.iter().all(|share| (0.25..=8.0).contains(share)), "{shares:?}");
    let count = |from: f64, to: f64| shares.iter().filter(|s| (from..=to).contains(*s)).count();
    assert!(count(0.25, 0.25) > 20 && count(0.26, 0.49) > 2 && count(0.51, 1.0) > 5);
    assert!(count(1.0, 4.0) > 5 && count(4.0, 8.0) > 2, "{shares:?}");
}
