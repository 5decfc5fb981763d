//! `wan plugins list`.

use clap::ArgMatches;
use serde_json::{Value, json};
use wan_host::Result;
use wan_host::parts::{Registered, Registry};
use wan_plugin_api::Strategy;

use super::show;

pub(super) fn run(registry: &Registry, matches: &ArgMatches) -> Result<()> {
    if matches.get_flag("json") {
        let plugins: Vec<Value> = registry.plugins().map(as_json).collect();
        say!("{:#}", json!(plugins));
    } else {
        registry.plugins().for_each(print);
    }
    Ok(())
}

fn as_json(plugin: &Registered) -> Value {
    json!({
        "plugin": plugin.description,
        "source": plugin.source,
        "epoch": plugin.epoch,
        "strategies": show::strategies(plugin),
    })
}

fn print(plugin: &Registered) {
    let description = &plugin.description;
    say!(
        "{} {} ({})  {}",
        description.name,
        description.version,
        description.licence,
        show::place(plugin)
    );
    if let Some(hash) = &plugin.source.hash {
        say!("  sha256 {hash}");
    }
    for (kind, list) in [("sampler", &description.samplers), ("cache", &description.caches)] {
        list.iter().for_each(|strategy| print_strategy(kind, strategy));
    }
    say!("");
}

fn print_strategy(kind: &str, strategy: &Strategy) {
    say!("  {kind} {}: {}", strategy.id, strategy.doc);
    for option in &strategy.options {
        say!("    {} = {}  ({})  {}", option.name, option.default, option.allowed(), option.doc);
    }
}
