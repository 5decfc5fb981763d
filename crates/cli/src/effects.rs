//! What a flag of the command line needs to have an effect; fields of a request say it themselves.

use clap::ArgMatches;
use clap::parser::ValueSource;
use wan_host::{Error, Result, Settings};

/// A flag, and what it needs.
pub(super) struct Need {
    flag: &'static str,
    is_met: fn(&ArgMatches, &Settings) -> bool,
    needs: &'static str,
}

const A_VIDEO: &str = "a video to be made; leave out `latents_only`";
const NO_CACHE: &str = "a cache, and this command runs without one; leave it out";

/// Of `wan generate`.
pub(super) const OF_GENERATE: &[Need] = &[
    Need {
        flag: "offload_model",
        is_met: |matches, _| {
            let value = matches.get_one::<String>("offload_model");
            value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
        },
        needs: "True: every part of a model leaves when its turn is over; leave it out",
    },
    Need {
        flag: "allow_changes",
        is_met: |matches, _| matches.contains_id("reproduce"),
        needs: "a video to make again; give `reproduce` NAME.json",
    },
    Need {
        flag: "given_dir",
        is_met: |matches, _| matches.contains_id("reproduce"),
        needs: "a video to make again; give `reproduce` NAME.json",
    },
    Need {
        flag: "cache_report",
        is_met: |_, settings| settings.cache.is_some(),
        needs: "a cache; give `cache` NAME",
    },
    Need { flag: "cache_report", is_met: |_, settings| !settings.latents_only, needs: A_VIDEO },
    Need { flag: "contact_sheet", is_met: |_, settings| !settings.latents_only, needs: A_VIDEO },
    Need {
        flag: "keep_latents",
        is_met: |_, settings| !settings.latents_only,
        needs: "a video to keep them beside; `latents_only` keeps them by itself",
    },
];

/// Of commands that take each cache, or none, by themselves.
pub(super) const OF_UNCACHED_RUNS: &[Need] = &[
    Need {
        flag: "cache",
        is_met: |matches, _| matches.get_one::<String>("cache").is_some_and(|id| id == "none"),
        needs: NO_CACHE,
    },
    Need { flag: "cache_option", is_met: |_, _| false, needs: NO_CACHE },
    Need { flag: "cache_device", is_met: |_, _| false, needs: NO_CACHE },
];

/// Refuses a flag that was given for nothing.
///
/// # Errors
/// Naming it, and what it needs.
pub(super) fn check(needs: &[Need], matches: &ArgMatches, settings: &Settings) -> Result<()> {
    let is_given = |flag| matches.value_source(flag) == Some(ValueSource::CommandLine);
    let idle = |need: &&Need| is_given(need.flag) && !(need.is_met)(matches, settings);
    match needs.iter().find(idle) {
        Some(Need { flag, needs, .. }) => Err(Error::field(flag, format!("needs {needs}"))),
        None => Ok(()),
    }
}
