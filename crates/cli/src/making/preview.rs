//! The picture of a run that is rewritten while it goes on.

use std::time::{Duration, Instant};

use wan_host::{KeptLatents, Model, Result, Run};
use wan_media::{SheetLayout, encode_png_preview};

use crate::outputs::RunOutputs;

/// Time between two pictures at least.
const PAUSE: Duration = Duration::from_millis(500);

/// A picture waits this many times as long as the one before it took: it may take a twentieth of the
/// time.
const WAITS: u32 = 19;

/// Pixels of a frame's width at least, as far as each pixel becomes a whole number of them.
const WIDTH_MIN: usize = 256;

/// Latent frames that are shown where no window is under way.
const FRAMES: usize = 8;

/// When the picture is written.
#[derive(Default)]
pub(super) struct Preview {
    /// Not before this.
    next: Option<Instant>,
    has_failed: bool,
}

/// What there is to see: a run, and latent frames that were done before it was gone on with.
pub(super) type Shown<'a> = (&'a Model, &'a Run, Option<&'a KeptLatents>);

impl Preview {
    /// Rewrites the picture, unless it is too early and not the last. Gives the seconds that it took,
    /// and what is to be said: a failure, once.
    pub(super) fn show(
        &mut self,
        shown: Shown<'_>,
        outputs: &mut RunOutputs,
        is_last: bool,
    ) -> (f64, Option<String>) {
        let started = Instant::now();
        if self.next.is_some_and(|next| started < next) && !is_last {
            return (0.0, None);
        }
        let written = write(shown, outputs);
        let took = started.elapsed();
        if !matches!(written, Ok(false)) {
            self.next = Some(started + took + PAUSE.max(took * WAITS));
        }
        let is_first = written.is_err() && !std::mem::replace(&mut self.has_failed, true);
        let said = written.err().filter(|_| is_first);
        (took.as_secs_f64(), said.map(|error| format!("no preview: {error}; the run goes on")))
    }
}

/// Gives whether there is something to see.
fn write((model, run, before): Shown<'_>, outputs: &mut RunOutputs) -> Result<bool> {
    let mut latents = run.glimpse()?;
    if let (None, Some(before)) = (&latents, before) {
        latents = before.last(FRAMES)?;
    }
    let Some(latents) = latents else { return Ok(false) };
    let frames = model.preview(&latents)?;
    let scale = (WIDTH_MIN / frames.width()).max(1);
    let layout = SheetLayout { columns: frames.frames(), scale, gap: 4 };
    outputs.write_preview(&encode_png_preview(&frames, layout)?)?;
    Ok(true)
}
