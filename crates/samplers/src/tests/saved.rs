//! A solver that goes on from what another one saved.

use wan_plugin_api::state::{Saved, State};
use wan_plugin_api::{ErrorKind, Result, Sampler};
use wan_plugin_kit::SavedBytes;

use super::*;
use crate::{Memory, Solver, UniPc, Uniform};

/// A solver as the state of an object.
struct Held(Box<dyn Solver>);

impl State for Held {
    fn save(&self) -> Result<Saved> {
        let mut saved = Saved::default();
        self.0.save().put("solver", &mut saved)?;
        Ok(saved)
    }

    fn load(&mut self, saved: &mut Saved) -> Result<()> {
        self.0.load(Memory::take("solver", saved)?)
    }
}

impl Held {
    fn bytes(&mut self) -> SavedBytes {
        SavedBytes::save(|id, m| wan_plugin_api::state::answer("held", self, id, m)).unwrap()
    }

    fn load_bytes(&mut self, bytes: &SavedBytes, ops: &VecOps) -> Result<()> {
        bytes.load(ops, |id, m| wan_plugin_api::state::answer("held", self, id, m))
    }
}

/// One step of a solver, with all its evaluations.
fn step(
    solver: &mut dyn Solver,
    table: &SigmaTable,
    index: usize,
    sample: &[f32],
    ops: &VecOps,
) -> Vec<f32> {
    let ask = |sample: &[f32], sigma| ops.tensor(2, &own(sample, sigma, index));
    let (velocity, start) = (ask(sample, table.sigmas[index]), ops.tensor(2, sample));
    let mut moved = solver.step(index, &start, &velocity, ops).unwrap();
    for evaluation in 1..solver.evaluations(index) {
        let there = ask(&values(&moved), table.sigmas[index + 1]);
        moved = solver.correct((index, evaluation), &moved, &there, ops).unwrap();
    }
    values(&moved)
}

proptest! {
    #[test]
    fn whatever_was_saved_a_fresh_solver_goes_on_with_the_same_bits(
        options in any_options(), steps in 1..18u32, shift in 1.0f64..9.0,
    ) {
        let table = options.table(steps, shift).unwrap();
        let fresh = || Held(options.solver(&table, 3).unwrap());
        let (mut whole, whole_ops) = (fresh(), seeded(5));
        let (mut parts, mut parts_ops) = (fresh(), seeded(5));
        let mut sample = vec![0.3, -0.8, 1.1, 0.2];
        for index in 0..table.steps() {
            let moved = step(&mut *whole.0, &table, index, &sample, &whole_ops);
            let again = step(&mut *parts.0, &table, index, &sample, &parts_ops);
            let bits = |elements: &[f32]| elements.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&again), bits(&moved), "step {}", index);
            sample = moved;
            // Nothing is left of the solver and of its tensors but bytes.
            let saved = parts.bytes();
            (parts, parts_ops) = (fresh(), seeded(5));
            parts.load_bytes(&saved, &parts_ops).unwrap();
            prop_assert_eq!(parts.bytes(), saved);
        }
    }
}

/// The numbers of a multistep history after its first step from pure noise.
#[test]
fn a_place_at_minus_infinity_is_written_by_its_bits() {
    let options = options(&[("timesteps", json!("wan"))]);
    let mut table = SigmaTable::clone(&options.table(4, 5.0).unwrap());
    table.sigmas[0] = 1.0;
    let table = Arc::new(table);
    let (mut held, ops) = (Held(options.solver(&table, 0).unwrap()), seeded(1));
    step(&mut *held.0, &table, 0, &[0.3, -0.8], &ops);
    let saved = held.bytes().message(&ops).unwrap().document;
    assert!(saved.contains(r#""places":["fff0000000000000"]"#), "{saved}");
}

#[test]
fn a_memory_of_another_solver_is_refused() {
    let made = |solver: &str, order: u32| {
        let mut options = of(solver);
        options.own.insert("order".into(), json!(order));
        let table = Arc::new(options.levels.table(options.solver.levels(), 6, 5.0).unwrap());
        (Held(options.solver(&table, 0).unwrap()), table)
    };
    let ops = seeded(2);
    let (mut unipc, table) = made("unipc", 3);
    for index in 0..4 {
        step(&mut *unipc.0, &table, index, &[0.3, -0.8], &ops);
    }
    let saved = unipc.bytes();
    for (solver, order, says) in [
        ("euler", 1, "field places: expected at most 0 of this solver"),
        ("unipc", 2, "field places: expected at most 2 of this solver"),
        ("dpm++", 3, "field predicted: expected none"),
    ] {
        let error = made(solver, order).0.load_bytes(&saved, &ops).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.message.contains(says), "{error}");
    }
    // A tensor too few.
    let mut message = saved.message(&ops).unwrap();
    message.document = message.document.replacen(r#""solver","#, "", 1);
    message.tensors.pop();
    let mut fresh = made("unipc", 3).0;
    let error =
        SavedBytes::of(&message).and_then(|bytes| fresh.load_bytes(&bytes, &ops)).unwrap_err();
    assert!(error.message.contains("field solver: expected 4 tensors, got 3"), "{error}");
    // A sampler's state is of its own name.
    let request = wan_plugin_api::SampleRequest {
        frames: 1,
        prefix_frames: 0,
        steps: 4,
        shift: 5.0,
        temporal_scale: 4,
    };
    let mut sampler = Uniform::<UniPc>::new(given(&[("order", json!(2))]), &request).unwrap();
    let error = saved.load(&ops, |id, message| sampler.extension(id, message, &ops)).unwrap_err();
    assert!(error.message.contains("field strategy: expected unipc, got held"), "{error}");
}
