//! Where the parts of a model lie, as models are downloaded: diffusers' folders, those of the
//! original publications and of GGUF files, ComfyUI's `models`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wan_model::inspect::Network;

use super::candidates::Candidates;
use super::expert_names::half_of;
use super::part::{PARTS, Part};
use super::weight_sets::{in_folder, in_folder_and_below, of_one_network};
use crate::error::Result;
use crate::request::lora::NoiseHalf;

/// Folders of the two experts of Wan 2.2 A14B: the publication's, and QuantStack's.
const EXPERT_FOLDERS: [(&str, &str); 4] = [
    ("high_noise_model", "transformer"),
    ("low_noise_model", "transformer_2"),
    ("HighNoise", "transformer"),
    ("LowNoise", "transformer_2"),
];

/// ComfyUI's folders of transformers, by their newer and their older name.
const COMFYUI_TRANSFORMERS: [&str; 2] = ["diffusion_models", "unet"];

/// ComfyUI's other folders.
const COMFYUI_FOLDERS: [(&str, &str); 4] = [
    ("text_encoders", "text_encoder"),
    ("clip", "text_encoder"),
    ("vae", "vae"),
    ("clip_vision", "image_encoder"),
];

/// Most files that a message names.
const NAMED_MAX: usize = 8;

/// The parts of a model, and why others could not be chosen.
#[derive(Default)]
pub(super) struct Found {
    pub(super) parts: BTreeMap<String, Part>,
    /// For whoever asks for one of these parts.
    pub(super) unclear: BTreeMap<String, String>,
}

impl Found {
    /// Parts that somebody named.
    pub(super) fn named(files: &BTreeMap<String, Vec<PathBuf>>) -> Self {
        let part = |(name, files): (&String, &Vec<PathBuf>)| {
            (name.clone(), Part::new(name, files.clone()))
        };
        Self { parts: files.iter().map(part).collect(), ..Self::default() }
    }

    /// Adds what lies under `root` of the parts that are not there yet.
    ///
    /// # Errors
    /// If a folder cannot be listed.
    pub(super) fn add(&mut self, root: &Path) -> Result<()> {
        let mut candidates = Candidates::default();
        if is_comfyui(root) {
            let transformers = COMFYUI_TRANSFORMERS.map(|folder| (folder, "transformer"));
            for (folder, kind) in transformers.into_iter().chain(COMFYUI_FOLDERS) {
                if self.parts.contains_key(kind) {
                    continue;
                }
                for set in in_folder_and_below(&root.join(folder))? {
                    candidates.add(kind, set);
                }
            }
        } else {
            for (folder, part) in PARTS.map(|part| (part, part)).into_iter().chain(EXPERT_FOLDERS) {
                self.add_folder(root, folder, part)?;
            }
            for set in in_folder(root)?.iter().chain(&in_folder(&root.join("VAE"))?) {
                candidates.add_any(set);
            }
        }
        self.choose_transformers(root, &mut candidates);
        for kind in ["vae", "text_encoder", "image_encoder"] {
            self.choose(root, kind, &mut candidates);
        }
        Ok(())
    }

    /// The part that a folder is.
    fn add_folder(&mut self, root: &Path, folder: &str, part: &str) -> Result<()> {
        if self.is_settled(part) {
            return Ok(());
        }
        let mut sets = of_one_network(&root.join(folder))?;
        match sets.len() {
            0 => {}
            1 => self.insert(part, Part::new(part, sets.remove(0))),
            _ => self.leave_open(root, part, sets.iter().map(|set| set[0].as_path())),
        }
        Ok(())
    }

    fn choose_transformers(&mut self, root: &Path, candidates: &mut Candidates) {
        const FIRST: &str = "transformer";
        const SECOND: &str = "transformer_2";
        if self.is_settled(FIRST) {
            return;
        }
        let mut found = candidates.take(FIRST);
        if let Some(second) = self.parts.get(SECOND) {
            found.retain(|part| part.files != second.files);
            if found.len() > 1 {
                found.retain(|part| half_of(&part.files[0]) == Some(NoiseHalf::High));
            }
        }
        let halves: Vec<_> = found.iter().map(|part| half_of(&part.files[0])).collect();
        match (&halves[..], self.is_settled(SECOND)) {
            ([Some(NoiseHalf::High), Some(NoiseHalf::Low)], false) => {}
            ([Some(NoiseHalf::Low), Some(NoiseHalf::High)], false) => found.reverse(),
            _ => return self.choose_of(root, FIRST, found, candidates),
        }
        for (name, part) in [FIRST, SECOND].into_iter().zip(found) {
            self.insert(name, part);
        }
    }

    fn choose(&mut self, root: &Path, kind: &str, candidates: &mut Candidates) {
        if self.is_settled(kind) {
            return;
        }
        let mut found = candidates.take(kind);
        if kind == "vae" && found.len() > 1 {
            self.retain_fitting_vaes(&mut found);
        }
        self.choose_of(root, kind, found, candidates);
    }

    fn choose_of(
        &mut self,
        root: &Path,
        kind: &str,
        mut found: Vec<Part>,
        candidates: &mut Candidates,
    ) {
        match found.len() {
            0 => {
                if let Some(unread) = candidates.take_unread(kind) {
                    self.insert(kind, unread);
                }
            }
            1 => self.insert(kind, found.remove(0)),
            _ => self.leave_open(root, kind, found.iter().map(|part| part.files[0].as_path())),
        }
    }

    /// Of the VAEs of Wan 2.1 and 2.2, those whose latents the transformer takes, if it is known.
    fn retain_fitting_vaes(&self, vaes: &mut Vec<Part>) {
        let Some(transformer) = self.parts.get("transformer") else { return };
        let Ok(Network::Transformer(config)) = transformer.network("transformer") else { return };
        let fits = |part: &Part| {
            let network = part.inspection().map(|inspection| inspection.network.as_ref());
            matches!(network, Ok(Some(Network::Vae(vae))) if vae.z_dim == config.out_channels)
        };
        if vaes.iter().any(fits) {
            vaes.retain(fits);
        }
    }

    fn is_settled(&self, part: &str) -> bool {
        self.parts.contains_key(part) || self.unclear.contains_key(part)
    }

    fn insert(&mut self, part: &str, found: Part) {
        self.parts.insert(part.into(), found);
    }

    fn leave_open<'a>(&mut self, root: &Path, part: &str, files: impl Iterator<Item = &'a Path>) {
        let mut names: Vec<String> = files
            .map(|file| file.strip_prefix(root).unwrap_or(file).display().to_string())
            .collect();
        names.sort_unstable();
        let more = names.len().saturating_sub(NAMED_MAX);
        names.truncate(NAMED_MAX);
        if more > 0 {
            names.push(format!("and {more} more"));
        }
        let pair = if part == "transformer" { ", a pair with `transformer_2` too" } else { "" };
        let said = format!(
            "{}: several files may be the {part} ({}); name one with `{part}`{pair}",
            root.display(),
            names.join(", ")
        );
        self.unclear.insert(part.into(), said);
    }
}

/// Whether a folder is ComfyUI's `models`, and not one of diffusers', which has a `vae` as well.
fn is_comfyui(root: &Path) -> bool {
    let has = |folder: &str| root.join(folder).is_dir();
    COMFYUI_TRANSFORMERS.into_iter().any(has) && !has("transformer")
}
