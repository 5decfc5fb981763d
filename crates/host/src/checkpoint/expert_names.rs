//! What the names of transformers' files say of the noise that they are for; nothing in their
//! tensors tells.

use std::path::Path;

use super::Checkpoint;
use crate::request::lora::NoiseHalf;

/// The half of the noise that the name of a file, else that of its folder, says that it is for.
pub(super) fn half_of(file: &Path) -> Option<NoiseHalf> {
    let of = |path: &Path| NoiseHalf::of_file_name(&path.file_name()?.to_string_lossy());
    of(file).or_else(|| of(file.parent()?))
}

impl Checkpoint {
    /// What is to be said where names and uses of the transformers do not fit.
    pub(crate) fn notices(&self) -> Vec<String> {
        use NoiseHalf::{High, Low};
        let experts = self.experts().iter().map(|part| self.parts()[*part][0].as_path());
        match experts.collect::<Vec<_>>()[..] {
            [only] => half_of(only).map(|half| of_the_only(only, half)).into_iter().collect(),
            [first, second] => match (half_of(first), half_of(second)) {
                (Some(Low), Some(High)) => vec![format!(
                    "{} says low noise and is `transformer`, which is for high noise, and {} says \
                     high noise and is `transformer_2`: are they swapped?",
                    name(first),
                    name(second)
                )],
                (Some(Low), _) => vec![misplaced(first, Low, "transformer")],
                (_, Some(High)) => vec![misplaced(second, High, "transformer_2")],
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }
}

fn of_the_only(file: &Path, half: NoiseHalf) -> String {
    let name = name(file);
    let goes = match half {
        NoiseHalf::High => "the other one goes to `transformer_2`",
        NoiseHalf::Low => "it goes to `transformer_2`, and the other one to `transformer`",
    };
    format!("{name} says {half} noise: it is one of two experts; {goes}")
}

fn misplaced(file: &Path, half: NoiseHalf, part: &str) -> String {
    let name = name(file);
    let other = if half == NoiseHalf::High { NoiseHalf::Low } else { NoiseHalf::High };
    format!(
        "{name} says {half} noise and is `{part}`, which is for {other} noise: are they swapped?"
    )
}

fn name(file: &Path) -> String {
    // Shards and indices of all models have the same names.
    let own = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy());
    match folder.filter(|_| NoiseHalf::of_file_name(&own).is_none()) {
        Some(folder) => format!("{folder}/{own}"),
        None => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_says_it_where_the_file_does_not() {
        for (file, half) in [
            ("high_noise_model/diffusion_pytorch_model.safetensors", Some(NoiseHalf::High)),
            ("HighNoise/Wan2.2-T2V-A14B-LowNoise-Q4_K_M.gguf", Some(NoiseHalf::Low)),
            ("transformer/diffusion_pytorch_model.safetensors", None),
            ("wan.gguf", None),
        ] {
            assert_eq!(half_of(Path::new(file)), half, "{file}");
        }
    }
}
