//! Drives one cache along a script and logs each evaluation.

use wan_plugin_api::library::CacheInstance;
use wan_plugin_api::{
    Action, Choice, DType, Evaluation, Message, Place, Replaces, Result, Signal, Tensor, TensorForm,
};

use crate::backend::Backend;
use crate::fake_model::Role;
use crate::script::Script;

/// A tensor that a cache reused.
#[derive(Debug, Clone, PartialEq)]
pub struct Reused {
    /// Elements, frame after frame.
    pub elements: Vec<f32>,
    /// Frames, elements of a frame, number format, place and bytes.
    pub form: TensorForm,
}

/// The log of one evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Compute or reuse.
    pub choice: Choice,
    /// Whether the evaluation was computed and the cache asked for the result.
    pub kept: bool,
    /// The numbers of the decision.
    pub measured: Vec<f64>,
    /// The reused tensor; none where the evaluation was computed.
    pub reused: Option<Reused>,
    /// Elements of what computing gives, after rounding to the format that `store` receives.
    pub computed: Vec<f32>,
    /// The form of it.
    pub computes: TensorForm,
    /// Largest number of bytes that the cache held after `decide` or `store`.
    pub held: u64,
    /// Largest number of those bytes that were not in the place the user asked for.
    pub misplaced: u64,
}

/// Drives a cache along all of a script. Returns the log, and the bytes that are still held once
/// the cache is dropped: 0 for a cache that leaks nothing.
///
/// # Errors
/// The first error of the cache or of the backend.
pub fn drive<B: Backend>(
    cache: CacheInstance,
    backend: B,
    script: &Script,
) -> Result<(Vec<Entry>, u64)> {
    let mut driver = Driver::new(cache, backend, script);
    driver.run()?;
    Ok(driver.end())
}

/// [`drive`], one evaluation at a time.
pub struct Driver<'s, B> {
    cache: CacheInstance,
    backend: B,
    script: &'s Script,
    log: Vec<Entry>,
}

impl<'s, B: Backend> Driver<'s, B> {
    /// A driver before the first evaluation. `backend` must be new.
    pub fn new(cache: CacheInstance, backend: B, script: &'s Script) -> Self {
        Self { cache, backend, script, log: Vec::new() }
    }

    /// A driver that goes on after the evaluations in `log`.
    pub fn after(log: Vec<Entry>, cache: CacheInstance, backend: B, script: &'s Script) -> Self {
        Self { cache, backend, script, log }
    }

    /// Sends a message to the cache's extension `id`.
    ///
    /// # Errors
    /// The error of the cache.
    pub fn extension(&mut self, id: &str, message: Message) -> Result<Message> {
        self.cache.extension(id, message, &self.backend)
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Whether the last evaluation of the script is done.
    pub fn is_over(&self) -> bool {
        self.log.len() == self.script.levels.len()
    }

    /// Drives all evaluations that are left.
    ///
    /// # Errors
    /// The first error of the cache or of the backend.
    pub fn run(&mut self) -> Result<()> {
        while !self.is_over() {
            self.evaluate()?;
        }
        Ok(())
    }

    /// Drops the cache. Returns the log and the bytes that are still held.
    pub fn end(self) -> (Vec<Entry>, u64) {
        drop(self.cache);
        (self.log, self.backend.held())
    }

    /// Drives the next evaluation and logs it.
    ///
    /// # Errors
    /// The error of the cache or of the backend.
    pub fn evaluate(&mut self) -> Result<()> {
        let index = self.log.len();
        let levels = &self.script.levels[index];
        let (computed, computes) = self.computed(index)?;
        let reads = self.cache.plan().reads.clone();
        let signals = reads
            .into_iter()
            .map(|signal| Ok((signal, self.signal(signal, index)?)))
            .collect::<Result<Vec<(Signal, Tensor)>>>()?;
        let evaluation = Evaluation {
            index: index as u32,
            remaining: (self.script.levels.len() - index - 1) as u32,
            leader: self.script.leaders.get(index).copied(),
            levels,
            computes,
            signals: &signals,
        };
        let decision = self.cache.decide(&evaluation, &self.backend)?;
        drop(signals);
        let choice = decision.choice();
        let (reused, kept) = match decision.action {
            Action::Reuse(tensor) => {
                let elements = self.backend.read(&tensor)?;
                (Some(Reused { elements, form: tensor.form() }), false)
            }
            Action::Compute { keep } => (None, keep),
        };
        let mut entry = Entry {
            choice,
            kept,
            measured: decision.measured,
            reused,
            computed,
            computes,
            held: 0,
            misplaced: 0,
        };
        self.count(&mut entry);
        if kept {
            let (place, dtype) = (self.script.model.keep, self.computed_dtype());
            let handle = self.backend.make_tensor(
                Role::Computed,
                levels.len(),
                &entry.computed,
                (dtype, place),
            )?;
            self.cache.store(&handle, &self.backend)?;
            drop(handle);
            self.count(&mut entry);
        }
        self.log.push(entry);
        Ok(())
    }

    /// Raises the byte counts of `entry` to those of now.
    fn count(&self, entry: &mut Entry) {
        let elsewhere = match self.script.model.keep {
            Place::Device => Place::Host,
            Place::Host => Place::Device,
        };
        entry.held = entry.held.max(self.backend.held());
        entry.misplaced = entry.misplaced.max(self.backend.held_in(elsewhere));
    }

    fn computed_dtype(&self) -> DType {
        match self.cache.plan().replaces {
            Replaces::Residual => self.script.model.dtype,
            Replaces::OutputDelta => DType::F32,
        }
    }

    /// What computing gives, rounded to the format that `store` receives.
    fn computed(&self, index: usize) -> Result<(Vec<f32>, TensorForm)> {
        let format = (self.computed_dtype(), Place::Device);
        let frames = self.script.levels[index].len();
        let elements = self.script.model.elements(Role::Computed, index, &self.script.levels);
        let tensor = self.backend.make_tensor(Role::Computed, frames, &elements, format)?;
        Ok((self.backend.read(&tensor)?, tensor.form()))
    }

    fn signal(&self, signal: Signal, index: usize) -> Result<Tensor> {
        let (script, role) = (self.script, Role::Signal(signal));
        let (model, levels) = (&script.model, &script.levels[index]);
        let dtype = match signal {
            Signal::TimeEmbedding | Signal::TimeProjection => {
                let rows = model.time_rows(signal, index, levels);
                if !model.rows_per_token {
                    return self.backend.make_rows(&rows);
                }
                let token_row = |row: &u32| {
                    let row = &rows.rows[*row as usize * rows.width..][..rows.width];
                    row.repeat(model.tokens_at(index))
                };
                let elements: Vec<f32> = rows.index.iter().flat_map(token_row).collect();
                let format = (DType::F32, Place::Device);
                return self.backend.make_tensor(role, levels.len(), &elements, format);
            }
            Signal::Hidden | Signal::Probe => model.dtype,
            Signal::Sample => DType::F32,
        };
        let elements = model.elements(role, index, &script.levels);
        self.backend.make_tensor(role, levels.len(), &elements, (dtype, Place::Device))
    }
}

/// The choices as text: `C` for compute, `s` for reuse.
pub fn decisions(log: &[Entry]) -> String {
    log.iter().map(|e| if e.choice == Choice::Compute { 'C' } else { 's' }).collect()
}
