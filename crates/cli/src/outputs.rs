//! What a command will write, claimed before its work begins.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches};
use wan_host::{Error, Generated, Model, Result, SettingValues, Settings, Sidecar};
use wan_media::{estimated_mp4_bytes, is_png_sheet};
use wan_outputs::{Claim, Outputs, Wanted, numbered};

use super::args::switch;
use super::wall;

/// Flags that name what is written; all other paths are inputs.
const WRITTEN: [&str; 4] = ["save_file", "contact_sheet", "out", "path"];

/// Most bytes of a prompt in a default name. Ends, number and seed have room beside it.
const STEM_BYTES_MAX: usize = 120;

pub(super) fn overwrite() -> Arg {
    switch("overwrite", "Also replace files that this program did not make")
}

/// What this command line may write to: nothing that it reads.
pub(super) fn outputs(matches: &ArgMatches) -> Outputs {
    let mut outputs = Outputs::new(matches.get_flag("overwrite")).through(wall::steward());
    for id in matches.ids().map(clap::Id::as_str).filter(|id| !WRITTEN.contains(id)) {
        let paths = matches.try_get_many::<PathBuf>(id).ok().flatten();
        paths.into_iter().flatten().for_each(|path| outputs.protect(path));
    }
    // A strategy's option may be the name of a file.
    for id in ["sampler_option", "cache_option"] {
        let options = matches.try_get_many::<String>(id).ok().flatten();
        let values = options.into_iter().flatten().filter_map(|option| option.split_once('='));
        values.for_each(|(_, value)| outputs.protect(Path::new(value)));
    }
    outputs
}

/// As [`outputs`], where the files of the model and what a job names are read, too.
pub(super) fn outputs_of(matches: &ArgMatches, model: &Model, settings: &Settings) -> Outputs {
    let mut outputs = outputs(matches);
    model.checkpoint().parts().values().flatten().for_each(|path| outputs.protect(path));
    settings.given.paths().for_each(|path| outputs.protect(path));
    let plugins = model.engine().registry().plugins();
    plugins.filter_map(|p| p.source.path.as_deref()).for_each(|path| outputs.protect(path));
    outputs
}

/// What there is to say of claims is said.
pub(super) fn say_notices(outputs: &mut Outputs) {
    outputs.take_notices().iter().for_each(|notice| note!("{notice}"));
}

/// Claims the one file that a command writes.
///
/// # Errors
/// If it must not, or cannot, be written.
pub(super) fn claim(mut outputs: Outputs, wanted: &Wanted) -> Result<Claim> {
    let claim = outputs.claim(wanted)?;
    say_notices(&mut outputs);
    Ok(claim)
}

/// The files of a run.
pub(super) struct RunOutputs {
    /// Video and sidecar, unless only latents are asked for.
    pub(super) video: Option<VideoOutput>,
    /// The latents: to stay, or while there is no video yet.
    pub(super) latents: Claim,
    /// The contact sheet.
    pub(super) sheet: Option<Claim>,
}

/// A video and its sidecar.
pub(super) struct VideoOutput {
    pub(super) video: Claim,
    pub(super) sidecar: Claim,
}

impl RunOutputs {
    /// Claims all that a run of these settings will write.
    ///
    /// # Errors
    /// If a file must not, or cannot, be written.
    pub(super) fn claim(matches: &ArgMatches, model: &Model, settings: &Settings) -> Result<Self> {
        let mut outputs = outputs_of(matches, model, settings);
        let sheet = matches.get_one::<PathBuf>("contact_sheet").map(|path| {
            let (field, is_ours) = ("contact_sheet".into(), is_png_sheet as fn(&Path) -> bool);
            let bytes = sheet_bytes(settings);
            let path = path.clone();
            outputs.claim(&Wanted { field, path, is_ours, bytes, temporary_in: None })
        });
        let sheet = sheet.transpose()?;
        let sizes = EstimatedSizes::of(model, settings);
        let (latents, video) = match matches.get_one::<PathBuf>("save_file") {
            Some(path) => {
                check_extension(path)?;
                let stay = settings.latents_only || matches.get_flag("keep_latents");
                sizes.claim_named(&mut outputs, path, (settings.latents_only, stay))?
            }
            None => {
                let named = |number| default_name(settings, number);
                sizes.claim_free(&mut outputs, named, settings.latents_only)?
            }
        };
        say_notices(&mut outputs);
        Ok(Self { video, latents, sheet })
    }
}

/// How long a run's files will be, in bytes, by estimate.
struct EstimatedSizes {
    latents: u64,
    video: u64,
}

impl EstimatedSizes {
    fn of(model: &Model, settings: &Settings) -> Self {
        Self { latents: model.latent_bytes(settings), video: video_bytes(settings) }
    }

    /// The files of a run whose video has this name.
    fn claim_named(
        &self,
        outputs: &mut Outputs,
        path: &Path,
        (latents_only, latents_stay): (bool, bool),
    ) -> Result<(Claim, Option<VideoOutput>)> {
        let mut video = None;
        if !latents_only {
            let [file, sidecar] = Generated::wanted(path, self.video);
            let (file, sidecar) = (outputs.claim(&file)?, outputs.claim(&sidecar)?);
            video = Some(VideoOutput { video: file, sidecar });
        }
        let wanted = |number| Sidecar::wanted_latents(&latents_of(path, number), self.latents);
        let latents = if latents_stay {
            outputs.claim(&wanted(1))?
        } else {
            // Those of an earlier run are not to be replaced by what goes again.
            outputs.claim_free(|number| vec![wanted(number)])?.remove(0)
        };
        Ok((latents, video))
    }

    /// The files of a run under the first name at which nothing is.
    fn claim_free(
        &self,
        outputs: &mut Outputs,
        named: impl Fn(usize) -> String,
        latents_only: bool,
    ) -> Result<(Claim, Option<VideoOutput>)> {
        let mut claims = outputs.claim_free(|number| {
            let video = PathBuf::from(named(number));
            let mut wanted = vec![Sidecar::wanted_latents(&latents_of(&video, 1), self.latents)];
            if !latents_only {
                wanted.extend(Generated::wanted(&video, self.video));
            }
            wanted
        })?;
        let rest = claims.split_off(1);
        let video = <[Claim; 2]>::try_from(rest).ok();
        let video = video.map(|[video, sidecar]| VideoOutput { video, sidecar });
        Ok((claims.remove(0), video))
    }
}

impl VideoOutput {
    /// Claims the video of these latents, and its sidecar.
    ///
    /// # Errors
    /// If a file must not, or cannot, be written.
    pub(super) fn of_latents(
        matches: &ArgMatches,
        latents: &Path,
        values: &SettingValues,
    ) -> Result<Self> {
        let mut outputs = outputs(matches);
        let bytes = video_bytes(values);
        let claims = match matches.get_one::<PathBuf>("save_file") {
            Some(path) => {
                check_extension(path)?;
                let wanted = Generated::wanted(path, bytes);
                wanted.iter().map(|w| outputs.claim(w)).collect::<wan_outputs::Result<Vec<_>>>()?
            }
            None => {
                let name = latents.file_name().unwrap_or_default().to_string_lossy();
                let stem = name.split(".latents").next().unwrap_or("video");
                let at = |number| latents.with_file_name(numbered(stem, number, "mp4"));
                outputs.claim_free(|number| Generated::wanted(&at(number), bytes).to_vec())?
            }
        };
        say_notices(&mut outputs);
        let [video, sidecar] = <[Claim; 2]>::try_from(claims).expect("a video has two files");
        Ok(Self { video, sidecar })
    }
}

fn video_bytes(values: &SettingValues) -> u64 {
    estimated_mp4_bytes(values.width.get(), values.height.get(), values.frame_num.get())
}

/// Bytes of a contact sheet, about and at most: the pixels of eight frames.
fn sheet_bytes(values: &SettingValues) -> u64 {
    8 * 3 * (values.width.get() * values.height.get()) as u64
}

fn check_extension(path: &Path) -> Result<()> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("mp4")) {
        return Ok(());
    }
    Err(Error::field("save_file", format!("{}: the name must end in .mp4", path.display())))
}

/// `out.latents.safetensors`, `out-2.latents.safetensors`, ... of `out.mp4`.
fn latents_of(video: &Path, number: usize) -> PathBuf {
    let mut name = video.file_stem().unwrap_or_default().to_os_string();
    if number > 1 {
        name.push(format!("-{number}"));
    }
    name.push(".latents.safetensors");
    video.with_file_name(name)
}

/// `a-big-red-ball-moving-right_42.mp4`, and `a-big-red-ball-moving-right_42-2.mp4`.
fn default_name(settings: &Settings, number: usize) -> String {
    let words = settings.prompt.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    let words: Vec<String> = words.take(6).map(str::to_lowercase).collect();
    let words = if words.is_empty() { "video".into() } else { words.join("-") };
    // Not every script has spaces between words.
    let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= STEM_BYTES_MAX;
    let words: String = words.char_indices().take_while(fits).map(|(_, c)| c).collect();
    numbered(&format!("{words}_{}", settings.base_seed), number, "mp4")
}
