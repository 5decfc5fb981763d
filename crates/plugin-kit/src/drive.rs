//! Drives a cache along a script, and writes down what it does.

use wan_plugin_api::library::CacheInstance;
use wan_plugin_api::{
    Action, CacheContext, Choice, DType, Evaluation, Message, ModelIdentity, Place, Replaces,
    Result, Signal, Tensor, TensorForm,
};

use crate::ground::{Ground, Part};
use crate::levels::{Levels, steps, timesteps_max};
use crate::world::{DIM, World};

/// A stream to come: its levels, its branch, and the world that it sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// Levels of each evaluation.
    pub levels: Levels,
    /// Guidance branch.
    pub branch: &'static str,
    /// The model.
    pub world: World,
    /// What the leader chose; empty: there is none.
    pub leaders: Vec<Choice>,
}

impl Script {
    /// The prompt's branch over these levels.
    pub fn new(levels: Levels, world: World) -> Self {
        Self { levels, branch: "cond", world, leaders: Vec::new() }
    }

    /// What a cache is told beforehand.
    pub fn context(&self) -> CacheContext {
        let evaluations = self.levels.len() as u32;
        CacheContext {
            branch: self.branch.into(),
            expert: 0,
            evaluations,
            evaluations_before: 0,
            evaluations_after: 0,
            steps: steps(&self.levels) as u32,
            experts: 1,
            model: ModelIdentity {
                variant: "df".into(),
                dim: DIM as u32,
                layers: 2,
                in_channels: 16,
                hash: String::new(),
            },
            frames: self.levels.first().map_or(0, Vec::len) as u32,
            frame_tokens: self.world.tokens as u32,
            timesteps_max: timesteps_max(&self.levels) as u32,
            dtype: self.world.dtype,
            signal_dtype: DType::F32,
            frame_output_elements: (self.world.tokens * World::LATENT_CHANNELS) as u64,
            keep: self.world.keep,
        }
    }
}

/// A tensor that stood in.
#[derive(Debug, Clone, PartialEq)]
pub struct Reused {
    /// Its elements.
    pub elements: Vec<f32>,
    /// Its form.
    pub form: TensorForm,
}

/// What became of one evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What was chosen.
    pub choice: Choice,
    /// Computed, and wanted by the cache.
    pub kept: bool,
    /// What the cache measured.
    pub measured: Vec<f64>,
    /// What stood in.
    pub reused: Option<Reused>,
    /// What computing gives, as the cache would be handed it.
    pub computed: Vec<f32>,
    /// Form of that.
    pub computes: TensorForm,
    /// Most bytes that the cache held after one of its calls.
    pub held: u64,
    /// Those of them that lay where they were not wanted.
    pub misplaced: u64,
}

/// One stream of one cache.
pub struct Stream<'s, G> {
    cache: CacheInstance,
    ground: G,
    script: &'s Script,
    /// What came of it so far. The next evaluation has the number that it is long: the log of a
    /// stream that was saved makes its successor go on from there.
    pub log: Vec<Entry>,
}

impl<'s, G: Ground> Stream<'s, G> {
    /// A stream at its beginning, over a ground of its own.
    pub fn new(cache: CacheInstance, ground: G, script: &'s Script) -> Self {
        Self { cache, ground, script, log: Vec::new() }
    }

    /// Asks the cache an extension.
    ///
    /// # Errors
    /// What the cache said.
    pub fn extension(&mut self, id: &str, message: Message) -> Result<Message> {
        self.cache.extension(id, message)
    }

    /// Its operations.
    pub fn ground(&self) -> &G {
        &self.ground
    }

    /// Whether every evaluation was driven.
    pub fn is_over(&self) -> bool {
        self.log.len() == self.script.levels.len()
    }

    /// All evaluations that are left.
    ///
    /// # Errors
    /// What the cache said.
    pub fn run(mut self) -> Result<Self> {
        while !self.is_over() {
            self.evaluate()?;
        }
        Ok(self)
    }

    /// Ends the stream: drops the cache, and gives what came of it and the bytes that its handles
    /// still keep alive.
    pub fn end(self) -> (Vec<Entry>, u64) {
        drop(self.cache);
        (self.log, self.ground.held())
    }

    /// The next evaluation.
    ///
    /// # Errors
    /// What the cache said.
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
        let decision = self.cache.decide(&evaluation, &self.ground)?;
        drop(signals);
        let choice = decision.choice();
        let (reused, kept) = match decision.action {
            Action::Reuse(tensor) => {
                let elements = self.ground.read(&tensor)?;
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
            let (place, dtype) = (self.script.world.keep, self.computed_dtype());
            let handle =
                self.ground.lay(Part::Computed, levels.len(), &entry.computed, (dtype, place))?;
            self.cache.store(&handle, &self.ground)?;
            drop(handle);
            self.count(&mut entry);
        }
        self.log.push(entry);
        Ok(())
    }

    fn count(&self, entry: &mut Entry) {
        let elsewhere = match self.script.world.keep {
            Place::Device => Place::Host,
            Place::Host => Place::Device,
        };
        entry.held = entry.held.max(self.ground.held());
        entry.misplaced = entry.misplaced.max(self.ground.held_in(elsewhere));
    }

    fn computed_dtype(&self) -> DType {
        match self.cache.plan().replaces {
            Replaces::Residual => self.script.world.dtype,
            Replaces::OutputDelta => DType::F32,
        }
    }

    /// What computing would give, in the format that `store` is given it in.
    fn computed(&self, index: usize) -> Result<(Vec<f32>, TensorForm)> {
        let format = (self.computed_dtype(), Place::Device);
        let frames = self.script.levels[index].len();
        let elements = self.script.world.elements(Part::Computed, index, &self.script.levels);
        let tensor = self.ground.lay(Part::Computed, frames, &elements, format)?;
        Ok((self.ground.read(&tensor)?, tensor.form()))
    }

    fn signal(&self, signal: Signal, index: usize) -> Result<Tensor> {
        let (script, part) = (self.script, Part::Signal(signal));
        let (world, levels) = (&script.world, &script.levels[index]);
        let dtype = match signal {
            Signal::TimeEmbedding | Signal::TimeProjection => {
                let rows = world.time_rows(signal, index, levels);
                if !world.rows_per_token {
                    return self.ground.lay_rows(&rows);
                }
                let token_row = |row: &u32| {
                    let row = &rows.rows[*row as usize * rows.width..][..rows.width];
                    row.repeat(world.tokens_at(index))
                };
                let elements: Vec<f32> = rows.index.iter().flat_map(token_row).collect();
                let format = (DType::F32, Place::Device);
                return self.ground.lay(part, levels.len(), &elements, format);
            }
            Signal::Hidden | Signal::Probe => world.dtype,
            Signal::Sample => DType::F32,
        };
        let elements = world.elements(part, index, &script.levels);
        self.ground.lay(part, levels.len(), &elements, (dtype, Place::Device))
    }
}

/// `C` and `s`, in order.
pub fn decisions(log: &[Entry]) -> String {
    log.iter().map(|e| if e.choice == Choice::Compute { 'C' } else { 's' }).collect()
}
