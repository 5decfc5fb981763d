//! The parts of the property kit: streams, levels, and what a cache that breaks a rule is told.

use serde_json::json;
use wan_plugin_api::library::Library;
use wan_plugin_api::{
    Cache, CacheContext, CachePlan, Choice, Decision, Evaluation, Gate, OptionSpec, OptionValues,
    Place, Protects, Result, Rule, Signal, Tensor, TensorOps,
};
use wan_plugin_kit::{
    CacheUnderTest, Config, FakeModel, Fall, PROPERTIES, Property, Script, VecOps, check,
    decisions, drive, falling, side_by_side, table, with_frozen_prefix,
};

#[test]
fn frames_fall_at_their_own_pace_and_rest_before_and_after() {
    let falls =
        [Fall { start: 2, by: vec![100, 200] }, Fall { start: 3, by: vec![50, 50, 900, 10] }];
    let levels = falling(&falls);
    // The first begins at once; the second one evaluation later, and never falls below 0.
    let timesteps: Vec<Vec<f64>> =
        levels.iter().map(|l| l.iter().map(|l| l.timestep).collect()).collect();
    assert_eq!(
        timesteps,
        [[999.0, 999.0], [899.0, 999.0], [699.0, 949.0], [699.0, 899.0], [699.0, 0.0]]
    );
    let moves: Vec<Vec<bool>> =
        levels.iter().map(|l| l.iter().map(|l| l.update).collect()).collect();
    assert_eq!(moves, [[true, false], [true, true], [false, true], [false, true], [false, true]]);
    assert_eq!((levels[0][0].sigma, levels[0][0].sigma_next), (0.999, 0.899));
    assert!(levels.iter().all(|l| l[0].frame == 0 && l[1].frame == 1));
}

#[test]
fn frames_that_rest_in_front_rest_at_the_level_of_their_timestep() {
    let moving = falling(&[Fall { start: 0, by: vec![100, 200] }]);
    for timestep in [0.0, 40.0] {
        let levels = with_frozen_prefix(&moving, 2, timestep);
        assert_eq!(levels.len(), moving.len());
        for (whole, alone) in levels.iter().zip(&moving) {
            let places: Vec<u32> = whole.iter().map(|l| l.frame).collect();
            assert_eq!(places, [0, 1, 2]);
            for rest in &whole[..2] {
                let sigma = timestep / 1000.0;
                assert!(!rest.update);
                assert_eq!((rest.timestep, rest.sigma, rest.sigma_next), (timestep, sigma, sigma));
            }
            let (own, before) = (&whole[2], &alone[0]);
            assert_eq!((own.update, own.timestep), (before.update, before.timestep));
            assert_eq!((own.sigma, own.sigma_next), (before.sigma, before.sigma_next));
        }
    }
}

#[test]
#[should_panic(expected = "invariants of a cache do not hold")]
fn a_plugin_with_a_cache_that_breaks_a_rule_does_not_pass() {
    wan_plugin_kit::check_caches::<One>();
}

#[test]
fn side_by_side_has_equally_many_levels_everywhere() {
    let levels = side_by_side(3, 10, 5.0);
    assert_eq!(levels.len(), 10);
    for (evaluation, levels) in levels.iter().enumerate() {
        let first = 999.0 - 90.0 * evaluation as f64;
        let expected = [first, first - 5.0, first - 10.0];
        assert_eq!(levels.iter().map(|l| l.timestep).collect::<Vec<_>>(), expected);
        assert!(levels.iter().all(|l| l.update && (l.change() + 0.09).abs() < 1e-12));
    }
    let behind = with_frozen_prefix(&levels, 2, 40.0);
    assert!(behind.iter().all(|l| l.len() == 5 && !l[1].update && l[1].timestep == 40.0));
    assert!(behind.iter().all(|l| l.iter().map(|l| l.frame).eq(0..5)));
    assert_eq!(behind[3][2].timestep, levels[3][0].timestep);
}

#[test]
fn a_script_tells_a_cache_what_is_to_come() {
    let script =
        Script::new(falling(&vec![Fall { start: 0, by: vec![9; 4] }; 2]), FakeModel::new(1));
    let context = script.context();
    assert_eq!((context.evaluations, context.steps, context.frames), (4, 4, 2));
    assert_eq!((context.timesteps_max, context.frame_tokens), (1, 2));
    assert_eq!((context.branch.as_str(), context.keep), ("cond", Place::Device));
    let script = Script::new(side_by_side(3, 7, 5.0), FakeModel::new(1));
    assert_eq!((script.context().timesteps_max, script.context().steps), (3, 7));
}

/// What a cache below does.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Nothing is wrong; numbers are shown where it reuses.
    Sound,
    /// The sum is not reset where it is not shown.
    NotReset,
    /// A reuse shows no number.
    Unmeasured,
    /// A reuse at its limit.
    AtTheLimit,
}

/// Adds up one for each evaluation, and reuses below a limit of three.
struct Counting<const WAY: usize> {
    kept: Option<Tensor>,
    sum: f64,
    bytes: u64,
}

const WAYS: [Way; 4] = [Way::Sound, Way::NotReset, Way::Unmeasured, Way::AtTheLimit];

#[derive(serde::Deserialize)]
struct NoOptions {}

impl<const WAY: usize> Cache for Counting<WAY> {
    type Options = NoOptions;
    const ID: &'static str = "counting";
    const DOC: &'static str = "reuses while a sum is below its limit";

    fn new(_: NoOptions, context: &CacheContext) -> Result<Self> {
        Ok(Self { kept: None, sum: 0.0, bytes: context.residual_bytes() })
    }

    fn plan(&self) -> CachePlan {
        let gate = Gate { measure: "sum".into(), step: Some("step".into()), below: 3.0 };
        let rule = Rule { gate: Some(gate), ..Rule::default() };
        let measures = vec!["step".into(), "sum".into()];
        CachePlan {
            schedule_only: true,
            bytes_max: self.bytes,
            measures,
            rule,
            ..Default::default()
        }
    }

    fn decide(&mut self, evaluation: &Evaluation<'_>, _: &dyn TensorOps) -> Result<Decision> {
        let way = WAYS[WAY];
        let limit = if way == Way::AtTheLimit { 4.0 } else { 3.0 };
        let fits = |kept: &&Tensor| kept.form().same_shape(evaluation.computes);
        let kept = self.kept.as_ref().filter(fits).cloned();
        self.sum += 1.0;
        match kept {
            Some(kept) if self.sum < limit => {
                let decision = Decision::reuse(kept);
                let measured = vec![1.0, self.sum];
                Ok(if way == Way::Unmeasured { decision } else { decision.measured(measured) })
            }
            _ => {
                self.sum = if way == Way::NotReset { -self.sum } else { 0.0 };
                Ok(Decision::compute())
            }
        }
    }

    fn store(&mut self, computed: &Tensor, _: &dyn TensorOps) -> Result<()> {
        self.kept = Some(computed.clone());
        Ok(())
    }
}

wan_plugin_api::plugin! { struct Zero { samplers: [], caches: [Counting<0>] } }
wan_plugin_api::plugin! { struct One { samplers: [], caches: [Counting<1>] } }
wan_plugin_api::plugin! { struct Two { samplers: [], caches: [Counting<2>] } }
wan_plugin_api::plugin! { struct Three { samplers: [], caches: [Counting<3>] } }

fn property(name: &str) -> &'static Property {
    PROPERTIES.iter().find(|p| p.name == name).unwrap()
}

fn subject(library: Library, id: &str) -> CacheUnderTest {
    CacheUnderTest::new(library, id).unwrap()
}

/// What is wrong with the cache's gate.
fn gate_of(library: Library) -> Option<String> {
    let config = Config { cases: 24, ..Config::default() };
    let finding = property("gate").check_on(&subject(library, "counting"), &config);
    assert!(finding.held > 0 || finding.broken.is_some(), "{finding:?}");
    finding.broken.map(|broken| broken.message)
}

#[test]
fn a_computed_evaluation_resets_the_sum_whether_it_is_measured_or_not() {
    assert_eq!(gate_of(Library::built_in::<Zero>()), None);
    let wrong = gate_of(Library::built_in::<One>()).unwrap();
    assert!(wrong.contains("and its steps add up to"), "{wrong}");
    let wrong = gate_of(Library::built_in::<Two>()).unwrap();
    assert!(wrong.contains("was reused without a number"), "{wrong}");
    let wrong = gate_of(Library::built_in::<Three>()).unwrap();
    assert!(wrong.contains("reused at 3, the limit is 3"), "{wrong}");
}

#[test]
fn a_sound_cache_is_whole_and_its_report_counts_every_case() {
    let config = Config { cases: 20, seed: 6, ..Config::default() };
    let report = check(&subject(Library::built_in::<Zero>(), "counting"), &config);
    assert!(report.is_whole(), "{report}");
    assert_eq!(report.findings.len(), PROPERTIES.len());
    for finding in &report.findings {
        let all = finding.held + finding.exempt + finding.unmet + finding.refused;
        assert_eq!(all, 20, "{finding:?}");
    }
    let of = |name: &str| report.findings.iter().find(|f| f.property.name == name).unwrap();
    // No option `threshold`, and no number that would be compared.
    assert_eq!(of("off").unmet, 20);
    // It declares that it reads nothing, and that one branch is like the other.
    assert_eq!((of("spoilt").exempt, of("follower").exempt), (20, 20));
    assert_eq!((of("repeats").held, of("first").held), (20, 20));
    let untested: Vec<&str> = report.untested().map(|p| p.name).collect();
    assert!(untested.contains(&"off") && !untested.contains(&"spoilt"), "{untested:?}");
    assert!(!untested.contains(&"repeats"));
    let line = "counting first: held 20, exempt 0, unmet 0, refused 0";
    assert!(report.to_string().lines().any(|l| l == line), "{report}");
}

#[test]
fn a_stream_writes_down_what_a_cache_did() {
    let script = Script::new(side_by_side(2, 7, 0.0), FakeModel::new(3));
    let subject = subject(Library::built_in::<Zero>(), "counting");
    let cache = subject.create(subject.base(), &script.context()).unwrap();
    let (log, left) = drive(cache, VecOps::default(), &script).unwrap();
    // It keeps the first, reuses at 1 and 2, and computes at 3.
    assert_eq!(decisions(&log), "CssCssC");
    assert_eq!(left, 0);
    for (index, entry) in log.iter().enumerate() {
        // Two frames of two tokens of four numbers of four bytes.
        assert_eq!(entry.held, 64, "{index}");
        assert_eq!((entry.misplaced, entry.kept), (0, index % 3 == 0));
        let reused = entry.reused.as_ref().map(|r| r.elements.clone());
        let source = log[index - index % 3].computed.clone();
        assert_eq!(reused, (entry.choice == Choice::Reuse).then_some(source));
        let sum = (index % 3) as f64;
        assert_eq!(entry.measured, if index % 3 == 0 { vec![] } else { vec![1.0, sum] });
    }
    assert_ne!(log[0].computed, log[1].computed);
}

/// A cache whose every answer is told by its options.
struct Told {
    options: OptionValues,
    kept: Option<Tensor>,
    bytes: u64,
}

impl Told {
    fn number(&self, name: &str) -> u32 {
        self.options.get(name).and_then(|value| value.as_u64()).unwrap_or(0) as u32
    }
}

impl Cache for Told {
    type Options = OptionValues;
    const ID: &'static str = "told";
    const DOC: &'static str = "protects as many evaluations as it is told, and declares others";

    fn options() -> Vec<OptionSpec> {
        ["retention", "last", "max_skips"]
            .map(|name| OptionSpec::int(name, 2, (0, 4), "a number of evaluations"))
            .into_iter()
            .chain([OptionSpec::int("less", 0, (0, 0), "evaluations that are protected too few")])
            .collect()
    }

    fn new(options: OptionValues, context: &CacheContext) -> Result<Self> {
        Ok(Self { options, kept: None, bytes: context.residual_bytes() })
    }

    fn plan(&self) -> CachePlan {
        let [first, last, reuses_max] =
            ["retention", "last", "max_skips"].map(|name| self.number(name));
        let protects = Some(Protects { first, last, reuses_max });
        let rule = Rule { protects, ..Rule::default() };
        CachePlan { schedule_only: true, bytes_max: self.bytes, rule, ..CachePlan::default() }
    }

    fn decide(&mut self, evaluation: &Evaluation<'_>, _: &dyn TensorOps) -> Result<Decision> {
        let less = self.number("less");
        let is_protected = evaluation.index + less < self.number("retention")
            || evaluation.remaining + less < self.number("last");
        let fits = |kept: &Tensor| kept.form().same_shape(evaluation.computes);
        // Every other one at most, which no limit above 0 forbids.
        let kept = self.kept.take().filter(fits).filter(|_| !is_protected);
        Ok(kept.map_or_else(Decision::compute, Decision::reuse))
    }

    fn store(&mut self, computed: &Tensor, _: &dyn TensorOps) -> Result<()> {
        self.kept = Some(computed.clone());
        Ok(())
    }
}

wan_plugin_api::plugin! { struct Telling { samplers: [], caches: [Told] } }

#[test]
fn protected_evaluations_are_counted_to_the_last_one() {
    let config = Config { cases: 64, ..Config::default() };
    let told = subject(Library::built_in::<Telling>(), "told");
    let sound = property("limits").check_on(&told, &config);
    assert!(sound.broken.is_none() && sound.held == 64, "{sound:?}");
    let less = property("limits").check_on(&told.clone().with("less", json!(1)), &config);
    let wrong = less.broken.map(|broken| broken.message).unwrap_or_default();
    assert!(wrong.contains("against Protects"), "{wrong}");
}

#[test]
fn a_table_has_a_line_for_every_property() {
    let page = table(|name| if name == "gate" { vec!["a".into(), "b".into()] } else { vec![] });
    let lines: Vec<&str> = page.lines().collect();
    assert_eq!(lines.len(), 2 + PROPERTIES.len());
    let gate = lines.iter().find(|line| line.starts_with("| `gate` | ")).unwrap();
    assert!(gate.ends_with("| something is reused | no `rule.gate` | `a`, `b` |"), "{gate}");
    let first = lines.iter().find(|line| line.starts_with("| `first` | ")).unwrap();
    assert_eq!(*first, "| `first` | The first evaluation computes. | always | nothing |  |");
}

#[test]
fn signals_that_say_nothing_are_spoilt_where_it_was_said() {
    use wan_plugin_kit::Spoilt;
    /// Writes down the sums of what it is shown.
    struct Looks;
    impl Cache for Looks {
        type Options = NoOptions;
        const ID: &'static str = "looks";
        const DOC: &'static str = "measures the hidden states";
        fn new(_: NoOptions, _: &CacheContext) -> Result<Self> {
            Ok(Self)
        }
        fn plan(&self) -> CachePlan {
            CachePlan { reads: vec![Signal::Hidden], ..CachePlan::default() }
        }
        fn decide(&mut self, e: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision> {
            let sums = ops.frame_abs_sums(e.signal(Signal::Hidden)?)?;
            Ok(Decision::compute_and_forget().measured(sums))
        }
        fn store(&mut self, _: &Tensor, _: &dyn TensorOps) -> Result<()> {
            Ok(())
        }
    }
    wan_plugin_api::plugin! { struct Looking { samplers: [], caches: [Looks] } }
    let subject = subject(Library::built_in::<Looking>(), "looks");
    let sums = |spoilt| {
        let mut script = Script::new(side_by_side(2, 4, 0.0), FakeModel::new(3));
        script.model.spoilt = spoilt;
        let cache = subject.create(subject.base(), &script.context()).unwrap();
        let (log, _) = drive(cache, VecOps::default(), &script).unwrap();
        log.into_iter().map(|entry| entry.measured).collect::<Vec<_>>()
    };
    let plain = sums(None);
    assert!(plain.iter().flatten().all(|sum| sum.is_finite() && *sum > 0.0), "{plain:?}");
    type Is = fn(f64) -> bool;
    let ways: [(Spoilt, Is); 3] = [
        (Spoilt::Zero, |sum| sum == 0.0),
        (Spoilt::NotANumber, f64::is_nan),
        (Spoilt::Infinite, f64::is_infinite),
    ];
    for (how, is) in ways {
        let spoilt = sums(Some((2, how)));
        assert!(spoilt[2].iter().all(|sum| is(*sum)), "{how:?}: {spoilt:?}");
        for other in [0, 1, 3] {
            assert_eq!(spoilt[other], plain[other], "{how:?}");
        }
    }
}
