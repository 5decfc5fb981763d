//! What there is to say of a cache after the run.

use wan_host::{Conditions, KeptLatents, Result, Sampled, Settings};
use wan_media::PsnrSum;

use super::job::Job;

/// Runs of reuses in one branch that are worth a warning.
const REUSED_IN_A_ROW_MAX: usize = 8;

impl Job<'_> {
    /// Runs again without the cache; prints what the cache saved and what it cost.
    pub(super) fn report_cache(
        &self,
        conditions: &Conditions,
        cached: &Sampled,
        latents: &KeptLatents,
    ) -> Result<()> {
        let plain = self.model.with_cache(self.settings, None)?;
        let run = self.model.run(&plain, conditions.clone(), self.cancel)?;
        let uncached = run.finish_with(&mut |_| {})?;
        let mut first = self.model.decoder(self.settings, self.cancel)?;
        let second = self.model.decode(&plain, &uncached.latents, self.cancel)?;
        let mut psnr = PsnrSum::default();
        let mut kept = latents.each()?;
        for frames in second {
            let frames = frames?;
            // Given frames come first, and are the same.
            if let Some(given) = first.next_in_front() {
                psnr.see(given?.rgb(), frames.rgb());
                continue;
            }
            let Some(frame) = kept.next() else { break };
            psnr.see(first.decode(&frame?.latents)?.rgb(), frames.rgb());
        }
        let count = cached.decisions.all();
        say!(
            "cache report: {:.1} % of {} block-stack evaluations reused, PSNR {:.2} dB against \
             the same run uncached, {:.2} s instead of {:.2} s",
            100.0 * count.reused_share(),
            count.computed + count.reused,
            psnr.decibels(),
            cached.seconds,
            uncached.seconds
        );
        Ok(())
    }
}

pub(super) fn warn_of_the_cache(settings: &Settings, sampled: &Sampled) {
    let Some(cache) = &settings.cache else { return };
    let count = sampled.decisions.all();
    if count.reused == 0 {
        note!("{} never reused anything; raise its threshold or use --cache none", cache.id);
    }
    if count.reused_in_a_row > REUSED_IN_A_ROW_MAX {
        note!(
            "{} reused {} evaluations in a row; look at the picture",
            cache.id,
            count.reused_in_a_row
        );
    }
}
