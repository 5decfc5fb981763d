//! What goes on in another process: the solvers that are on their way, and the frames that are
//! sampled a second time. All else is of the options and the request.

use serde::{Deserialize, Serialize};
use wan_plugin_api::Result;
use wan_plugin_api::state::{Saved, State, misfit};
use wan_samplers::Memory;

use crate::{DiffusionForcing, Moving};

/// A run of blocks that is on its way.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    /// Its first block, in its chunk.
    block: usize,
    /// Number of its first frame in the video.
    first_frame: u32,
}

impl State for DiffusionForcing {
    fn save(&self) -> Result<Saved> {
        let mut saved = Saved::default();
        let run = |(block, moving): (&usize, &Moving)| Run {
            block: *block,
            first_frame: moving.first_frame,
        };
        saved.put("runs", self.moving.iter().map(run).collect::<Vec<_>>())?;
        for (block, moving) in &self.moving {
            Memory::put(&*moving.solver, &solver_of(*block), &mut saved)?;
        }
        saved.put_tensors("resampled", &self.context.resampled);
        Ok(saved)
    }

    fn load(&mut self, saved: &mut Saved) -> Result<()> {
        let blocks = self.chunks.list.iter().map(|chunk| chunk.layout.blocks()).max().unwrap_or(0);
        for Run { block, first_frame } in saved.take::<Vec<Run>>("runs")? {
            if block >= blocks {
                return Err(misfit("runs", format!("blocks below {blocks}"), block));
            }
            let mut solver = self.descent.solver(first_frame);
            Memory::take(&mut *solver, &solver_of(block), saved)?;
            self.moving.insert(block, Moving { first_frame, solver });
        }
        self.context.resampled = saved.take_tensor("resampled")?;
        Ok(())
    }
}

/// The name of the memory of a run that begins with this block.
fn solver_of(block: usize) -> String {
    format!("solver of block {block}")
}
