//! `wan plugins`.

use clap::ArgMatches;
use serde_json::json;
use wan_plugin_api::Strategy;

use crate::error::{Error, Result};
use crate::registry::{Registered, Registry};

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    let Some(("list", matches)) = matches.subcommand() else {
        return Err(Error::invalid("wan plugins list"));
    };
    if matches.get_flag("json") {
        let plugins: Vec<_> = registry
            .plugins()
            .iter()
            .map(|p| json!({ "plugin": p.description, "source": p.source }))
            .collect();
        say!("{:#}", json!(plugins));
    } else {
        registry.plugins().iter().for_each(print);
    }
    Ok(())
}

fn print(plugin: &Registered) {
    let description = &plugin.description;
    let place = plugin.source.path.as_ref().map_or("built in".into(), |p| p.display().to_string());
    say!("{} {} ({})  {place}", description.name, description.version, description.licence);
    if let Some(hash) = &plugin.source.hash {
        say!("  sha256 {hash}");
    }
    for (kind, list) in [("sampler", &description.samplers), ("cache", &description.caches)] {
        list.iter().for_each(|strategy| print_strategy(kind, strategy));
    }
    say!();
}

fn print_strategy(kind: &str, strategy: &Strategy) {
    say!("  {kind} {}: {}", strategy.id, strategy.doc);
    for option in &strategy.options {
        say!("    {} = {}  ({})  {}", option.name, option.default, option.allowed(), option.doc);
    }
}
