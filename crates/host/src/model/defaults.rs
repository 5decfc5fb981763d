//! What completes a request: `wan.toml` of the model folder, how the published model is sampled,
//! and Wan's own defaults.

use std::collections::{BTreeMap, BTreeSet};

use wan_model::published::{self, Published, Sampling};
use wan_plugin_api::options::did_you_mean;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::request::Request;
use crate::request::origin::Origin;
use crate::request::size::Size;
use crate::request::wan_toml::{FolderDefaults, WanToml};

/// Frames of a given clip that are context: SkyReels-V2's `overlap_history` (commit abed76f).
const CONTEXT_FRAMES: usize = 17;

/// What completes a request, by one origin.
#[derive(Debug, Clone)]
pub(crate) struct Defaults {
    /// Its options are those of its own strategies.
    pub(crate) request: Request,
    pub(crate) origin: Origin,
    /// The published model that they are of.
    pub(crate) task: Option<String>,
    shift_of_size: BTreeMap<String, f64>,
    scheduler_shift: Option<f64>,
}

impl Defaults {
    /// The named task's; else the model folder's; else those of the model that the transformer's
    /// tensors are known to be of, with the shift of diffusers' scheduler config in the folder.
    ///
    /// # Errors
    /// For an unknown task, or where the tensors fit several models with other defaults.
    pub(crate) fn find(checkpoint: &Checkpoint, task: Option<&str>) -> Result<Self> {
        if let Some(task) = task {
            let model = published::find(task).ok_or_else(|| {
                let known: BTreeSet<&str> = published::all().iter().map(|m| &*m.id).collect();
                let hint = did_you_mean(task, known.into_iter());
                Error::field("task", format!("{task} is not known{hint}"))
            })?;
            return Ok(Self::of_published(model));
        }
        if let Some(own) = checkpoint.defaults().filter(|own| own.completes_requests()) {
            let WanToml { generate, sampler_options, cache_options, .. } = own.clone();
            let FolderDefaults { request, shift_of_size } = generate.unwrap_or_default();
            let request = Request { sampler_options, cache_options, ..request };
            let (origin, task, scheduler_shift) = (Origin::WanToml, None, None);
            return Ok(Self { request, origin, task, shift_of_size, scheduler_shift });
        }
        let published = recognised(checkpoint)?.and_then(published::find);
        let defaults = published.map_or_else(Self::of_wan, Self::of_published);
        Ok(Self { scheduler_shift: checkpoint.scheduler_shift(), ..defaults })
    }

    fn of_published(model: &Published) -> Self {
        Self {
            origin: Origin::Task,
            task: Some(model.id.clone()),
            shift_of_size: model.defaults.sample_shift_of_size.clone(),
            request: sampled_so(&model.defaults),
            scheduler_shift: None,
        }
    }

    fn of_wan() -> Self {
        let (request, shift_of_size) = (Request::default(), BTreeMap::new());
        Self { request, origin: Origin::Wan, task: None, shift_of_size, scheduler_shift: None }
    }

    /// Flow shift of a video of this size, and who says so: the shift that this size has of its
    /// own, else the scheduler config's, else the shift of all sizes.
    pub(crate) fn sample_shift(&self, size: Size) -> Option<(f64, Origin)> {
        let of_size = self.shift_of_size.get(&size.to_string());
        let of_size = of_size.map(|shift| (*shift, self.origin));
        let of_scheduler = self.scheduler_shift.map(|shift| (shift, Origin::SchedulerConfig));
        let of_all = self.request.sample_shift.map(|shift| (shift, self.origin));
        of_size.or(of_scheduler).or(of_all)
    }
}

/// Wan's own defaults, and the program's.
pub(crate) fn of_wan() -> Request {
    Request {
        base_seed: Some(42),
        context_frames: Some(CONTEXT_FRAMES),
        ..sampled_so(published::common_defaults())
    }
}

/// The request for what a model is sampled with by those who published it.
fn sampled_so(sampling: &Sampling) -> Request {
    Request {
        negative_prompt: Some(sampling.negative_prompt.clone()),
        size: Some(sampling.size.clone()),
        frame_num: Some(sampling.frame_num),
        sample_steps: Some(sampling.sample_steps),
        sample_shift: Some(sampling.sample_shift),
        sample_guide_scale: Some(sampling.sample_guide_scale),
        sample_guide_scale_low: sampling.sample_guide_scale_low,
        fps: Some(sampling.fps),
        sampler: sampling.sampler.clone(),
        ..Request::default()
    }
}

impl Checkpoint {
    /// The published model whose defaults hold because the tensors are of it; none where `task` or
    /// `wan.toml` say what holds.
    ///
    /// # Errors
    /// Where the tensors fit several models with other defaults.
    pub fn recognised_task(&self, task: Option<&str>) -> Result<Option<String>> {
        if task.is_some() {
            return Ok(None);
        }
        Ok(Defaults::find(self, None)?.task)
    }
}

/// Id of the published model that the transformer's tensors are of, if any.
fn recognised(checkpoint: &Checkpoint) -> Result<Option<&'static str>> {
    let candidates = &checkpoint.inspection("transformer")?.candidates;
    let experts = checkpoint.experts().len();
    let is_alike = |id: &&str| published::find(id).map_or(1, |model| model.experts) == experts;
    let ids: Vec<&str> = candidates.iter().map(|known| known.id).filter(is_alike).collect();
    match ids.as_slice() {
        [] => Ok(None),
        [id] => Ok(Some(id)),
        several => Err(Error::about(
            "task",
            format!(
                "{}: these tensors are those of {}; say which with `task`",
                checkpoint.root().display(),
                several.join(" and ")
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use wan_border::numbers::Side;

    use super::*;

    fn size(width: usize, height: usize) -> Size {
        Size { width: Side::of(width), height: Side::of(height) }
    }

    fn defaults(id: &str) -> Defaults {
        Defaults::of_published(published::find(id).unwrap())
    }

    #[test]
    fn every_published_transformer_has_defaults_that_can_be_read() {
        for model in published::all() {
            let request = defaults(&model.id).request;
            let Size { width, height } = request.size.unwrap().parse().unwrap();
            assert!(width.get() % 16 == 0 && height.get() % 16 == 0, "{}", model.id);
            assert_eq!((request.frame_num.unwrap() - 1) % 4, 0, "{}", model.id);
        }
        assert!(of_wan().size.is_some());
        assert_eq!(defaults("t2v-A14B").request.sample_guide_scale_low, Some(3.0));
    }

    #[test]
    fn image_to_video_at_480p_has_a_shift_of_its_own() {
        let shift =
            |task: &str, width, height| defaults(task).sample_shift(size(width, height)).unwrap().0;
        // Wan2.1 generate.py: 3.0 where "i2v" is in the task and the size is one of these two.
        assert_eq!([(832, 480), (480, 832)].map(|(w, h)| shift("i2v-14B", w, h)), [3.0, 3.0]);
        assert_eq!([(1280, 720), (480, 480)].map(|(w, h)| shift("i2v-14B", w, h)), [5.0, 5.0]);
        assert_eq!(shift("t2v-14B", 832, 480), 5.0);
        assert_eq!(shift("flf2v-14B", 832, 480), 16.0);
        assert_eq!(shift("i2v-A14B", 832, 480), 5.0);
        for sizes in published::all().iter().map(|model| &model.defaults.sample_shift_of_size) {
            assert!(sizes.keys().all(|size| size.parse::<Size>().is_ok()), "{sizes:?}");
        }
    }

    #[test]
    fn a_size_with_a_shift_of_its_own_goes_over_the_scheduler_config() {
        let shift = |defaults: &Defaults, width, height| {
            defaults.sample_shift(size(width, height)).unwrap()
        };
        let i2v = Defaults { scheduler_shift: Some(7.0), ..defaults("i2v-14B") };
        assert_eq!(shift(&i2v, 832, 480), (3.0, Origin::Task));
        assert_eq!(shift(&i2v, 1280, 720), (7.0, Origin::SchedulerConfig));
        let unknown = Defaults { scheduler_shift: Some(7.0), ..Defaults::of_wan() };
        assert_eq!(shift(&unknown, 832, 480), (7.0, Origin::SchedulerConfig));
        assert_eq!(Defaults::of_wan().sample_shift(size(832, 480)), None);
    }
}
