//! NVIDIA's compiler: an installed one, else the one of the Python package index.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::fail;
use crate::{Done, execute};

/// The compiler without the libraries, 105 MB. 13.0: what a newer one makes needs a driver above
/// 580.
const WHEELS: [&str; 5] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
];

/// A CUDA toolkit.
pub(super) struct Toolkit {
    /// Its folder.
    pub(super) home: PathBuf,
    /// As `13.0`.
    pub(super) version: String,
}

/// The toolkit of `CUDA_HOME` or of the `nvcc` on the PATH; else one fetched into `folder`.
pub(super) fn find(folder: &Path) -> Result<Toolkit, u8> {
    if let Some(home) = std::env::var_os("CUDA_HOME").map(PathBuf::from) {
        return Toolkit::at(&home).ok_or_else(|| {
            eprintln!(
                "xtask: CUDA_HOME is {}, and {} does not run; correct it, or unset it to have the \
                 compiler fetched",
                home.display(),
                home.join("bin/nvcc").display()
            );
            1
        });
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("nvcc"));
    let installed = on_path
        .filter_map(|nvcc| nvcc.canonicalize().ok())
        .find_map(|nvcc| Toolkit::at(nvcc.parent()?.parent()?));
    installed.map_or_else(|| fetched(&folder.join("toolkit")), Ok)
}

impl Toolkit {
    fn at(home: &Path) -> Option<Self> {
        let said = Command::new(home.join("bin/nvcc")).arg("--version").output().ok()?;
        let said = String::from_utf8(said.stdout).ok()?;
        let version = said.split_once("release ")?.1.split(',').next()?;
        Some(Self { home: home.to_path_buf(), version: version.to_owned() })
    }
}

/// The wheels in a virtual environment of their own.
fn fetched(environment: &Path) -> Result<Toolkit, u8> {
    if let Some(toolkit) = in_environment(environment) {
        return Ok(toolkit);
    }
    eprintln!("xtask: no CUDA toolkit is installed; fetching NVIDIA's compiler (105 MB)");
    install(environment).inspect_err(|_| {
        eprintln!(
            "xtask: NVIDIA's compiler could not be fetched; it takes python3 with venv and pip, \
             and the Python package index. Or install a CUDA toolkit and set CUDA_HOME"
        );
    })?;
    in_environment(environment).ok_or_else(|| {
        eprintln!("xtask: {}: nvcc does not run; delete the folder", environment.display());
        1
    })
}

fn install(environment: &Path) -> Done {
    if environment.exists() {
        fs::remove_dir_all(environment).or_else(|error| fail(environment, error))?;
    }
    execute(Command::new("python3").args(["-m", "venv"]).arg(environment))?;
    let pip = environment.join("bin/pip");
    execute(Command::new(pip).args(["install", "--quiet", "--no-deps"]).args(WHEELS))
}

fn in_environment(environment: &Path) -> Option<Toolkit> {
    let versions = fs::read_dir(environment.join("lib")).ok()?.flatten();
    let mut homes = versions.map(|python| python.path().join("site-packages/nvidia/cu13"));
    homes.find_map(|home| Toolkit::at(&home))
}
