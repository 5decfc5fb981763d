//! `wan inspect`: what files are, from their headers alone; and, for checks, what comes out of them.

mod check;
mod lora;
mod network;
mod tokenizer;

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Value, json};
use wan_host::{Error, Result};
use wan_model::lora::Lora;
use wan_model::weights::open_files;

use crate::args::{flag, json as json_flag, plugin_dir};
use crate::network_config::{config, part};
use crate::outputs::overwrite;
use crate::run_flags::lora as lora_flag;
use crate::weight_paths::{entries, weight_files};

/// What a file is, as text and as JSON.
struct Described {
    lines: Vec<String>,
    json: Value,
    /// Tensors that are not as expected.
    problems: usize,
}

pub(super) fn command() -> Command {
    Command::new("inspect")
        .about("Say what weights are, and which tensors are missing, unexpected or misshaped")
        .arg(
            Arg::new("in")
                .required(true)
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("A weight file, a LoRA, a tokenizer, a folder of shards, or a model folder"),
        )
        .args([part(), config(), json_flag(), plugin_dir()])
        .args(check_flags())
}

/// Flags for checks of what comes out of a file.
fn check_flags() -> [Arg; 5] {
    let file = |name, help| flag(name, "FILE", help).value_parser(value_parser!(PathBuf));
    [
        file("forward", "Run the network in f32 on the tensors `in.*` of this safetensors file")
            .requires("out"),
        file("out", "Where the tensors `out.*` of that pass are written").requires("forward"),
        lora_flag().requires("forward"),
        file("tokens", "Print the ids of the prompts in this file, a list in JSON")
            .conflicts_with("forward"),
        overwrite().requires("forward"),
    ]
    .map(|arg| arg.help_heading("Checks"))
}

pub(super) fn run(matches: &ArgMatches) -> Result<()> {
    let path = matches.get_one::<PathBuf>("in").expect("clap requires it");
    if matches.contains_id("forward") {
        return check::forward(matches);
    }
    if let Some(prompts) = matches.get_one::<PathBuf>("tokens") {
        return check::tokens(path, prompts);
    }
    let described = describe(path, matches)?;
    if matches.get_flag("json") {
        let list: Vec<&Value> = described.iter().map(|described| &described.json).collect();
        say!("{:#}", json!(list));
    } else {
        described.iter().flat_map(|described| &described.lines).for_each(|line| say!("{line}"));
    }
    match described.iter().map(|described| described.problems).sum() {
        0 => Ok(()),
        count => Err(Error::model_file(format!(
            "{}: {count} tensors are not as expected",
            path.display()
        ))),
    }
}

fn describe(path: &Path, matches: &ArgMatches) -> Result<Vec<Described>> {
    if !path.is_dir() {
        if tokenizer::is_one(path) {
            return Ok(vec![tokenizer::describe(path)?]);
        }
        return Ok(vec![describe_set(path.display().to_string(), &[path.to_path_buf()], matches)?]);
    }
    let folders = entries(path)?.into_iter().filter(|entry| entry.is_dir());
    let mut described = Vec::new();
    for folder in [path.to_path_buf()].into_iter().chain(folders) {
        let files = weight_files(&folder)?;
        if !files.is_empty() {
            described.push(describe_set(folder.display().to_string(), &files, matches)?);
        }
    }
    match described.is_empty() {
        true => Err(Error::invalid(format!("{}: no weight file in it", path.display()))),
        false => Ok(described),
    }
}

fn describe_set(name: String, files: &[PathBuf], matches: &ArgMatches) -> Result<Described> {
    let mut opened = open_files(files)?;
    match opened.as_slice() {
        [one] if Lora::is_one(one) => Ok(lora::describe(&name, &Lora::of_file(opened.remove(0))?)),
        _ => network::describe(name, (files, opened), matches),
    }
}
