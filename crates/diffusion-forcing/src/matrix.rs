//! The timestep matrix: the step of every block of frames, row by row.
//!
//! A block is `block_frames` latent frames with a common noise level. It has a counter: 0 not
//! started, `k` in `1..=steps` taking step `k` in this row, `steps + 1` done. A block starts
//! `ar_step` rows after its left neighbour, or when the neighbour is done if that is sooner. If the
//! window has fewer blocks than the video, it slides right when the next block starts to move.
//!
//! Source: `generate_timestep_matrix` of SkyReels-V2 (commit abed76f,
//! `pipelines/diffusion_forcing_pipeline.py`), which diffusers (commit 58eb52c) repeats. It is
//! followed exactly, even for unsuitable numbers; [`check`](crate::check) refuses those first.

use std::ops::Range;

/// The frames of a chunk, its blocks, and the lag between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Latent frames of the chunk.
    pub(crate) frames: usize,
    /// Latent frames of the window, which the model takes at once.
    pub(crate) window_frames: usize,
    /// Clean latent frames at the start.
    pub(crate) prefix_frames: usize,
    /// Rows by which a block follows its left neighbour.
    pub(crate) ar_step: usize,
    /// Latent frames of a block.
    pub(crate) block_frames: usize,
}

/// One row: one evaluation of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Counter of every block.
    pub(crate) counters: Vec<usize>,
    /// Whether this row updates each block.
    pub(crate) updates: Vec<bool>,
    /// The blocks of the window.
    pub(crate) window: Range<usize>,
}

impl Row {
    /// The window, divided into runs of neighbouring blocks with equal counters. Moving blocks with
    /// equal counters started together and stay together, so a run is one sample for a solver.
    pub(crate) fn runs(&self) -> Vec<Range<usize>> {
        let stands = |block: &usize| (self.counters[*block], self.updates[*block]);
        let blocks: Vec<usize> = self.window.clone().collect();
        let runs = blocks.chunk_by(|left, right| stands(left) == stands(right));
        runs.map(|run| run[0]..run[0] + run.len()).collect()
    }
}

impl Layout {
    /// Blocks of the chunk.
    pub(crate) fn blocks(&self) -> usize {
        self.frames / self.block_frames
    }

    /// Blocks of the window.
    pub(crate) fn window_blocks(&self) -> usize {
        self.window_frames / self.block_frames
    }

    /// Clean blocks at the start.
    pub(crate) fn prefix_blocks(&self) -> usize {
        self.prefix_frames / self.block_frames
    }

    /// All rows, until every block has taken `steps` steps.
    pub(crate) fn rows(&self, steps: usize) -> Vec<Row> {
        let done = steps + 1;
        let mut counters = vec![0; self.blocks()];
        let ready = self.prefix_blocks().min(counters.len());
        counters[..ready].fill(done);
        let mut window_end = self.window_blocks();
        let mut rows = Vec::new();
        while counters.iter().any(|counter| *counter < steps) {
            let previous = counters.clone();
            for block in 0..counters.len() {
                counters[block] = if block == 0 || previous[block - 1] >= steps {
                    (previous[block] + 1).min(done)
                } else {
                    counters[block - 1].saturating_sub(self.ar_step)
                };
            }
            let moved = |(now, before): (&usize, &usize)| now != before && *now != done;
            let updates: Vec<bool> = counters.iter().zip(&previous).map(moved).collect();
            if updates.get(window_end) == Some(&true) {
                window_end += 1;
            }
            let window = window_end.saturating_sub(self.window_blocks())..window_end;
            rows.push(Row { counters: counters.clone(), updates, window });
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::check;
    use crate::chunk::{Chunk, TemporalScale};

    fn checked(layout: &Layout, steps: usize) -> wan_plugin_api::Result<()> {
        let chunk = Chunk { first: 0, resampled: 0, layout: *layout };
        check::check(&chunk, steps, TemporalScale(4))
    }

    fn repeated<T: Into<Value> + Copy>(blocks: &[T], layout: &Layout) -> Value {
        blocks.iter().flat_map(|x| std::iter::repeat_n((*x).into(), layout.block_frames)).collect()
    }

    /// The rows in the form of the recorded file: one column per frame.
    fn recorded_form(layout: &Layout, timesteps: &[u64]) -> [Value; 4] {
        let table: Vec<u64> = [999].iter().chain(timesteps).chain([&0]).copied().collect();
        let rows = layout.rows(timesteps.len());
        let looked_up = |row: &Row| row.counters.iter().map(|c| table[*c]).collect::<Vec<u64>>();
        let updates = |row: &Row| row.updates.iter().map(|u| u64::from(*u)).collect::<Vec<u64>>();
        let window = |row: &Row| {
            Value::from(
                [row.window.start, row.window.end].map(|b| b * layout.block_frames).to_vec(),
            )
        };
        [
            rows.iter().map(|row| repeated(&looked_up(row), layout)).collect(),
            rows.iter().map(|row| repeated(&row.counters, layout)).collect(),
            rows.iter().map(|row| repeated(&updates(row), layout)).collect(),
            rows.iter().map(window).collect(),
        ]
    }

    #[test]
    fn all_22_recorded_matrices_come_out_and_the_rejected_one_is_refused() {
        let file: Value = serde_json::from_str(include_str!("matrix_golden.json")).unwrap();
        let cases = file["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 22);
        for case in cases {
            let (name, input) = (&case["name"], &case["input"]);
            let number = |key: &str| input[key].as_u64().unwrap() as usize;
            let layout = Layout {
                frames: number("num_latent_frames"),
                window_frames: number("base_num_latent_frames"),
                prefix_frames: number("num_pre_ready"),
                ar_step: number("ar_step"),
                block_frames: number("causal_block_size"),
            };
            if case["error"].is_string() {
                let error = checked(&layout, number("num_steps")).unwrap_err();
                assert!(error.message.contains("ar_step 3 or more"), "{name}: {error}");
                continue;
            }
            let timesteps: Vec<u64> = serde_json::from_value(input["timesteps"].clone()).unwrap();
            let output = &case["output"];
            let keys = ["step_matrix", "step_index", "update_mask", "valid_interval"];
            for (ours, key) in recorded_form(&layout, &timesteps).iter().zip(keys) {
                assert_eq!(ours, &output[key], "{name}: {key}");
            }
        }
    }

    /// Layouts of whole blocks; half of them with a window that has to slide.
    fn layouts() -> impl Strategy<Value = (Layout, usize)> {
        (1..5usize, 1..7usize, 1..8usize, 0..7usize, 0..12usize, 1..12usize).prop_map(
            |(block_frames, blocks, window, prefix, ar_step, steps)| {
                let layout = Layout {
                    frames: blocks * block_frames,
                    window_frames: window.min(blocks) * block_frames,
                    prefix_frames: prefix.min(blocks - 1) * block_frames,
                    ar_step,
                    block_frames,
                };
                (layout, steps)
            },
        )
    }

    proptest! {
        #[test]
        fn every_block_behind_the_prefix_takes_every_step_once((layout, steps) in layouts()) {
            prop_assume!(checked(&layout, steps).is_ok());
            let rows = layout.rows(steps);
            let followers = layout.blocks() - layout.prefix_blocks() - 1;
            prop_assert_eq!(rows.len(), steps + followers * layout.ar_step.min(steps));
            for block in 0..layout.blocks() {
                let taken: Vec<usize> =
                    rows.iter().filter(|r| r.updates[block]).map(|r| r.counters[block]).collect();
                let expected = if block < layout.prefix_blocks() { 0 } else { steps };
                prop_assert_eq!(taken, (1..=expected).collect::<Vec<_>>());
            }
            let mut moving = Vec::new(); // the runs of the row before
            for row in &rows {
                let runs: Vec<_> =
                    row.runs().into_iter().filter(|run| row.updates[run.start]).collect();
                let on_its_way = |run: &&Range<usize>| row.counters[run.start] > 1;
                prop_assert!(runs.iter().filter(on_its_way).all(|run| moving.contains(run)));
                prop_assert!(layout.ar_step > 0 || runs.len() == 1);
                moving = runs;
                prop_assert!(row.counters.is_sorted_by(|a, b| a >= b), "a later block is cleaner");
                let inside = |block: usize| row.window.contains(&block);
                prop_assert!((0..layout.blocks()).all(|b| inside(b) || !row.updates[b]));
                prop_assert_eq!(row.window.len(), layout.window_blocks());
                prop_assert!(row.window.end <= layout.blocks());
            }
        }
    }
}
