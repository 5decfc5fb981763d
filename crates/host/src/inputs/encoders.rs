//! The encoders of a model, each for its own turn: prompts and given frames to conditions.

use wan_model::family::Intake;
use wan_model::vae::{Half, Vae};

use crate::cancel::Cancel;
use crate::checkpoint::loader::{Loaded, PartLoader};
use crate::error::Result;
use crate::inputs::conditions::Conditions;
use crate::inputs::given::GivenFrames;
use crate::inputs::prompt::{EncoderUse, PromptEncoder};
use crate::request::residency::Residency;
use crate::request::settings::SettingValues;

/// The encoders of a model.
pub(crate) struct Encoders<'a> {
    pub(crate) loader: &'a PartLoader,
    pub(crate) prompts: &'a PromptEncoder,
    pub(crate) vae: &'a Loaded<Vae>,
    pub(crate) residency: Residency,
    pub(crate) intake: Intake,
    pub(crate) cancel: &'a Cancel,
}

impl Encoders<'_> {
    /// Runs them one after the other; each is loaded for its own turn alone.
    pub(crate) fn run(
        &self,
        settings: &SettingValues,
        given: &GivenFrames,
        guided: bool,
    ) -> Result<Conditions> {
        self.cancel.check()?;
        let negative = guided.then_some(settings.negative_prompt.as_str());
        let prompts = (settings.prompt.as_str(), negative);
        let how = EncoderUse {
            dtype: settings.text_encoder_dtype,
            place: settings.text_encoder_device,
            streamed: self.residency.streamed_text_layers,
        };
        let (prompt, negative) = self.prompts.encode_both(prompts, how, self.cancel)?;
        let mut conditions = Conditions { negative, ..Conditions::of_prompt(prompt) };
        let device = self.loader.device();
        if self.intake.tokens {
            let encoder = self.loader.image_encoder(self.residency.streamed_image_layers)?;
            conditions.image = Some(given.image_tokens(&encoder, device, self.cancel)?);
        }
        self.cancel.check()?;
        let _held = match given.is_empty() || self.residency.streamed_vae {
            true => None,
            false => Some(self.vae.hold(Half::Encoder)?),
        };
        let how = (self.intake, &**self.vae);
        given.add_to(&mut conditions, how, (settings.frame_num.get(), device), self.cancel)?;
        Ok(conditions)
    }
}
