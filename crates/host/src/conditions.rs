//! What a sampling is conditioned on: prompts as embeddings, given frames as tensors.

use candle_core::Tensor;
use wan_model::vae::Vae;

use crate::error::Result;
use crate::given::{GivenFrames, Intake, Start};
use crate::loaded::PartLoader;
use crate::prompt::PromptEncoder;
use crate::settings::Settings;

/// Everything that the encoders have to say, so that they need not stay.
pub struct Conditions {
    /// The prompt, `[1, T, text_dim]`.
    pub(crate) prompt: Tensor,
    /// The negative prompt, where there is guidance.
    pub(crate) negative: Option<Tensor>,
    /// Output of the image encoder, where the model takes it.
    pub(crate) image_embeds: Option<Tensor>,
    /// Given frames.
    pub(crate) start: Start,
}

/// The encoders of a model.
pub(crate) struct Encoders<'a> {
    pub(crate) loader: &'a PartLoader,
    pub(crate) prompts: &'a PromptEncoder,
    pub(crate) vae: &'a Vae,
    pub(crate) intake: Intake,
}

impl Encoders<'_> {
    /// Runs them one after the other; each is loaded for its own turn alone, but for the VAE, which
    /// decodes in the end.
    pub(crate) fn run(
        &self,
        settings: &Settings,
        given: &GivenFrames,
        guided: bool,
    ) -> Result<Conditions> {
        given.check(self.intake, self.vae.config().scale_factor_temporal)?;
        let negative = guided.then_some(settings.negative_prompt.as_str());
        let (prompt, negative) = self.prompts.encode_both(&settings.prompt, negative)?;
        let device = self.loader.device();
        let image_embeds = match self.intake.tokens {
            true => Some(given.image_tokens(&*self.loader.image_encoder()?, device)?),
            false => None,
        };
        let start = given.start(self.intake, self.vae, settings.frame_num, device)?;
        Ok(Conditions { prompt, negative, image_embeds, start })
    }
}
