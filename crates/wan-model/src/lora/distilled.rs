//! LoRAs that make a model one of few steps, known by their names.

use std::sync::LazyLock;

use serde::Deserialize;

use super::file::Lora;

/// How a LoRA of few-step distillation is sampled by those who published it. What is not known is
/// left out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distilled {
    /// What people call it.
    pub title: String,
    /// Groups of words in lower case; a name has all of one.
    words: Vec<Vec<String>>,
    /// Inference steps: those of its name (`4step`, `8steps`), else the published ones.
    pub sample_steps: Option<u32>,
    /// Guidance scale.
    pub sample_guide_scale: Option<f64>,
    /// Flow shift.
    pub sample_shift: Option<f64>,
    /// Where the figures were published.
    #[serde(default)]
    pub source: String,
}

#[derive(Deserialize)]
struct All {
    distilled: Vec<Distilled>,
}

static ALL: LazyLock<Vec<Distilled>> = LazyLock::new(|| {
    let all: Result<All, _> = toml::from_str(include_str!("distilled.toml"));
    all.unwrap_or_else(|error| panic!("distilled.toml of this program: {error}")).distilled
});

/// Keys of a header that name what a LoRA was made of.
const TITLES: [&str; 3] = ["modelspec.title", "ss_output_name", "name"];

/// Most steps that a name can mean by a number before `step`; larger ones count those of a training.
const STEPS_MAX: u32 = 16;

impl Distilled {
    /// What the name of a LoRA's file or folder, or its header, says.
    pub fn of(lora: &Lora) -> Option<Self> {
        let path = lora.path();
        let folder = path.parent().and_then(|folder| folder.file_name());
        let names = [folder, path.file_name()].into_iter().flatten();
        let names = names.map(|name| name.to_string_lossy().into_owned());
        let header = lora.file().metadata();
        let titles = TITLES.iter().filter_map(|key| header.get(*key).cloned());
        Self::of_name(&names.chain(titles).collect::<Vec<_>>().join(" ").to_lowercase())
    }

    fn of_name(name: &str) -> Option<Self> {
        let has = |group: &Vec<String>| group.iter().all(|word| name.contains(word.as_str()));
        let mut found = ALL.iter().find(|one| one.words.iter().any(has))?.clone();
        found.sample_steps = steps(name).or(found.sample_steps);
        Some(found)
    }
}

/// The number before `step`, as in `4step`, `8-steps` and `4_step`.
fn steps(name: &str) -> Option<u32> {
    name.match_indices("step").find_map(|(place, _)| {
        let before = name[..place].trim_end_matches(['-', '_', ' ']);
        let start = before.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        before[start..].parse().ok().filter(|steps| (1..=STEPS_MAX).contains(steps))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_published_files_bring_their_figures() {
        for (name, steps) in [
            ("wan2.2-lightning_t2v-a14b-4steps-lora_high_fp16.safetensors", 4),
            ("wan2.2-t2v-a14b-4steps-lora-rank64-seko-v1.1 high_noise_model.safetensors", 4),
            ("wan21_t2v_14b_lightx2v_cfg_step_distill_lora_rank32.safetensors", 4),
            ("wan2.2_i2v_lightx2v_2step_high_noise.safetensors", 2),
            ("wan2.2-lightning-8step.safetensors", 8),
        ] {
            let found = Distilled::of_name(name).expect(name);
            let figures = (found.sample_steps, found.sample_guide_scale, found.sample_shift);
            assert_eq!(figures, (Some(steps), Some(1.), Some(5.)), "{name}");
            assert!(!found.source.is_empty());
        }
        let causvid = Distilled::of_name("wan21_causvid_14b_t2v_lora_rank32.safetensors").unwrap();
        assert_eq!((causvid.sample_steps, causvid.sample_guide_scale), (None, None));
        for name in ["anime_style_step2000.safetensors", "footsteps.safetensors", "lightning bolt"]
        {
            assert_eq!(Distilled::of_name(name), None, "{name}");
        }
        let mut words = ALL.iter().flat_map(|one| one.words.iter().flatten());
        assert!(words.all(|word| *word == word.to_lowercase()));
    }
}
