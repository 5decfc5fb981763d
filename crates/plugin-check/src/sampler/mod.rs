//! Samplers, over plain vectors and a model that is a closure.

mod constant;
mod handover;
mod run;
mod scene;
mod state;
mod steady;
mod stream;
mod trouble;

use super::outcome::Checked;
use super::subject::Subject;
use super::test::Test;

pub(super) use run::Run;

pub(super) fn check(test: Test, subject: &Subject) -> Checked {
    match test {
        Test::SamplerSchedule => steady::schedule(subject),
        Test::SamplerShapes => steady::shapes(subject),
        Test::SamplerFrozen => steady::frozen(subject),
        Test::SamplerConstant => constant::constant(subject),
        Test::SamplerHandover => handover::handover(subject),
        Test::SamplerDeterminism => stream::determinism(subject),
        Test::SamplerInstances => stream::instances(subject),
        Test::SamplerHandles => stream::handles(subject),
        Test::SamplerCost => stream::cost(subject),
        Test::SamplerState => state::state(subject),
        Test::SamplerNumbers => trouble::numbers(subject),
        _ => trouble::errors(subject),
    }
}
