//! The encoders of a model, each for its own turn: prompts and given frames to conditions.

use wan_model::family::Intake;
use wan_model::vae::Vae;

use crate::cancel::Cancel;
use crate::checkpoint::loader::PartLoader;
use crate::error::Result;
use crate::inputs::conditions::Conditions;
use crate::inputs::given::GivenFrames;
use crate::inputs::prompt::PromptEncoder;
use crate::request::settings::SettingValues;

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
    pub(crate) fn run(
        &self,
        settings: &SettingValues,
        given: &GivenFrames,
        guided: bool,
    ) -> Result<Conditions> {
        self.cancel.check()?;
        let negative = guided.then_some(settings.negative_prompt.as_str());
        let prompts = (settings.prompt.as_str(), negative);
        let (prompt, negative) = self.prompts.encode_both(prompts, self.cancel)?;
        let mut conditions = Conditions { negative, ..Conditions::of_prompt(prompt) };
        let device = self.loader.device();
        if self.intake.tokens {
            conditions.image =
                Some(given.image_tokens(&*self.loader.image_encoder()?, device, self.cancel)?);
        }
        self.cancel.check()?;
        let how = (self.intake, self.vae);
        given.add_to(&mut conditions, how, (settings.frame_num.get(), device), self.cancel)?;
        Ok(conditions)
    }
}
