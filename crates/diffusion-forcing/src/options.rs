//! The options of the schedule; those of the solver are the solver's.

use serde::Deserialize;
use wan_plugin_api::{OptionSpec, OptionValues, Result};
use wan_samplers::read_options;

/// The options. The host checks every value against [`Options::specs`] and fills in the defaults,
/// so no field is optional.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Options {
    pub(crate) ar_step: usize,
    pub(crate) causal_block_size: usize,
    pub(crate) attention: AttentionOption,
    pub(crate) causal_attention: bool,
    pub(crate) addnoise_condition: u32,
    pub(crate) base_num_frames: u32,
    pub(crate) overlap_history: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AttentionOption {
    Bidirectional,
    BlockCausal,
}

impl Options {
    pub(crate) fn specs() -> Vec<OptionSpec> {
        vec![
            OptionSpec::int("ar_step", 0, (0, 1000), "steps by which a block follows; 0: together")
                .flag("ar_step"),
            OptionSpec::int("causal_block_size", 1, (1, 1000), "latent frames of a block")
                .flag("causal_block_size"),
            // SkyReels' own programs do not mask attention by default; diffusers masks it if blocks
            // are longer than one frame. So it is a separate option.
            OptionSpec::choice(
                "attention",
                &["bidirectional", "block_causal"],
                "what a block sees: all blocks, or itself and those before it",
            )
            .flag("attention"),
            OptionSpec::bool("causal_attention", false, "short for attention = block_causal")
                .flag("causal_attention"),
            OptionSpec::int("addnoise_condition", 0, (0, 60), "noise on a prefix, in 1/1000")
                .flag("addnoise_condition"),
            OptionSpec::int("base_num_frames", 0, (0, 100_000), "frames sampled at once; 0: all")
                .flag("base_num_frames"),
            OptionSpec::int(
                "overlap_history",
                0,
                (0, 100_000),
                "frames that a chunk of a long video takes over from the one before; 0: no chunks",
            )
            .flag("overlap_history"),
        ]
    }

    /// The options among others, of the sampler of this id.
    ///
    /// # Errors
    /// `Invalid` for a value that does not fit.
    pub(crate) fn read(id: &str, values: OptionValues) -> Result<Self> {
        read_options(id, values)
    }
}
