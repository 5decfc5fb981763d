//! A run that is kept on the disk while it goes on, so that another process can go on with it.
//!
//! The folder `NAME.run` has the [`Recipe`], the last two checkpoints, and three growing files: latent
//! frames that no later round reads, records of evaluations, and the video as far as it is decoded.
//! What is written for a checkpoint is what a run holds, and that does not grow with the length of
//! the video. `wan-run-store` keeps the bytes; here is what they mean.

mod every;
mod keeper;
mod latents;
mod parts;
mod recipe;
mod unfinished;

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use wan_border::files::parse_json;
use wan_run_store::{Checkpoint, Growing, Journal, Mark, RunFolder};

use crate::error::{Error, Result};
use crate::run::state::RunState;
use crate::tensor_bytes;

pub use every::CheckpointEvery;
pub use keeper::{Ended, Keeper};
pub use latents::KeptLatents;
pub use recipe::Recipe;
pub use unfinished::{UnfinishedRun, unfinished_runs};

/// Names of the growing files.
const LATENTS: &str = "latents";
const EVALUATIONS: &str = "evaluations";
const VIDEO: &str = "video.mp4";
/// One that holds nothing but room on the disk.
const ROOM: &str = "room";

/// Room that is taken for records of evaluations.
const EVALUATION_BYTES: u64 = 1 << 16;

/// An unfinished run on the disk, which this process alone works on.
pub struct KeptRun {
    folder: RunFolder,
    recipe: Recipe,
    latents: Journal,
    evaluations: Journal,
    video: Growing,
    /// Room for a checkpoint, for when the disk is full.
    room: Option<Growing>,
    /// Latent frames that are done.
    frames: usize,
    /// What to go on from; none before the first checkpoint.
    found: Option<Found>,
    notices: Vec<String>,
}

/// A checkpoint that is whole.
struct Found {
    state: RunState,
    text: CheckpointText,
}

/// What a checkpoint says beside the state of the run.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct CheckpointText {
    /// Rounds that are done, and in all.
    rounds: [usize; 2],
    evaluations_done: u32,
    /// SHA-256 of what the encoders had said.
    conditions: String,
    /// What had changed by then since the run was begun.
    #[serde(default)]
    changes: Vec<String>,
    /// Latent frames that were handed out.
    frames: usize,
    latents: Mark,
    evaluations: Mark,
    video: Mark,
    /// The state, in which tensors are numbers.
    state: String,
}

/// How far a run has come that another process may be working on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Rounds that are done.
    pub done: usize,
    /// Rounds in all.
    pub rounds: usize,
    /// Evaluations that are done.
    pub evaluations: u32,
}

impl Reached {
    /// What the text of a checkpoint says.
    ///
    /// # Errors
    /// Why it is none.
    pub fn of_text(text: &str) -> std::result::Result<Self, String> {
        let text: CheckpointText = parse_json(text)?;
        Ok(Self {
            done: text.rounds[0],
            rounds: text.rounds[1],
            evaluations: text.evaluations_done,
        })
    }
}

impl KeptRun {
    /// Makes the folder of a new run.
    ///
    /// # Errors
    /// If something is there, or it cannot be written.
    pub fn create(path: &Path, recipe: Recipe) -> Result<Self> {
        let folder = RunFolder::create(path, &recipe.to_text()?)?;
        Self::anew(folder, recipe, Vec::new())
    }

    /// Opens the folder of an unfinished run. Checkpoints that are damaged, or refer to what is
    /// damaged, are passed over.
    ///
    /// # Errors
    /// If there is none, another process works on it, or the recipe is damaged; if there are
    /// checkpoints and none is whole.
    pub fn open(path: &Path) -> Result<Self> {
        let mut folder = RunFolder::open(path)?;
        let recipe = Recipe::of_text(folder.recipe())
            .map_err(|said| Error::malformed(format!("{}: its recipe", path.display()), said))?;
        let mut notices = Vec::new();
        let files = folder.checkpoints()?;
        for file in &files {
            let read = file.read().map_err(Error::from);
            let opened = read.and_then(|checkpoint| Found::of(checkpoint, file.path()));
            let opened = opened.and_then(|found| {
                let CheckpointText { latents, evaluations, video, .. } = &found.text;
                let latents = folder.go_on_journal(LATENTS, latents)?;
                let evaluations = folder.go_on_journal(EVALUATIONS, evaluations)?;
                Ok((latents, evaluations, folder.go_on(VIDEO, video)?, found))
            });
            match opened {
                Ok((latents, evaluations, video, found)) => {
                    let (frames, found) = (found.text.frames, Some(found));
                    return Ok(Self {
                        folder,
                        recipe,
                        latents,
                        evaluations,
                        video,
                        room: None,
                        frames,
                        found,
                        notices,
                    });
                }
                Err(error @ Error::Kept(wan_run_store::Error::Damaged { .. })) => {
                    folder.pass_over(file.number())?;
                    notices.push(format!("{error}; the checkpoint before it is taken"));
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(last) = notices.pop() {
            let why = last.trim_end_matches("; the checkpoint before it is taken");
            return Err(Error::invalid(format!(
                "{}: no checkpoint is whole ({why}); the run has to be made anew",
                path.display()
            )));
        }
        Self::anew(folder, recipe, notices)
    }

    /// With nothing done.
    fn anew(folder: RunFolder, recipe: Recipe, notices: Vec<String>) -> Result<Self> {
        let latents = folder.begin_journal(LATENTS)?;
        let evaluations = folder.begin_journal(EVALUATIONS)?;
        let video = folder.begin(VIDEO)?;
        Ok(Self {
            folder,
            recipe,
            latents,
            evaluations,
            video,
            room: None,
            frames: 0,
            found: None,
            notices,
        })
    }

    /// Takes room on the disk, where the file system can, for all latent frames, for a video of so
    /// many bytes, and for a checkpoint of so many, so that a disk that fills up later takes nothing
    /// that was computed.
    ///
    /// # Errors
    /// If there is no such room.
    pub fn take_room(&mut self, video: u64, checkpoint: u64) -> Result<()> {
        let [_, channels, frames, height, width] = self.recipe.latent_shape;
        // A frame has a head beside its numbers.
        let frame = (4 * channels * height * width + 64) as u64;
        self.latents.reserve(frame * frames as u64)?;
        self.evaluations.reserve(EVALUATION_BYTES)?;
        self.video.reserve(video)?;
        let mut room = self.folder.begin(ROOM)?;
        room.reserve(checkpoint)?;
        self.room = Some(room);
        Ok(())
    }

    /// Gives the room for a checkpoint back; whether there was any.
    fn give_room_back(&mut self) -> bool {
        let Some(room) = self.room.take() else { return false };
        drop(room);
        // Begun anew, it takes no room.
        self.folder.begin(ROOM).is_ok()
    }

    /// What the run is.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What whoever goes on should know: which checkpoints are damaged.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// What to go on from, [`Model::resume`](crate::Model::resume) takes it; none before the first
    /// checkpoint.
    pub fn state(&self) -> Option<&RunState> {
        self.found.as_ref().map(|found| &found.state)
    }

    /// What has changed already, a line each, when the run was gone on with before.
    pub fn changes(&self) -> &[String] {
        self.found.as_ref().map_or(&[], |found| &found.text.changes)
    }

    /// Checks that the encoders say now what they said then.
    ///
    /// # Errors
    /// If they do not.
    pub fn check_conditions(&self, now: &str) -> Result<()> {
        match &self.found {
            Some(found) if found.text.conditions != now => Err(Error::invalid(format!(
                "{}: the encoders give other tensors for the same request than before",
                self.path().display()
            ))),
            _ => Ok(()),
        }
    }

    /// The latent frames that are done.
    pub fn latents(&self) -> KeptLatents {
        let path = self.latents.path().to_path_buf();
        KeptLatents::new(path, self.latents.place(), self.frames, self.recipe.latent_shape)
    }

    /// How many latent frames are done.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The file that holds the video as far as it is decoded, and its length in bytes.
    pub fn video(&self) -> (PathBuf, u64) {
        (self.video.path().to_path_buf(), self.video.bytes())
    }

    /// Removes the folder of a run that nobody works on. Gives what is left because others made it.
    ///
    /// # Errors
    /// If there is none, a process works on it, or it cannot be removed.
    pub fn discard(path: &Path) -> Result<Vec<PathBuf>> {
        Ok(wan_run_store::remove(path)?)
    }

    /// Removes the folder. Gives what is left because others made it.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(self) -> Result<Vec<PathBuf>> {
        let Self { folder, latents, evaluations, video, room, .. } = self;
        drop((latents, evaluations, video, room));
        Ok(folder.remove()?)
    }
}

impl Found {
    fn of(checkpoint: Checkpoint, path: &Path) -> Result<Self> {
        let wrong = |why: String| {
            let file = path.to_path_buf();
            Error::Kept(wan_run_store::Error::Damaged { file, why })
        };
        let text: CheckpointText = parse_json(&checkpoint.text).map_err(wrong)?;
        let tensors = checkpoint.tensors.iter().map(|tensor| {
            let read = tensor_bytes::tensor_of(&tensor.dtype, &tensor.shape, &tensor.bytes)?;
            read.ok_or_else(|| wrong(format!("{} has an unknown format", tensor.name)))
        });
        let tensors = tensors.collect::<Result<Vec<Tensor>>>()?;
        let state = RunState::of_text(&text.state, &tensors).map_err(wrong)?;
        Ok(Self { state, text })
    }
}
