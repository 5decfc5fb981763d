//! Diffusion forcing over solvers, whatever their type.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use wan_plugin_api::{
    Attention, Denoise, Error, FrameLevel, Result, Round, SampleRequest, Schedule, ScheduleSize,
    Step, Tensor, TensorOps,
};
use wan_samplers::{Descent, Solver};

use crate::check;
use crate::chunk::Chunk;
use crate::chunks::Chunks;
use crate::context::{self, Context};
use crate::counted::Counted;
use crate::matrix::{Layout, Row};
use crate::options::{AttentionOption, Options};
use crate::rounds::Rounds;

/// The sampler.
pub(crate) struct Forcing {
    pub(crate) chunks: Chunks,
    pub(crate) rounds: Rounds,
    pub(crate) attention: Attention,
    pub(crate) context: Context,
    pub(crate) counted: Counted,
    /// Runs of blocks that are being sampled, by their first block; empty at the end of a chunk.
    pub(crate) moving: BTreeMap<usize, Moving>,
    /// Rows of the chunk that is being sampled.
    pub(crate) rows: Option<(Layout, Vec<Row>)>,
}

/// A run of blocks that is being sampled. It has its own solver, because runs are at different
/// steps and a multistep history belongs to one run.
pub(crate) struct Moving {
    /// Number in the video of its first frame.
    pub(crate) first_frame: u32,
    pub(crate) solver: Box<dyn Solver>,
}

impl Forcing {
    pub(crate) fn new(
        options: &Options,
        descent: Descent,
        request: &SampleRequest,
    ) -> Result<Self> {
        let counted = Counted::new(descent);
        // From here on, `steps` are the steps of each frame.
        let request = &SampleRequest { steps: counted.steps() as u32, ..request.clone() };
        let chunks = Chunks::new(options, request)?;
        counted.fits(chunks.count)?;
        let causal = options.causal_attention || options.attention == AttentionOption::BlockCausal;
        let count = |chunk: usize| {
            let rows = chunks.get(chunk).layout.rows(counted.steps());
            let evaluations = rows.iter().map(|row| counted.evaluations(row));
            let evaluations = evaluations.fold(0, u32::saturating_add);
            ScheduleSize { rounds: rows.len(), evaluations }
        };
        Ok(Self {
            rounds: Rounds::new(chunks.count, count),
            chunks,
            attention: check::attention(causal, options.causal_block_size)?,
            context: Context::new(options.addnoise_condition),
            counted,
            moving: BTreeMap::new(),
            rows: None,
        })
    }

    /// All rounds, or those of the first chunk of several.
    pub(crate) fn schedule(&self) -> Result<Schedule> {
        let notices = self.chunks.notices.iter().map(String::as_str).chain(self.counted.notice());
        let notices = notices.map(String::from).collect();
        let rounds = self.rounds_from(0)?;
        let part_of = (self.chunks.count > 1).then(|| self.rounds.size());
        Ok(Schedule { rounds, notices, part_of })
    }

    /// The rounds of a chunk, from this round on.
    pub(crate) fn schedule_from(&self, round: usize) -> Result<Schedule> {
        Ok(Schedule::part_of(self.rounds_from(round)?, self.rounds.size()))
    }

    fn rounds_from(&self, round: usize) -> Result<Vec<Round>> {
        let (number, first) = self.find(round)?;
        let chunk = self.chunks.get(number);
        let rows = chunk.layout.rows(self.counted.steps());
        Ok(rows[first..].iter().map(|row| self.round(&chunk, row)).collect())
    }

    fn round(&self, chunk: &Chunk, row: &Row) -> Round {
        let block = chunk.layout.block_frames;
        let frames = row.window.start * block..row.window.end * block;
        Round {
            levels: frames.map(|frame| self.level(chunk, row, frame)).collect(),
            attention: self.attention,
            evaluations: self.counted.evaluations(row),
        }
    }

    /// The chunk of a round, and the row there.
    fn find(&self, round: usize) -> Result<(usize, usize)> {
        let all = self.rounds.size().rounds;
        let behind = || Error::failed(format!("round {round} of a schedule of {all} rounds"));
        self.rounds.find(round).ok_or_else(behind)
    }

    /// A row of a chunk, and how many the chunk has. Only those of the chunk that was asked for
    /// last are held.
    fn row(&mut self, chunk: &Chunk, number: usize) -> (Row, usize) {
        let rows = match self.rows.take() {
            Some((layout, rows)) if layout == chunk.layout => rows,
            _ => chunk.layout.rows(self.counted.steps()),
        };
        let found = (rows[number].clone(), rows.len());
        self.rows = Some((chunk.layout, rows));
        found
    }

    /// Evaluates the whole window, then moves every run of blocks by its own solver. Repeats both
    /// as often as the run asks that asks most.
    pub(crate) fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let (number, at) = self.find(step.index)?;
        let chunk = self.chunks.get(number);
        let (row, rows) = self.row(&chunk, at);
        let again = self.context.with_resampled(sample, number, &chunk, ops)?;
        let mut levels = step.round.levels.clone();
        let mut moved = again;
        for evaluation in 0..step.round.evaluations {
            if evaluation > 0 {
                levels = self.seen(&row, &chunk, &step.round.levels, evaluation)?;
            }
            let seen = self.context.with_prefix_noise(&moved, step, &chunk, ops)?;
            let velocity = model.velocity(&seen, &levels)?;
            moved = self.each_run(&row, &chunk, [&moved, &velocity], ops, evaluation)?;
        }
        // Drops the histories of finished runs: handles are memory.
        self.moving.retain(|block, _| row.counters[*block] < self.counted.steps());
        self.context.without_resampled(&moved, sample, &chunk, at + 1 == rows, ops)
    }

    /// Level of a frame in a row; `frame` is counted from the first of the chunk.
    fn level(&self, chunk: &Chunk, row: &Row, frame: usize) -> FrameLevel {
        let number = (chunk.first + frame) as u32;
        let counter = row.counters[frame / chunk.layout.block_frames];
        match self.counted.index(counter) {
            // Resampled inside the sampler; the host's frame is finished.
            Some(_) if frame < chunk.overlap() => {
                let level = self.counted.level(number, counter);
                FrameLevel::frozen(number, level.timestep, level.sigma).with_velocity()
            }
            None if counter > 0 && frame < chunk.layout.prefix_frames => {
                // The host's frame is clean; only the model sees noise.
                FrameLevel::frozen(number, self.context.prefix_timestep, 0.0)
            }
            _ => self.counted.level(number, counter),
        }
    }

    /// The levels of a row where an evaluation is made, from 1.
    pub(crate) fn seen(
        &self,
        row: &Row,
        chunk: &Chunk,
        levels: &[FrameLevel],
        evaluation: u32,
    ) -> Result<Vec<FrameLevel>> {
        let seen = |level: &FrameLevel| {
            let frame = level.frame as usize - chunk.first;
            let counter = row.counters[frame / chunk.layout.block_frames];
            self.counted.seen(level, counter, evaluation)
        };
        levels.iter().map(seen).collect()
    }

    /// `sample` after an evaluation of the steps of its moving frames, from 0.
    fn each_run(
        &mut self,
        row: &Row,
        chunk: &Chunk,
        [sample, velocity]: [&Tensor; 2],
        ops: &dyn TensorOps,
        evaluation: u32,
    ) -> Result<Tensor> {
        let block_frames = chunk.layout.block_frames;
        let mut parts = Vec::new();
        for run in row.runs() {
            let start = (run.start - row.window.start) * block_frames;
            let frames = start..start + run.len() * block_frames;
            let before = context::part(sample, &frames, ops)?;
            parts.push(match self.counted.takes_part(row, run.start, evaluation) {
                None => before,
                Some(index) => {
                    let velocity = context::part(velocity, &frames, ops)?;
                    let solver = self.solver(&run, chunk)?;
                    match evaluation {
                        0 => solver.step(index, &before, &velocity, ops)?,
                        _ => solver.correct((index, evaluation), &before, &velocity, ops)?,
                    }
                }
            });
        }
        context::joined(&parts, ops)
    }

    fn solver(&mut self, run: &Range<usize>, chunk: &Chunk) -> Result<&mut dyn Solver> {
        let first_frame = (chunk.first + run.start * chunk.layout.block_frames) as u32;
        let moving = match self.moving.entry(run.start) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(free) => {
                let solver = self.counted.solver(first_frame)?;
                free.insert(Moving { first_frame, solver })
            }
        };
        Ok(&mut *moving.solver)
    }
}
