//! The kit against a cache that keeps to everything, and one that does not.

use wan_plugin_api::library::Library;
use wan_plugin_api::{
    Cache, CacheContext, CachePlan, Decision, DecisionPoint, Evaluation, Replaces, Result, Rule,
    Tensor, TensorOps,
};

use crate::{CacheUnderTest, Config, check, check_caches};

#[derive(serde::Deserialize)]
struct Options {}

/// Every other evaluation; a bad one begins with a reuse of what it is given nothing for.
struct Alternating<const GOOD: bool>(Option<Tensor>);

impl<const GOOD: bool> Cache for Alternating<GOOD> {
    type Options = Options;
    const ID: &'static str = if GOOD { "good" } else { "leaky" };
    const DOC: &'static str = "computes every other evaluation";

    fn new(_: Options, _: &CacheContext) -> Result<Self> {
        Ok(Self(None))
    }

    fn plan(&self) -> CachePlan {
        CachePlan {
            decides: DecisionPoint::BeforeBlocks,
            reads: Vec::new(),
            replaces: Replaces::Residual,
            shared_decision: false,
            schedule_only: true,
            bytes_max: if GOOD { 1 << 20 } else { 0 },
            measures: Vec::new(),
            rule: Rule::default(),
        }
    }

    fn decide(&mut self, evaluation: &Evaluation<'_>, _: &dyn TensorOps) -> Result<Decision> {
        let needed = evaluation.computes;
        let fits = |kept: &Tensor| kept.form().same_shape(needed);
        Ok(self.0.take().filter(fits).map_or_else(Decision::compute, Decision::reuse))
    }

    fn store(&mut self, computed: &Tensor, _: &dyn TensorOps) -> Result<()> {
        self.0 = Some(computed.clone());
        Ok(())
    }
}

wan_plugin_api::plugin! { struct Bad { samplers: [], caches: [Alternating<false>] } }

#[test]
fn a_cache_that_holds_more_than_it_declared_is_found_and_found_again() {
    let subject = CacheUnderTest::new(Library::built_in::<Bad>(), "leaky").unwrap();
    let config = Config { cases: 8, seed: 3, ..Config::default() };
    let [first, again] = [0, 1].map(|_| check(&subject, &config));
    let names: Vec<&str> = first.broken().map(|(property, _)| property.name).collect();
    assert_eq!(names, ["declared", "exact"], "{first}");
    assert_eq!(first.to_string(), again.to_string());
    assert!(first.to_string().contains("again with Config { seed: 3, cases: 8,"), "{first}");
}

mod in_one_line {
    use super::*;

    wan_plugin_api::plugin! { struct MyPlugin { samplers: [], caches: [Exact] } }

    /// [`Alternating`] with its true bytes.
    struct Exact(Alternating<true>, u64);

    impl Cache for Exact {
        type Options = Options;
        const ID: &'static str = "exact";
        const DOC: &'static str = "declares what it holds";

        fn new(options: Options, context: &CacheContext) -> Result<Self> {
            Ok(Self(Alternating::new(options, context)?, context.residual_bytes()))
        }

        fn plan(&self) -> CachePlan {
            CachePlan { bytes_max: self.1, ..self.0.plan() }
        }

        fn decide(&mut self, e: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision> {
            self.0.decide(e, ops)
        }

        fn store(&mut self, computed: &Tensor, ops: &dyn TensorOps) -> Result<()> {
            self.0.store(computed, ops)
        }
    }

    #[test]
    fn a_third_party_checks_its_caches() {
        check_caches::<MyPlugin>();
    }
}
