//! What a sampling is conditioned on: prompts as embeddings, given frames as tensors.

use wan_model::family::Intake;
use wan_model::vae::Vae;

use crate::cancel::Cancel;
use crate::checkpoint::loader::PartLoader;
use crate::denoiser_parts::Embeddings;
use crate::error::Result;
use crate::given::Start;
use crate::prompt::PromptEncoder;
use crate::settings::Settings;

/// Everything that the encoders have to say, so that they need not stay.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// Prompts, and pictures as tokens.
    pub(crate) embeddings: Embeddings,
    /// Given frames.
    pub(crate) start: Start,
}

/// The encoders of a model.
pub(crate) struct Encoders<'a> {
    pub(crate) loader: &'a PartLoader,
    pub(crate) prompts: &'a PromptEncoder,
    pub(crate) vae: &'a Vae,
    pub(crate) intake: Intake,
    pub(crate) cancel: &'a Cancel,
}

impl Encoders<'_> {
    /// Runs them one after the other; each is loaded for its own turn alone, but for the VAE, which
    /// decodes in the end.
    pub(crate) fn run(&self, settings: &Settings, guided: bool) -> Result<Conditions> {
        let given = &settings.given_frames;
        let negative = guided.then_some(settings.negative_prompt.as_str());
        self.cancel.check()?;
        let prompts = (settings.prompt.as_str(), negative);
        let (prompt, negative) = self.prompts.encode_both(prompts, self.cancel)?;
        let device = self.loader.device();
        let image = match self.intake.tokens {
            true => {
                let encoder = self.loader.image_encoder()?;
                Some(given.image_tokens(&encoder, device, self.cancel)?)
            }
            false => None,
        };
        self.cancel.check()?;
        let start =
            given.start(self.intake, self.vae, (settings.frame_num, device), self.cancel)?;
        Ok(Conditions { embeddings: Embeddings { prompt, negative, image }, start })
    }
}
