//! `wan decode`: finishes a run whose latents were saved.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use wan_host::{Decoding, Error, Generated, Result, Sidecar};
use wan_model::vae::Tiling;

use super::args::{
    chosen_metadata, metadata, model_dir, plugin_dir, progress, progress_form, save_file,
    vae_tiling,
};
use super::outputs::{VideoOutput, overwrite};
use super::request::cancel_on_interrupt;
use super::{device, model};
use crate::progress::Progress;

pub(super) fn command() -> Command {
    Command::new("decode")
        .about("Finish a generation whose latents were saved: decode them and write the video")
        .arg(
            Arg::new("latents")
                .required(true)
                .value_name("LATENTS")
                .value_parser(value_parser!(PathBuf))
                .help("The .latents.safetensors file of the run"),
        )
        .args([model_dir(), device::arg(), save_file(), overwrite(), metadata()])
        .args([vae_tiling(), progress(), plugin_dir()])
}

pub(super) fn run(matches: &ArgMatches) -> Result<()> {
    let path = matches.get_one::<PathBuf>("latents").expect("clap requires it");
    let (latents, mut sidecar) = Sidecar::read_latents(path)?;
    if let Some(sigma) = sidecar.ends_at.iter().find(|sigma| **sigma != 0.0) {
        return Err(Error::invalid(format!(
            "{}: noisy latents (sigma {sigma:.4}); finish them with wan generate --latents",
            path.display()
        )));
    }
    let checkpoint = model::checkpoint(matches, Some(&sidecar))?;
    if checkpoint.fingerprint()? != sidecar.model.fingerprint {
        return Err(Error::invalid(format!(
            "{}: the latents were made with other weights than these; name theirs with --ckpt_dir",
            checkpoint.root().display()
        )));
    }
    let VideoOutput { video, sidecar: report } =
        VideoOutput::of_latents(matches, path, &sidecar.settings)?;
    let device = device::chosen(matches).open()?;
    let mut progress = Progress::new(progress_form(matches));
    progress.phase("load", 0);
    let (vae, latents) = (checkpoint.load_vae(&device)?, latents.to_device(&device)?);
    let tiling = matches.get_flag("vae_tiling") || sidecar.settings.vae_tiling;
    let tiling = tiling.then(Tiling::default);
    let mut decoding = Decoding::new(&vae, &latents, tiling, cancel_on_interrupt())?;
    progress.phase("decode", decoding.latent_frames());
    if let Err(error) = decoding.with_given(&sidecar.settings) {
        note!("the given frames cannot be put in front again: {error}");
    }
    let frames = decoding.collect_frames_with(&mut |done, of| progress.step(done, of))?;
    progress.finish();
    progress.note_phases(&mut sidecar);
    let names = [video.path(), report.path()].map(|path| path.display().to_string());
    Generated { frames, sidecar, notices: Vec::new() }.save_to(
        video,
        report,
        chosen_metadata(matches),
    )?;
    say!("wrote {}", names.join(" and "));
    Ok(())
}
