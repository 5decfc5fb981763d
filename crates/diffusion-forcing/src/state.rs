//! The saved state: the solvers of moving runs, and the resampled frames. Everything else follows
//! from options and request.

use serde::{Deserialize, Serialize};
use wan_plugin_api::Result;
use wan_plugin_api::state::{Saved, State, misfit};
use wan_samplers::Memory;

use crate::forcing::{Forcing, Moving};

/// A moving run of blocks.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    /// Its first block, counted from the first of the chunk.
    block: usize,
    /// Number in the video of its first frame.
    first_frame: u32,
}

impl State for Forcing {
    fn save(&self) -> Result<Saved> {
        let mut saved = Saved::default();
        let run = |(block, moving): (&usize, &Moving)| Run {
            block: *block,
            first_frame: moving.first_frame,
        };
        saved.put("runs", self.moving.iter().map(run).collect::<Vec<_>>())?;
        for (block, moving) in &self.moving {
            moving.solver.save().put(&solver_of(*block), &mut saved)?;
        }
        saved.put_tensors("resampled", &self.context.resampled);
        Ok(saved)
    }

    fn load(&mut self, saved: &mut Saved) -> Result<()> {
        let blocks = self.chunks.get(0).layout.blocks(); // no chunk is longer
        for Run { block, first_frame } in saved.take::<Vec<Run>>("runs")? {
            if block >= blocks {
                return Err(misfit("runs", format!("blocks below {blocks}"), block));
            }
            let mut solver = self.counted.solver(first_frame)?;
            solver.load(Memory::take(&solver_of(block), saved)?)?;
            self.moving.insert(block, Moving { first_frame, solver });
        }
        self.context.resampled = saved.take_tensor("resampled")?;
        Ok(())
    }
}

/// Name of the saved memory of the run whose first block this is.
fn solver_of(block: usize) -> String {
    format!("solver of block {block}")
}
