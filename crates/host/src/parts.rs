//! What is needed to look inside: by the program, the cache laboratory, the plugin check and the
//! golden cases. It may change with any version; [the door](crate) is what lasts.

pub use crate::denoise::noise::Noise;
pub use crate::denoise::ops::HostOps;
pub use crate::denoise::parts::DenoiserParts;
pub use crate::denoise::tally::{CacheMemory, DecisionCount, EvaluationRecord};
pub use crate::denoise::witness::{Inside, Seen, Witness};
pub use crate::ledger::Item;
pub use crate::model::RunContext;
pub use crate::model::cache_schedule::{CachePlanner, CacheSchedule};
pub use crate::plugins::kind::Kind;
pub use crate::plugins::loader::OpenedPlugin;
pub use crate::plugins::registry::{Chosen, Registered, Registry};
pub use crate::run::spec::{Beginning, RunSpec};
