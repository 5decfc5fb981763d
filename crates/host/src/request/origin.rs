//! Where the value of a setting came from.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Who chose a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The request.
    Request,
    /// `wan.toml` of the model folder.
    WanToml,
    /// The published model that the request names, or that the tensors are of.
    Task,
    /// A LoRA of few-step distillation, by its publisher's figures.
    Lora,
    /// The scheduler config of a model folder in diffusers' layout.
    SchedulerConfig,
    /// The strategy's own default.
    Strategy,
    /// Wan's own default, where nobody says more.
    Wan,
    /// It was drawn.
    Drawn,
    /// The plan, to make the run fit the memory.
    Plan,
}

/// Who chose each value, by the names of a request's fields. Options of strategies are there as
/// `sampler_options.NAME` and `cache_options.NAME`.
pub(crate) type Origins = BTreeMap<String, Origin>;

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::WanToml => "wan.toml",
            Self::Task => "task",
            Self::Lora => "LoRA",
            Self::SchedulerConfig => "scheduler config",
            Self::Strategy => "strategy",
            Self::Wan => "Wan",
            Self::Drawn => "drawn",
            Self::Plan => "plan",
        })
    }
}
