//! `wan inspect`: what weights are, from their headers alone.

use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Value, json};
use wan_border::files::{self, Content};
use wan_host::{Error, Result};
use wan_model::inspect::{Inspection, Network, Size};
use wan_model::weights::Weights;

use super::args::{json as json_flag, plugin_dir};

/// Problems of one set of weights that are listed; the rest are counted.
const LISTED_MAX: usize = 20;

pub(super) fn command() -> Command {
    Command::new("inspect")
        .about("Say what weights are, and which tensors are missing, unexpected or misshaped")
        .arg(
            Arg::new("path")
                .required(true)
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("A .safetensors file, a folder of shards, or a model folder"),
        )
        .args([json_flag(), plugin_dir()])
}

pub(super) fn run(matches: &ArgMatches) -> Result<()> {
    let path = matches.get_one::<PathBuf>("path").expect("clap requires it");
    let (sets, as_list) = (weight_sets(path)?, matches.get_flag("json"));
    let mut problems = 0;
    let mut list = Vec::new();
    for (name, files) in sets {
        let weights = Weights::open(&files)?;
        let inspection = match config_network(&files)? {
            Some(network) => Inspection::against(network, &weights),
            None => Inspection::of(&weights),
        };
        problems += inspection.problems.len();
        if as_list {
            list.push(as_json(&name, &inspection));
        } else {
            print(&name, &inspection);
        }
    }
    if as_list {
        say!("{:#}", json!(list));
    }
    match problems {
        0 => Ok(()),
        count => Err(Error::model_file(format!(
            "{}: {count} tensors are not as expected",
            path.display()
        ))),
    }
}

/// The network of the `config.json` beside weights, if there is one of a kind that is known.
fn config_network(files: &[PathBuf]) -> Result<Option<Network>> {
    let Some(path) = files.first().map(|f| f.with_file_name("config.json")) else {
        return Ok(None);
    };
    let text = match files::text(&path, Content::Settings) {
        Err(error) if error.is_absence() => return Ok(None),
        text => text.map_err(wan_model::Error::from)?,
    };
    let malformed = |reason| wan_model::Error::MalformedFile { path: path.clone(), reason };
    let config: Value = files::parse_json(&text).map_err(malformed)?;
    let kind = config["_class_name"].as_str().or(config["model_type"].as_str()).unwrap_or("");
    let network = match kind {
        kind if kind.ends_with("Transformer3DModel") => {
            files::parse_json(&text).map(Network::Transformer)
        }
        "AutoencoderKLWan" => files::parse_json(&text).map(Network::Vae),
        "umt5" => files::parse_json(&text).map(Network::TextEncoder),
        "clip_vision_model" => files::parse_json(&text).map(Network::ImageEncoder),
        _ => return Ok(None),
    };
    let network = network.map_err(malformed)?;
    network.check().map_err(|error| malformed(error.to_string()))?;
    Ok(Some(network))
}

/// The sets of weights under a path: a file alone, or each folder that has safetensors files (the
/// parts of a model folder, the shards of one network).
fn weight_sets(path: &Path) -> Result<Vec<(String, Vec<PathBuf>)>> {
    if path.is_file() {
        return Ok(vec![(path.display().to_string(), vec![path.to_path_buf()])]);
    }
    let mut sets = Vec::new();
    for folder in [vec![path.to_path_buf()], subfolders(path)?].concat() {
        let mut files = entries(&folder)?;
        files.retain(|file| file.extension().is_some_and(|e| e == "safetensors"));
        if !files.is_empty() {
            sets.push((folder.display().to_string(), files));
        }
    }
    if sets.is_empty() {
        return Err(Error::invalid(format!("{}: no .safetensors file in it", path.display())));
    }
    Ok(sets)
}

fn subfolders(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(path)?.into_iter().filter(|entry| entry.is_dir()).collect())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(Error::io(folder))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>();
    let mut paths: Vec<PathBuf> = paths.map_err(Error::io(folder))?;
    paths.sort();
    Ok(paths)
}

fn titles(inspection: &Inspection) -> String {
    let titles: Vec<String> = inspection
        .candidates
        .iter()
        .map(|known| format!("{} ({})", known.title, known.id))
        .collect();
    match (titles.as_slice(), &inspection.network) {
        ([], None) => "not a network that is known here".into(),
        ([], Some(network)) => format!("{} of no published size", shape(network)),
        (titles, _) => titles.join(" or "),
    }
}

fn shape(network: &Network) -> String {
    match network {
        Network::Transformer(c) => format!(
            "a transformer, width {}, {} layers, {} to {} channels,",
            c.dim(),
            c.num_layers,
            c.in_channels,
            c.out_channels
        ),
        Network::Vae(c) => format!("a VAE, base {}, {} latent channels,", c.base_dim, c.z_dim),
        Network::TextEncoder(c) => {
            format!("a UMT5 encoder, width {}, {} layers,", c.d_model, c.num_layers)
        }
        Network::ImageEncoder(c) => {
            format!(
                "a CLIP vision encoder, width {}, {} layers,",
                c.hidden_size, c.num_hidden_layers
            )
        }
    }
}

fn print(name: &str, inspection: &Inspection) {
    let size = inspection.size();
    say!("{name}");
    say!("  {}, names: {:?}", titles(inspection), inspection.layout);
    say!(
        "  {} tensors, {:.3} G parameters, {:.3} GB",
        size.tensors,
        size.parameters as f64 / 1e9,
        size.bytes as f64 / 1e9
    );
    for (dtype, size) in &inspection.dtypes {
        say!("    {dtype}: {} tensors, {:.3} GB", size.tensors, size.bytes as f64 / 1e9);
    }
    if inspection.candidates.len() > 1 {
        say!("  these have the same tensors: say which with --task");
    }
    for problem in inspection.problems.iter().take(LISTED_MAX) {
        say!("  {problem}");
    }
    if inspection.problems.len() > LISTED_MAX {
        say!("  ... and {} more", inspection.problems.len() - LISTED_MAX);
    }
}

fn size_json(size: &Size) -> Value {
    json!({ "tensors": size.tensors, "parameters": size.parameters, "bytes": size.bytes })
}

fn as_json(name: &str, inspection: &Inspection) -> serde_json::Value {
    let dtypes: serde_json::Map<String, serde_json::Value> =
        inspection.dtypes.iter().map(|(dtype, s)| (dtype.clone(), size_json(s))).collect();
    json!({
        "path": name,
        "layout": format!("{:?}", inspection.layout),
        "candidates": inspection.candidates.iter().map(|k| k.id).collect::<Vec<_>>(),
        "size": size_json(&inspection.size()),
        "dtypes": dtypes,
        "problems": inspection.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
