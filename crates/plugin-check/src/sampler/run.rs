//! One request, carried from noise to clean.

use wan_plugin_api::library::SamplerInstance;
use wan_plugin_api::{
    Denoise, Error, FrameLevel, Result, Round, SampleRequest, Schedule, Step, Tensor, TensorForm,
    TensorOps,
};
use wan_plugin_kit::{ModelFn, SavedBytes, VecOps, values};

use crate::dice::Dice;

/// Elements of a frame, unless a test says otherwise: odd, and more than a vector unit takes.
pub(super) const FRAME_ELEMENTS: usize = 37;

/// A model: the sample's elements and the frames' levels to velocity.
pub(super) type Velocity<'a> = dyn FnMut(&[f32], &[FrameLevel]) -> Vec<f32> + 'a;

/// A sampler, its schedule, and where it stands.
pub(crate) struct Run {
    sampler: SamplerInstance,
    pub(super) schedule: Schedule,
    pub(super) sample: Tensor,
    pub(super) ops: VecOps,
    next: usize,
    evaluation: u32,
}

/// The frames of a round before and after it.
pub(super) struct Moved {
    pub(super) round: Round,
    pub(super) before: Vec<f32>,
    pub(super) after: Tensor,
    pub(super) evaluations: u32,
}

impl Run {
    /// At its beginning, with noise of `seed`.
    pub(crate) fn new(
        sampler: SamplerInstance,
        request: &SampleRequest,
        seed: u64,
    ) -> Result<Self> {
        Self::of_elements(sampler, request, seed, FRAME_ELEMENTS)
    }

    pub(super) fn of_elements(
        sampler: SamplerInstance,
        request: &SampleRequest,
        seed: u64,
        frame_elements: usize,
    ) -> Result<Self> {
        let schedule = sampler.whole_schedule()?;
        // A part of a schedule need not end clean.
        schedule.ends(request.frames as usize, request.prefix_frames as usize)?;
        let mut ops = VecOps::default();
        ops.seed = seed;
        let frames = request.frames as usize;
        let noise = Dice::new(seed, "noise").sample(frames * frame_elements);
        let sample = ops.tensor(frames, &noise);
        Ok(Self { sampler, schedule, sample, ops, next: 0, evaluation: 0 })
    }

    pub(super) fn is_over(&self) -> bool {
        self.next == self.schedule.rounds.len()
    }

    /// The round that comes next; there is one until the run is over.
    pub(super) fn upcoming(&self) -> Round {
        self.schedule.rounds[self.next].clone()
    }

    /// Rounds so far.
    pub(super) fn rounds_done(&self) -> usize {
        self.next
    }

    /// Bytes that the sampler holds.
    pub(super) fn held(&self) -> u64 {
        self.ops.live_bytes().saturating_sub(self.sample.form().bytes)
    }

    /// The next round, asking the smooth model.
    pub(super) fn round(&mut self) -> Result<Moved> {
        self.round_of(&mut smooth)
    }

    /// The next round, asking `velocity`.
    pub(super) fn round_of(&mut self, velocity: &mut Velocity<'_>) -> Result<Moved> {
        // Handles count where their tensors were made, and the model makes some.
        let ops = std::mem::take(&mut self.ops);
        let mut model = ModelFn::new(&ops, velocity);
        let moved = self.round_with(&mut model, &ops);
        let evaluations = model.evaluations;
        self.ops = ops;
        moved.map(|moved| Moved { evaluations, ..moved })
    }

    /// The next round, asking any model.
    pub(super) fn round_with<D: Denoise>(&mut self, model: &mut D, ops: &VecOps) -> Result<Moved> {
        let round = self.schedule.rounds[self.next].clone();
        let step = Step {
            index: self.next,
            evaluation: self.evaluation,
            evaluations_left: self.schedule.evaluations() - self.evaluation,
            round: &round,
        };
        let (first, frames) = (round.first_frame(), round.len());
        let window = ops.narrow_frames(&self.sample, first, frames)?;
        let after = self.sampler.step(&window, &step, model, ops)?;
        same_form(&window, &after)?;
        self.sample = replaced(ops, &self.sample, first, &after)?;
        self.next += 1;
        self.evaluation += round.evaluations;
        Ok(Moved { before: values(&window), after, evaluations: 0, round })
    }

    /// The same run, as another process goes on with it: a sampler that was just made, and nothing
    /// of this one but bytes.
    pub(super) fn resumed(mut self, mut fresh: SamplerInstance) -> Result<Self> {
        let saved = SavedBytes::save(|id, message| self.sampler.extension(id, message, &self.ops))?;
        let (frames, elements) = (self.sample.form().frames as usize, values(&self.sample));
        let mut ops = VecOps::default();
        ops.seed = self.ops.seed;
        let schedule = fresh.whole_schedule()?;
        saved.load(&ops, |id, message| fresh.extension(id, message, &ops))?;
        let sample = ops.tensor(frames, &elements);
        Ok(Self { sampler: fresh, schedule, sample, ops, ..self })
    }

    /// At most `count` rounds.
    pub(crate) fn some_rounds(mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            if !self.is_over() {
                self.round()?;
            }
        }
        Ok(())
    }

    /// Drops the sampler; what is left is the sample, and what counts its bytes.
    pub(super) fn end(self) -> (VecOps, Tensor) {
        (self.ops, self.sample)
    }

    /// All rounds that are left; the bits of the result.
    pub(super) fn bits(mut self) -> Result<Vec<u32>> {
        while !self.is_over() {
            self.round()?;
        }
        Ok(bits(&self.sample))
    }
}

/// The bits of a tensor.
pub(super) fn bits(tensor: &Tensor) -> Vec<u32> {
    values(tensor).into_iter().map(f32::to_bits).collect()
}

/// A velocity that depends on sample and level, and stays of their size.
pub(super) fn smooth(sample: &[f32], levels: &[FrameLevel]) -> Vec<f32> {
    let frame_elements = (sample.len() / levels.len().max(1)).max(1);
    let at = |(i, x): (usize, &f32)| {
        let level = levels[i / frame_elements].timestep as f32 / 1000.0;
        (1.3 * x + 0.1 * i as f32).sin() * (0.4 + 0.6 * level) + 0.2
    };
    sample.iter().enumerate().map(at).collect()
}

fn same_form(given: &Tensor, gave: &Tensor) -> Result<()> {
    let [given, gave] = [given.form(), gave.form()];
    if gave.same_shape(given) && gave.dtype() == given.dtype() {
        return Ok(());
    }
    let said = |form: TensorForm| {
        let dtype = form.dtype().map_or("no known format".into(), |dtype| format!("{dtype:?}"));
        format!("{} frames of {} elements in {dtype}", form.frames, form.frame_elements)
    };
    Err(Error::failed(format!("a step gave {}, it was given {}", said(gave), said(given))))
}

fn replaced(ops: &VecOps, sample: &Tensor, first: usize, window: &Tensor) -> Result<Tensor> {
    let (frames, len) = (sample.form().frames as usize, window.form().frames as usize);
    let before = ops.narrow_frames(sample, 0, first)?;
    let after = ops.narrow_frames(sample, first + len, frames.saturating_sub(first + len))?;
    let parts = [&before, window, &after];
    ops.cat_frames(&parts.into_iter().filter(|p| p.form().frames > 0).collect::<Vec<_>>())
}
