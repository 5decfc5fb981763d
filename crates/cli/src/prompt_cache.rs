//! `--no_prompt_cache`, and what there is to say of kept prompts.

use clap::{Arg, ArgMatches};
use wan_host::{Error, Model, PromptCache, Result};

use super::args::switch;

const FLAG: &str = "no_prompt_cache";

pub(super) fn arg() -> Arg {
    switch(FLAG, "Run the text encoder for prompts that were encoded before, and keep none")
        .help_heading("Model files")
}

/// Whether the user wants none; nothing for a command that encodes no prompt.
fn is_off(matches: &ArgMatches) -> Option<bool> {
    matches.try_get_one::<bool>(FLAG).ok().flatten().copied()
}

/// Where embeddings of prompts are kept.
pub(super) fn chosen(matches: &ArgMatches) -> PromptCache {
    match is_off(matches) {
        Some(false) => PromptCache::of_user(),
        _ => PromptCache::none(),
    }
}

/// Refuses the flag where nothing would be kept without it.
///
/// # Errors
/// If it was given for nothing.
pub(super) fn check(matches: &ArgMatches, model: &Model) -> Result<()> {
    if is_off(matches) != Some(true) || PromptCache::of_user().keeps(model.checkpoint())? {
        return Ok(());
    }
    Err(Error::field(
        FLAG,
        "needs a text encoder of 64 MiB or more, or a folder that WAN_PROMPT_CACHE names: no prompt \
         of this model is kept; leave it out",
    ))
}

/// What there is to say of prompts that are kept, or cannot be, is said.
pub(super) fn say_notices(model: &Model) {
    model.engine().prompt_cache().take_notices().iter().for_each(|notice| note!("{notice}"));
}
