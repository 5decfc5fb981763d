//! `wan decode`: finishes a run whose latents were saved.

use std::path::{Path, PathBuf};

use clap::ArgMatches;
use wan_host::decode::{Decoding, decode, load_vae};
use wan_host::given::GivenFrames;
use wan_host::latents_file;
use wan_host::{Error, Result};

use super::finish::{self, Output};
use super::run_settings::cancel_on_interrupt;
use super::{args, device};
use crate::progress::Progress;

pub(super) fn run(matches: &ArgMatches) -> Result<()> {
    let path = matches.get_one::<PathBuf>("latents").expect("clap requires it");
    let (latents, mut report) = latents_file::read(path)?;
    if let Some(sigma) = report.ends_at.iter().find(|sigma| **sigma != 0.0) {
        return Err(Error::invalid(format!(
            "{}: noisy latents (sigma {sigma:.4}); finish them with wan generate --latents",
            path.display()
        )));
    }
    let folder = args::model(matches, Some(&report.model))?;
    if folder.fingerprint()? != report.model.fingerprint {
        return Err(Error::invalid(format!(
            "{}: the latents were made with other weights than these; name theirs with --ckpt_dir",
            folder.root().display()
        )));
    }
    let save_file = matches.get_one::<PathBuf>("save_file").cloned();
    let output = Output::new(save_file.unwrap_or_else(|| video_name(path)))?;
    let device = device::chosen(matches)?;
    let mut progress = Progress::new(args::progress_form(matches));
    progress.phase("load", 0);
    let (vae, latents) = (load_vae(&folder, &device)?, latents.to_device(&device)?);
    progress.phase("decode", latents.dims()[2]);
    let decoding = Decoding::new(&vae, &latents, args::tiling(matches), cancel_on_interrupt())?;
    let frames = decode(decoding, &mut |done, of| progress.step(done, of, None))?;
    let frames = match GivenFrames::read(&report.settings) {
        Ok(given) => given.finish(frames)?,
        Err(error) => {
            eprintln!("wan: the given frames cannot be put in front again: {error}");
            frames
        }
    };
    progress.finish();
    report.phases.extend_from_slice(progress.phases());
    finish::write(&output, &frames, &report)?;
    say!("wrote {} and {}", output.video.display(), output.sidecar.display());
    Ok(())
}

/// `out.latents.safetensors` belongs to `out.mp4`.
fn video_name(latents: &Path) -> PathBuf {
    let name = latents.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split(".latents").next().unwrap_or("video");
    latents.with_file_name(format!("{stem}.mp4"))
}
