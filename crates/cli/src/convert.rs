//! `wan convert`: weights in another container, under other names, in other number formats.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Arg, ArgMatches, Command, value_parser};
use sha2::{Digest, Sha256};
use wan_host::{Error, LoraRequest, NoiseHalf, Result};
use wan_model::convert::{Container, Conversion, WrittenNumbers};
use wan_model::inspect::{Inspection, Network, check};
use wan_model::lora::{Expert, FittedLora, Lora};
use wan_model::original_names::Layout;
use wan_model::weights::{WeightFile, Weights};
use wan_outputs::{Claim, Outputs, Wanted};

use crate::args::{flag, progress, progress_form};
use crate::finish::bytes;
use crate::network_config::{CONFIG, config, configured_network, given_part, part};
use crate::outputs::{outputs, overwrite, say_notices};
use crate::progress::Progress;
use crate::run_flags::{given_loras, lora};
use crate::weight_paths::weight_paths;

/// Room for a header, by estimate: that of a 14B model has 0.2 MB.
const HEADER_BYTES: u64 = 1 << 20;

/// Buffer of the file that is written.
const BUFFER: usize = 1 << 20;

pub(super) fn command() -> Command {
    let path = value_parser!(PathBuf);
    let words = |names: Vec<&'static str>| names.join(" | ");
    let formats = words(WrittenNumbers::names().collect());
    Command::new("convert")
        .about("Write weights anew: as safetensors or GGUF, in other number formats, with LoRAs")
        .arg(
            Arg::new("in")
                .required(true)
                .num_args(1..)
                .value_name("IN")
                .value_parser(path.clone())
                .help("Weight files of one network, an index of shards, or a folder of them"),
        )
        .arg(
            flag("out", "FILE|FOLDER", "FILE.safetensors, FILE.gguf, or a folder as diffusers has")
                .required(true)
                .value_parser(path.clone()),
        )
        .arg(part())
        .arg(config())
        .arg(
            flag("layout", "NAMES", "Names of tensors: diffusers | wan [diffusers; in GGUF wan]")
                .hide_possible_values(true)
                .value_parser(["diffusers", "wan"]),
        )
        .arg(
            flag("dtype", "FORMAT", "Number format [as in the file, bf16 for 8 bits and blocks]")
                .long_help(format!(
                    "Number format: {formats}. Without it floats stay as they are in the file, and \
                     8 bits and blocks become bf16"
                ))
                .value_parser(|text: &str| text.parse::<WrittenNumbers>()),
        )
        .arg(lora())
        .args([overwrite(), progress()])
}

pub(super) fn run(matches: &ArgMatches) -> Result<()> {
    let (weights, network) = given_network(matches)?;
    let loras = fitted(matches, &network)?;
    let out = matches.get_one::<PathBuf>("out").cloned().unwrap_or_default();
    let target = Target::of(&out, &network);
    let numbers = matches.get_one("dtype").copied().unwrap_or(WrittenNumbers::Own);
    let layout = layout(matches, &network, target.container);
    let how = (target.container, layout, numbers);
    let conversion = Conversion::new(&network, &weights, loras, how)?;
    let mut outputs = outputs(matches);
    weights.files().iter().for_each(|file| outputs.protect(file.path()));
    let (claim, config) = target.claim(&mut outputs, conversion.bytes())?;
    say_notices(&mut outputs);
    let mut progress = Progress::new(progress_form(matches));
    progress.phase("convert", conversion.tensors());
    let (length, hash) = written(&conversion, claim, &mut progress)?;
    progress.finish();
    if let Some(config) = config {
        let text = format!("{:#}\n", network.config_json());
        config.write(text.as_bytes())?;
    }
    say!("wrote {} ({}), SHA-256 {hash}", target.file.display(), bytes(length));
    Ok(())
}

/// The weights that a command line names, and the network that they are of.
///
/// # Errors
/// If they cannot be read, or are of another network.
pub(super) fn given_network(matches: &ArgMatches) -> Result<(Arc<Weights>, Network)> {
    let given: Vec<&PathBuf> = matches.get_many("in").into_iter().flatten().collect();
    let part = given_part(matches);
    let paths = given.into_iter().map(|path| weight_paths(path, part));
    let paths = paths.collect::<Result<Vec<_>>>()?.concat();
    let weights = Arc::new(Weights::open_part(&paths, part)?);
    let named = configured_network(matches, paths.first().map(PathBuf::as_path))?;
    let network = named.or_else(|| Inspection::of(&weights).network);
    let network = network.ok_or_else(|| {
        let first = paths.first().map_or(String::new(), |path| path.display().to_string());
        Error::model_file(format!(
            "{first}: not the weights of a network that is known here (see `wan inspect`); give \
             its config.json with `config`, and `part`"
        ))
    })?;
    check(&network, &weights)?;
    Ok((weights, network))
}

/// The LoRAs that a command line names, fitted to a network.
///
/// # Errors
/// If one cannot be read, or does not fit.
pub(super) fn fitted(matches: &ArgMatches, network: &Network) -> Result<Vec<Arc<FittedLora>>> {
    let fit = |asked: LoraRequest| -> Result<Arc<FittedLora>> {
        if !matches!(network, Network::Transformer(_)) {
            return Err(Error::field("lora", "is for a transformer alone"));
        }
        let lora = Arc::new(Lora::open(&asked.file)?);
        let expert = match asked.expert {
            Some(NoiseHalf::Low) => Expert::LowNoise,
            Some(NoiseHalf::High) => Expert::HighNoise,
            None => Expert::Only,
        };
        let fitted = FittedLora::new(&lora, network, asked.strength, expert)?;
        for warning in fitted.warnings() {
            note!("{}: {warning}", asked.file.display());
        }
        Ok(Arc::new(fitted))
    };
    given_loras(matches).unwrap_or_default().into_iter().map(fit).collect()
}

fn layout(matches: &ArgMatches, network: &Network, container: Container) -> Layout {
    let asked = matches.get_one::<String>("layout").map(String::as_str);
    match (asked, container, network) {
        (Some("diffusers"), ..) | (None, Container::Safetensors, _) => Layout::Diffusers,
        (None, Container::Gguf, Network::TextEncoder(_)) => Layout::LlamaTextEncoder,
        (_, _, network) => network.original_layout(),
    }
}

/// What is written where.
struct Target {
    file: PathBuf,
    /// Of a folder.
    config: Option<PathBuf>,
    container: Container,
}

impl Target {
    fn of(out: &Path, network: &Network) -> Self {
        let extension = out.extension().and_then(|e| e.to_str()).map(str::to_lowercase);
        let container = match extension.as_deref() {
            Some("safetensors") => Container::Safetensors,
            Some("gguf") => Container::Gguf,
            _ => {
                let name = match network {
                    Network::Transformer(_) | Network::Vae(_) => {
                        "diffusion_pytorch_model.safetensors"
                    }
                    Network::TextEncoder(_) | Network::ImageEncoder(_) => "model.safetensors",
                };
                let (file, config) = (out.join(name), Some(out.join(CONFIG)));
                return Self { file, config, container: Container::Safetensors };
            }
        };
        Self { file: out.to_path_buf(), config: None, container }
    }

    fn claim(&self, outputs: &mut Outputs, bytes: u64) -> Result<(Claim, Option<Claim>)> {
        let wanted = |path: &Path, bytes| Wanted {
            field: "out".into(),
            path: path.into(),
            is_ours,
            bytes,
            temporary_in: None,
        };
        if let Some(folder) = self.config.as_deref().and_then(Path::parent) {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        let claim = outputs.claim(&wanted(&self.file, bytes.saturating_add(HEADER_BYTES)))?;
        let config = self.config.as_deref();
        let config = config.map(|path| outputs.claim(&wanted(path, HEADER_BYTES))).transpose()?;
        Ok((claim, config))
    }
}

/// Whether a file says that this program made it.
fn is_ours(path: &Path) -> bool {
    WeightFile::open(path)
        .is_ok_and(|file| file.metadata().contains_key(wan_model::convert::MADE_BY))
}

/// Writes the file; gives its length and SHA-256.
fn written(
    conversion: &Conversion,
    mut claim: Claim,
    progress: &mut Progress,
) -> Result<(u64, String)> {
    let path = claim.path().to_path_buf();
    let out = Hashing { out: claim.file(), hash: Sha256::new(), length: 0 };
    let out = BufWriter::with_capacity(BUFFER, out);
    let mut show = |done| progress.step(done, conversion.tensors());
    let out = conversion.write(out, &mut show)?;
    let out = out.into_inner().map_err(|error| Error::io(&path)(error.into_error()))?;
    let (length, hash) = (out.length, hex::encode(out.hash.finalize()));
    claim.keep()?;
    Ok((length, hash))
}

/// A file whose hash is made while it is written.
struct Hashing<'f> {
    out: &'f mut File,
    hash: Sha256,
    length: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
