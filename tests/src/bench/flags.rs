//! The command line.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use wan_tests::checkout::checkout;

use crate::transformer::Latents;

pub(crate) const HELP: &str = "\
cargo xtask bench [FLAGS]

  --compare-torch   run each row in torch too, in turn with ours (tools/bench_torch)
  --python FILE     the Python that has torch [default: target/bench-torch/bin/python]
  --only NAME,..    rows whose names begin so
  --runs N          runs of a row, at least 1 [default: 5]
  --latents F,H,W   latent frames, rows and columns of the forwards [default: 3,30,52]
  --json FILE       what was measured, as JSON
  --plot FILE       time against tokens, as SVG
  --program FILE    the `wan` whose start is measured; xtask names it

rows: forward-f32, forward-bf16, df-bf16, q4k-bf16, fp8-bf16, context-bf16, attention-32760,
attention-75600, vae-f32, vae-bf16, text-f32, text-bf16, tokens-N, peak-rss, peak-heap, version,
version-peak, demo
";

/// What is asked for.
pub(crate) struct Flags {
    pub(crate) python: Option<PathBuf>,
    only: Vec<String>,
    pub(crate) runs: usize,
    pub(crate) latents: Latents,
    pub(crate) json: Option<PathBuf>,
    pub(crate) plot: Option<PathBuf>,
    pub(crate) program: Option<PathBuf>,
    /// What this process measures of itself, for another one of it.
    pub(crate) child: Option<Vec<String>>,
}

impl Flags {
    /// Reads them; none where help is asked for.
    pub(crate) fn read() -> Result<Option<Self>> {
        let mut flags = Self {
            python: None,
            only: Vec::new(),
            runs: 5,
            latents: Latents { frames: 3, height: 30, width: 52 },
            json: None,
            plot: None,
            program: None,
            child: None,
        };
        let (mut compares, mut python) = (false, None);
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word}: a value is missing"));
            match word.as_str() {
                "help" | "--help" => return Ok(None),
                "--compare-torch" => compares = true,
                "--python" => python = Some(value()?.into()),
                "--only" => flags.only = value()?.split(',').map(String::from).collect(),
                "--runs" => flags.runs = value()?.parse().context("--runs: a number")?,
                "--latents" => flags.latents = value()?.parse()?,
                "--json" => flags.json = Some(value()?.into()),
                "--plot" => flags.plot = Some(value()?.into()),
                "--program" => flags.program = Some(value()?.into()),
                "--child" => {
                    flags.child = Some(words.collect());
                    return Ok(Some(flags));
                }
                other => bail!("{other} is not known\n{HELP}"),
            }
        }
        ensure!(flags.runs > 0, "--runs: at least 1");
        let python = python.unwrap_or_else(|| own_python(&checkout()));
        flags.python = compares.then_some(python);
        Ok(Some(flags))
    }

    /// Whether a row of this name is asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.starts_with(only.as_str()))
    }
}

/// Where `tools/bench_torch/README.md` puts it.
fn own_python(checkout: &Path) -> PathBuf {
    checkout.join("target/bench-torch/bin/python")
}

impl FromStr for Latents {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Vec<usize> = text.split(',').filter_map(|n| n.parse().ok()).collect();
        match numbers[..] {
            [frames, height, width] if frames > 0 && height > 1 && width > 1 => {
                Ok(Self { frames, height, width })
            }
            _ => bail!("--latents: three numbers such as 3,30,52, not {text}"),
        }
    }
}
