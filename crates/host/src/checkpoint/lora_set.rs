//! LoRAs that are fitted to the transformers of a model, checked before anything is computed.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use wan_model::lora::{Distilled, Expert, FittedLora, Lora};
use wan_model::weights::FileError;

use super::Checkpoint;
use crate::error::{Error, Result};
use crate::request::Request;
use crate::request::file_hash::sha256_of_weights;
use crate::request::lora::{LoraRequest, NoiseHalf};

/// Field of a request that names LoRAs.
const FIELD: &str = "lora";

/// Fitted LoRAs. Sets of the same files with the same strengths are equal.
#[derive(Clone, Default)]
pub(crate) struct LoraSet {
    /// Those of each transformer, in the order of their use.
    of_experts: Vec<Vec<Arc<FittedLora>>>,
    known_by: Vec<LoraRequest>,
    notices: Vec<String>,
    distilled: Option<Distilled>,
    /// Transformers that are distilled.
    distilled_experts: BTreeSet<usize>,
}

impl PartialEq for LoraSet {
    fn eq(&self, other: &Self) -> bool {
        let of = |lora: &LoraRequest| (lora.sha256.clone(), lora.strength.to_bits(), lora.expert);
        self.known_by.iter().map(of).eq(other.known_by.iter().map(of))
    }
}

impl std::fmt::Debug for LoraSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LoraSet").field(&self.known_by).finish()
    }
}

impl LoraSet {
    /// Reads the files, all their numbers too, and fits them.
    ///
    /// # Errors
    /// If a file is not there, is no LoRA that is read, or does not fit its transformer; if its hash
    /// is known and another one; if it is for one of two transformers and there is one.
    pub(crate) fn open(checkpoint: &Checkpoint, asked: &[LoraRequest]) -> Result<Self> {
        let experts = checkpoint.experts();
        let mut set = Self { of_experts: vec![Vec::new(); experts.len()], ..Self::default() };
        for asked in asked {
            set.add(checkpoint, asked)?;
        }
        Ok(set)
    }

    fn add(&mut self, checkpoint: &Checkpoint, asked: &LoraRequest) -> Result<()> {
        let experts = checkpoint.experts();
        if !asked.strength.is_finite() || asked.strength.abs() > 100. {
            let said = format!("strength {}: expected a number from -100 to 100", asked.strength);
            return Err(Error::field(FIELD, said));
        }
        if let (Some(half), [_]) = (asked.expert, experts) {
            let said = format!("@{half} needs a model with two experts; this one has one");
            return Err(Error::field(FIELD, said));
        }
        let lora = Arc::new(Lora::open(&asked.file).map_err(about)?);
        lora.check_numbers().map_err(about)?;
        let sha256 = sha256_of_weights(lora.file()).map_err(|e| about(e.into()))?;
        if asked.sha256.as_ref().is_some_and(|then| *then != sha256) {
            let path = asked.file.display();
            return Err(Error::field(
                FIELD,
                format!("{path} is another file than the recorded one, by its SHA-256"),
            ));
        }
        let name = file_name(&asked.file);
        self.warn_of_its_name(&name, asked.expert, experts.len());
        for (number, part) in experts.iter().enumerate() {
            let half = if number == 0 { NoiseHalf::High } else { NoiseHalf::Low };
            if asked.expert.is_some_and(|asked| asked != half) {
                continue;
            }
            let expert = match (experts.len(), half) {
                (1, _) => Expert::Only,
                (_, NoiseHalf::High) => Expert::HighNoise,
                (_, NoiseHalf::Low) => Expert::LowNoise,
            };
            let network = checkpoint.network(part)?;
            let fitted = FittedLora::new(&lora, network, asked.strength, expert).map_err(about)?;
            let modules = fitted.modules();
            self.notices.push(format!(
                "{name} changes {modules} modules of the {part}, at strength {}",
                asked.strength
            ));
            let warnings = fitted.warnings().iter();
            self.notices.extend(warnings.map(|warning| format!("{name}: {warning}")));
            self.of_experts[number].push(Arc::new(fitted));
        }
        self.see_distillation(&name, asked, &lora);
        self.known_by.push(LoraRequest { sha256: Some(sha256), ..asked.clone() });
        Ok(())
    }

    /// A file for one half of the noise that is put on the other.
    fn warn_of_its_name(&mut self, name: &str, asked: Option<NoiseHalf>, experts: usize) {
        let Some(half) = NoiseHalf::of_file_name(name).filter(|_| experts == 2) else { return };
        let other = if half == NoiseHalf::High { NoiseHalf::Low } else { NoiseHalf::High };
        if asked != Some(half) {
            let on = asked.map_or("both transformers".to_owned(), |asked| format!("@{asked}"));
            self.notices.push(format!(
                "{name} says {half} noise, and is put on {on}: is another file for {other} noise?"
            ));
        }
    }

    /// A LoRA of few-step distillation on all transformers brings its figures; with those of the
    /// whole model the picture would be burnt.
    fn see_distillation(&mut self, name: &str, asked: &LoraRequest, lora: &Lora) {
        let Some(distilled) = Distilled::of(lora).filter(|_| asked.strength != 0.) else { return };
        let title = &distilled.title;
        let experts = self.of_experts.len();
        self.distilled_experts.extend(match asked.expert {
            None => (0..experts).collect::<Vec<_>>(),
            Some(NoiseHalf::High) => vec![0],
            Some(NoiseHalf::Low) => vec![1],
        });
        match (distilled.sample_steps, distilled.sample_guide_scale) {
            (Some(steps), Some(scale)) if self.distilled_experts.len() >= experts => {
                if self.distilled.is_none() {
                    let shift = distilled
                        .sample_shift
                        .map_or(String::new(), |shift| format!(", `sample_shift` {shift}"));
                    self.notices.push(format!(
                        "{name} is a few-step distillation ({title}): unless you say otherwise, \
                         `sample_steps` {steps}, `sample_guide_scale` {scale}{shift} ({})",
                        distilled.source
                    ));
                }
                self.distilled = Some(distilled);
            }
            (Some(_), Some(_)) if asked.expert.is_some() => {}
            _ => self.notices.push(format!(
                "{name} is a few-step distillation ({title}), whose figures are not known here: \
                 give `sample_steps` and `sample_guide_scale` (1 for most), or the picture is burnt"
            )),
        }
    }

    /// Those of transformer `number`.
    pub(crate) fn of_expert(&self, number: usize) -> Vec<Arc<FittedLora>> {
        self.of_experts.get(number).cloned().unwrap_or_default()
    }

    /// The files with their hashes, as the sidecar has them.
    pub(crate) fn known_by(&self) -> &[LoraRequest] {
        &self.known_by
    }

    /// What is to be said of them.
    pub(crate) fn notices(&self) -> &[String] {
        &self.notices
    }

    /// How a model is sampled that they make one of few steps; nothing where none does.
    pub(crate) fn defaults(&self) -> Request {
        let Some(distilled) = &self.distilled else { return Request::default() };
        Request {
            sample_steps: distilled.sample_steps,
            sample_shift: distilled.sample_shift,
            sample_guide_scale: distilled.sample_guide_scale,
            sample_guide_scale_low: distilled.sample_guide_scale,
            ..Request::default()
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// An error of a LoRA is about the field; one that is not there is the caller's.
fn about(error: wan_model::Error) -> Error {
    let is_absent = matches!(
        &error,
        wan_model::Error::WeightFile(FileError::File(wan_border::files::Error::Io { source, .. }))
            if source.kind() == io::ErrorKind::NotFound
    );
    if is_absent { Error::field(FIELD, error) } else { error.into() }
}
