//! Kinds of models: the facts that follow from a transformer's config beside the shapes of its
//! tensors.
//!
//! | variant | models | given frames enter as |
//! |---|---|---|
//! | `t2v` | Wan 2.1 and 2.2 T2V, SkyReels-V2 T2V | clean latents in front |
//! | `df` | SkyReels-V2 DF | clean latents in front |
//! | `ti2v` | Wan 2.2 TI2V | clean latents, shown in the place of the first frames |
//! | `i2v` | Wan 2.1 and SkyReels-V2 I2V | channels, and tokens of one picture |
//! | `i2v` | Wan 2.2 I2V A14B | channels |
//! | `flf2v` | Wan 2.1 FLF2V | channels, and tokens of the first and the last picture |
//!
//! The published models are in [`published`](crate::published).

use wan_border::numbers::Tokens;

use crate::config::WanConfig;

/// Latent channels of the VAE that Wan 2.2's text-and-image-to-video model comes with.
const TI2V_CHANNELS: usize = 48;

/// Part of `_class_name` in `model_index.json` of a SkyReels-V2 diffusion-forcing pipeline.
const DIFFUSION_FORCING: &str = "DiffusionForcing";

/// Length that prompts are padded to, in tokens (Wan2.1, commit 9737cba,
/// `wan/configs/shared_config.py`).
pub const PROMPT_TOKENS: Tokens = Tokens::of(512);

/// The kind of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// `t2v`, `i2v`, `flf2v`, `ti2v` or `df`.
    pub variant: &'static str,
    /// How given frames enter the model.
    pub intake: Intake,
    /// Noise level, 0 to 1, at and above which the first of two experts runs. The default for a
    /// model folder that does not name one (Wan2.2, commit 42bf4cf, `wan/configs`).
    pub boundary_ratio: f64,
    /// Whether the class of the frame rate is an input.
    pub takes_fps_class: bool,
}

/// How given frames enter a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intake {
    /// As channels beside the latents (image-to-video models); if not, as clean latent frames.
    pub channels: bool,
    /// As clean latents in place of the first frames (TI2V), with any sampler; if not, in front of
    /// the frames that a diffusion-forcing sampler moves.
    pub in_place: bool,
    /// As tokens of the image encoder as well.
    pub tokens: bool,
    /// As tokens of a first and a last frame (FLF2V) instead of one picture.
    pub both_ends: bool,
}

impl Family {
    /// The family of a transformer. `pipeline` is `_class_name` of `model_index.json`, or empty.
    pub fn of(config: &WanConfig, pipeline: &str) -> Self {
        let channels = config.in_channels > config.out_channels;
        let both_ends = config.pos_embed_seq_len.is_some();
        let variant = if pipeline.contains(DIFFUSION_FORCING) || config.inject_sample_info {
            "df"
        } else if both_ends {
            "flf2v"
        } else if channels {
            "i2v"
        } else if config.in_channels == TI2V_CHANNELS {
            "ti2v"
        } else {
            "t2v"
        };
        let in_place = variant == "ti2v";
        Self {
            variant,
            intake: Intake { channels, in_place, tokens: config.takes_image_tokens(), both_ends },
            boundary_ratio: if channels { 0.9 } else { 0.875 },
            takes_fps_class: config.inject_sample_info,
        }
    }

    /// Class of a frame rate if the model takes one: 0 for 16 frames per second, 1 for any other
    /// (SkyReels-V2, commit abed76f).
    pub fn fps_class(&self, fps: f64) -> Option<u32> {
        self.takes_fps_class.then(|| u32::from(fps.round() != 16.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::transformer;

    #[test]
    fn families_of_the_published_models() {
        let (none, tokens) = ([false; 4], [true, false, true, false]);
        for (id, variant, intake) in [
            ("t2v-14B", "t2v", none),
            ("t2v-A14B", "t2v", none),
            ("df-1.3B", "df", none),
            ("i2v-1.3B", "i2v", tokens),
            ("i2v-14B", "i2v", tokens),
            ("i2v-A14B", "i2v", [true, false, false, false]),
            ("flf2v-14B", "flf2v", [true, false, true, true]),
            ("ti2v-5B", "ti2v", [false, true, false, false]),
        ] {
            let family = Family::of(&transformer(id), "");
            let Intake { channels, in_place, tokens, both_ends } = family.intake;
            let found = (family.variant, [channels, in_place, tokens, both_ends]);
            assert_eq!(found, (variant, intake), "{id}");
            assert_eq!(family.boundary_ratio, if channels { 0.9 } else { 0.875 }, "{id}");
        }
        // SkyReels-V2 DF 14B has the tensors of T2V 14B; its folder says what it is.
        let pipeline = "SkyReelsV2DiffusionForcingPipeline";
        let family = Family::of(&transformer("df-14B"), pipeline);
        assert_eq!((family.variant, family.fps_class(24.0)), ("df", None));
    }

    #[test]
    fn sixteen_frames_a_second_are_a_class_of_their_own() {
        let family = Family::of(&transformer("df-1.3B"), "");
        let classes = [16.0, 15.9, 24.0, 12.0].map(|fps| family.fps_class(fps));
        assert_eq!(classes, [Some(0), Some(0), Some(1), Some(1)]);
    }
}
