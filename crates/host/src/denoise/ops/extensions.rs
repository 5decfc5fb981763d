//! Operations that came after the interface was frozen.

use wan_plugin_api::extensions::{ATTENTION, AttentionQuestion, REENCODE};
use wan_plugin_api::{Error, Message, Result, Tensor};

use super::HostOps;
use crate::error::Error as HostError;
use crate::latents::LATENT_FRAME_AXIS;
use crate::ledger::Item;

impl HostOps {
    /// Answers [`REENCODE`].
    pub(super) fn reencoded(&self, tensors: &[Tensor]) -> Result<Message> {
        let Some(vae) = &self.reencode else {
            return Err(Error::unsupported(format!("{REENCODE}: there is no VAE here")));
        };
        let [latents] = tensors else {
            let came = tensors.len();
            return Err(Error::failed(format!("{REENCODE} takes one tensor, {came} came")));
        };
        let latents = self.unwrap(latents)?;
        let frames = latents.dims().get(LATENT_FRAME_AXIS).copied().unwrap_or(0);
        let again = vae.reencode(&latents, &self.cancel).map_err(|error| match error {
            HostError::Cancelled => Error::cancelled(),
            other => Error::failed(format!("{REENCODE}: {other}")),
        })?;
        let again = self.wrap(Item::Sample, again, LATENT_FRAME_AXIS, frames)?;
        Ok(Message { document: String::new(), tensors: vec![again] })
    }

    /// Answers [`ATTENTION`]: there is no store of keys and values.
    pub(super) fn without_a_store(&self, document: &str) -> Result<Message> {
        let question: AttentionQuestion = serde_json::from_str(document)
            .map_err(|error| Error::invalid(format!("{ATTENTION}: {error}")))?;
        if question == AttentionQuestion::default() {
            return Ok(Message::default());
        }
        Err(Error::unsupported(format!(
            "{ATTENTION}: this host keeps no keys and values from one evaluation to the next, and blocks \
             see what the attention of the round says; have the context in the window"
        )))
    }
}
