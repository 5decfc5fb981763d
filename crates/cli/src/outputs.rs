//! What a command will write, claimed before its work begins.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches};
use wan_host::{
    Error, Generated, KeptRun, Model, Recipe, Result, SettingValues, Settings, Sidecar,
};
use wan_media::{estimated_mp4_bytes, is_png_preview, is_png_sheet};
use wan_outputs::{Claim, Outputs, numbered};

use super::args::switch;
use super::keeping;
use super::wall;
use super::wanted::Wanted;

/// Flags that name what is written; all other paths are inputs.
const WRITTEN: [&str; 5] = ["save_file", "contact_sheet", "preview", "out", "path"];

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
    settings.lora.iter().for_each(|lora| outputs.protect(&lora.file));
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
pub(super) fn claim(mut outputs: Outputs, wanted: &wan_outputs::Wanted) -> Result<Claim> {
    let claim = outputs.claim(wanted)?;
    say_notices(&mut outputs);
    Ok(claim)
}

/// The files of a run, which lie beside its folder: `NAME.mp4` and `NAME.json` beside `NAME.run`.
pub(super) struct RunOutputs {
    /// Video and sidecar, unless only latents are asked for.
    pub(super) video: Option<VideoOutput>,
    /// The latents, where they are to stay.
    pub(super) latents: Option<Claim>,
    /// The contact sheet.
    pub(super) sheet: Option<Claim>,
    /// The picture that is rewritten while the run goes on.
    preview: Option<wan_outputs::Wanted>,
    /// For that, and for latents that stay because nothing else is left.
    outputs: Outputs,
    folder: PathBuf,
    latent_bytes: u64,
}

/// A video and its sidecar.
pub(super) struct VideoOutput {
    pub(super) video: Claim,
    pub(super) sidecar: Claim,
}

impl RunOutputs {
    /// Makes the folder of a new run, and claims all that the run will write.
    ///
    /// # Errors
    /// If a file must not, or cannot, be written; if an unfinished run of this name is there.
    pub(super) fn begin(
        matches: &ArgMatches,
        model: &Model,
        settings: &Settings,
        wanted: &Wanted,
    ) -> Result<(KeptRun, Self)> {
        let outputs = outputs_of(matches, model, settings);
        let recipe = Recipe::of(model, settings, wanted.to_value());
        let (folder, kept) = match matches.get_one::<PathBuf>("save_file") {
            Some(path) => {
                check_extension(path)?;
                let folder = path.with_extension(RUN);
                // What cannot be written is refused by its own name.
                let files = Files::of(&folder, (model, settings), wanted);
                files.all().try_for_each(|file| outputs.check(file))?;
                let kept = create(&folder, recipe, wanted.overwrite)?;
                (folder, kept)
            }
            None => create_free(settings, &recipe)?,
        };
        let own = Self::claim(outputs, &folder, (model, settings), wanted);
        match own {
            Ok(own) => Ok((kept, own)),
            Err(error) => {
                kept.remove()?;
                Err(error)
            }
        }
    }

    /// Claims what the run of a folder will write.
    ///
    /// # Errors
    /// If a file must not, or cannot, be written.
    pub(super) fn claim(
        mut outputs: Outputs,
        folder: &Path,
        (model, settings): (&Model, &Settings),
        wanted: &Wanted,
    ) -> Result<Self> {
        let files = Files::of(folder, (model, settings), wanted);
        let mut claim = |file: &Option<wan_outputs::Wanted>| {
            file.as_ref().map(|file| outputs.claim(file)).transpose()
        };
        // It is claimed anew for each picture; now, to be refused if it must not be written.
        let preview = claim(&files.preview)?;
        let (sheet, latents) = (claim(&files.sheet)?, claim(&files.latents)?);
        let mut video = None;
        if let Some([file, sidecar]) = &files.video {
            let (file, sidecar) = (outputs.claim(file)?, outputs.claim(sidecar)?);
            video = Some(VideoOutput { video: file, sidecar });
        }
        drop(preview);
        say_notices(&mut outputs);
        let (folder, latent_bytes) = (folder.into(), model.latent_bytes(settings));
        let preview = files.preview;
        Ok(Self { video, latents, sheet, preview, outputs, folder, latent_bytes })
    }

    /// Whether a picture is to be rewritten while the run goes on.
    pub(super) fn has_preview(&self) -> bool {
        self.preview.is_some()
    }

    /// Rewrites that picture.
    ///
    /// # Errors
    /// If it must not, or cannot, be written.
    pub(super) fn write_preview(&mut self, png: &[u8]) -> Result<()> {
        if let Some(wanted) = &self.preview {
            self.outputs.claim(wanted)?.write(png)?;
        }
        Ok(())
    }

    /// The file for the latents of a run that cannot be gone on with.
    ///
    /// # Errors
    /// If none can be written.
    pub(super) fn claim_of_latents(mut self) -> Result<Claim> {
        if let Some(claim) = self.latents {
            return Ok(claim);
        }
        let (path, bytes) = (self.folder.with_extension("mp4"), self.latent_bytes);
        let wanted = |number| vec![Sidecar::wanted_latents(&latents_of(&path, number), bytes)];
        Ok(self.outputs.claim_free(wanted)?.remove(0))
    }
}

/// Names and sizes of the files of a run. While they are written they lie in its folder.
struct Files {
    video: Option<[wan_outputs::Wanted; 2]>,
    latents: Option<wan_outputs::Wanted>,
    sheet: Option<wan_outputs::Wanted>,
    preview: Option<wan_outputs::Wanted>,
}

impl Files {
    fn of(folder: &Path, (model, settings): (&Model, &Settings), wanted: &Wanted) -> Self {
        let inside = |file: wan_outputs::Wanted| wan_outputs::Wanted {
            temporary_in: Some(folder.into()),
            ..file
        };
        let path = folder.with_extension("mp4");
        // As much again is taken for the file that grows while the run goes on.
        let bytes = video_bytes(settings);
        let stay = settings.latents_only || wanted.keep_latents;
        let picture = |field: &str, path: &PathBuf, is_ours: fn(&Path) -> bool| {
            // Another folder may be on another disk.
            let own = std::path::absolute(folder).ok();
            let is_beside = own.is_some_and(|own| own.parent() == path.parent());
            let temporary_in = is_beside.then(|| folder.to_path_buf());
            let (field, path) = (field.into(), path.clone());
            wan_outputs::Wanted { field, path, is_ours, bytes: 0, temporary_in }
        };
        let sheet = wanted.contact_sheet.as_ref().map(|path| {
            let sheet = picture("contact_sheet", path, is_png_sheet);
            wan_outputs::Wanted { bytes: sheet_bytes(settings), ..sheet }
        });
        let preview = wanted.preview.as_ref();
        Self {
            video: (!settings.latents_only).then(|| Generated::wanted(&path, bytes).map(inside)),
            latents: stay.then(|| {
                let bytes = model.latent_bytes(settings);
                inside(Sidecar::wanted_latents(&latents_of(&path, 1), bytes))
            }),
            sheet,
            preview: preview.map(|path| picture("preview", path, is_png_preview)),
        }
    }

    fn all(&self) -> impl Iterator<Item = &wan_outputs::Wanted> {
        self.video.iter().flatten().chain(&self.latents).chain(&self.sheet).chain(&self.preview)
    }
}

/// The end of the name of a folder that keeps a run.
const RUN: &str = "run";

/// Makes the folder of a run that the user has named.
fn create(folder: &Path, recipe: Recipe, overwrite: bool) -> Result<KeptRun> {
    let begun = KeptRun::create(folder, recipe.clone());
    match begun {
        Err(Error::Kept(kept)) if kept.is_unfinished_run() && (overwrite || is_empty(folder)) => {
            KeptRun::discard(folder)?;
            KeptRun::create(folder, recipe)
        }
        Err(Error::Kept(kept)) if kept.is_unfinished_run() => Err(Error::field(
            "save_file",
            format!(
                "{}: {} is an unfinished run; go on with `wan resume {1}`, or give it up with                  `wan runs --remove {1}` or `overwrite`",
                folder.with_extension("mp4").display(),
                folder.display()
            ),
        )),
        Err(Error::Kept(kept)) if kept.is_taken() => {
            let video = folder.with_extension("mp4");
            Err(Error::field("save_file", format!("{}: {kept}", video.display())))
        }
        begun => begun,
    }
}

/// Whether nothing is done of an unfinished run: a process was killed before its first checkpoint.
fn is_empty(folder: &Path) -> bool {
    keeping::unfinished(folder).is_some_and(|run| run.reached.is_none())
}

/// Makes the folder of a run under the first default name at which nothing is.
fn create_free(settings: &Settings, recipe: &Recipe) -> Result<(PathBuf, KeptRun)> {
    for number in 1.. {
        let video = PathBuf::from(default_name(settings, number));
        let folder = video.with_extension(RUN);
        let own = [&folder, &video, &video.with_extension("json"), &latents_of(&video, 1)];
        if own.iter().any(|path| path.symlink_metadata().is_ok()) {
            continue;
        }
        match KeptRun::create(&folder, recipe.clone()) {
            // Another process was faster.
            Err(Error::Kept(kept)) if kept.is_taken() => {}
            begun => return Ok((folder, begun?)),
        }
    }
    unreachable!("there is always another number")
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

/// Bytes of a video, about and at most.
pub(super) fn video_bytes(values: &SettingValues) -> u64 {
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
