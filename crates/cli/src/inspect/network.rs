//! What the weights of a network are.

use std::path::PathBuf;

use clap::ArgMatches;
use serde_json::{Value, json};
use wan_host::{NoiseHalf, Result};
use wan_model::inspect::{Inspection, Network, Size};
use wan_model::weights::{WeightFile, Weights};

use super::Described;
use crate::network_config::{configured_network, given_part};

/// Problems of one set of weights that are listed; the rest are counted.
const LISTED_MAX: usize = 20;

pub(super) fn describe(
    name: String,
    (files, opened): (&[PathBuf], Vec<WeightFile>),
    matches: &ArgMatches,
) -> Result<Described> {
    let weights = Weights::of_files(files, opened, given_part(matches))?;
    let network = configured_network(matches, files.first().map(PathBuf::as_path))?;
    let inspection = match network {
        Some(network) => Inspection::against(network, &weights),
        None => Inspection::of(&weights),
    };
    let half = files.first().and_then(|file| {
        NoiseHalf::of_file_name(&file.file_name().unwrap_or_default().to_string_lossy())
    });
    let half = half.map(|half| half.to_string());
    let mut formats: Vec<&str> = weights.files().iter().map(|file| file.format()).collect();
    formats.dedup();
    let formats = formats.join(", ");
    let lines = lines(&name, &inspection, &formats, half.as_deref());
    let json = json(&name, &inspection, &formats, half.as_deref());
    Ok(Described { lines, json, problems: inspection.problems.len() })
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

fn lines(name: &str, inspection: &Inspection, formats: &str, half: Option<&str>) -> Vec<String> {
    let size = inspection.size();
    let mut lines = vec![
        name.to_owned(),
        format!("  {}, {formats}, names: {:?}", titles(inspection), inspection.layout),
        format!(
            "  {} tensors, {:.3} G parameters, {:.3} GB",
            size.tensors,
            size.parameters as f64 / 1e9,
            size.bytes as f64 / 1e9
        ),
    ];
    for (dtype, size) in &inspection.dtypes {
        lines.push(format!(
            "    {dtype}: {} tensors, {:.3} GB",
            size.tensors,
            size.bytes as f64 / 1e9
        ));
    }
    if inspection.candidates.len() > 1 {
        lines.push("  these have the same tensors: say which with --task".into());
    }
    if let Some(half) = half {
        let flag = if half == "high" { "--transformer" } else { "--transformer_2" };
        lines.push(format!("  its name says {half} noise: of two experts, {flag}"));
    }
    let listed = inspection.problems.iter().take(LISTED_MAX);
    lines.extend(listed.map(|problem| format!("  {problem}")));
    if inspection.problems.len() > LISTED_MAX {
        lines.push(format!("  ... and {} more", inspection.problems.len() - LISTED_MAX));
    }
    lines
}

fn size_json(size: &Size) -> Value {
    json!({ "tensors": size.tensors, "parameters": size.parameters, "bytes": size.bytes })
}

fn json(name: &str, inspection: &Inspection, formats: &str, half: Option<&str>) -> Value {
    let dtypes: serde_json::Map<String, Value> =
        inspection.dtypes.iter().map(|(dtype, s)| (dtype.clone(), size_json(s))).collect();
    json!({
        "path": name,
        "kind": "network",
        "network": inspection.network.as_ref().map(Network::name),
        "format": formats,
        "layout": format!("{:?}", inspection.layout),
        "candidates": inspection.candidates.iter().map(|k| k.id).collect::<Vec<_>>(),
        "expert": half,
        "size": size_json(&inspection.size()),
        "dtypes": dtypes,
        "problems": inspection.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
