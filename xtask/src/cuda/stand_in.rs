//! The types of CUDA code, checked without NVIDIA's compiler.

use std::fs;
use std::path::Path;

use super::{FEATURES, fail};
use crate::{Done, cargo, execute, root};

/// Says what build scripts ask of nvcc, and makes empty files of the names that they expect.
const NVCC: &str = "#!/bin/sh
case \"$1\" in
  --version) echo 'Cuda compilation tools, release 13.0, V13.0.88'; exit ;;
  --list-gpu-code) echo sm_90; exit ;;
esac
while [ $# -gt 0 ]; do
  case \"$1\" in
    -o) : >\"$2\" ;;
    --output-directory) folder=$2 ;;
    *.cu) source=$1 ;;
  esac
  shift
done
if [ -n \"$folder\" ]; then : >\"$folder/$(basename \"$source\" .cu).ptx\"; fi
";

/// Clippy over everything with CUDA.
pub(crate) fn check_types() -> Done {
    let nvcc = root().join("target/stand-in/nvcc");
    let folder = nvcc.parent().expect("it has a folder");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&nvcc, NVCC))
        .and_then(|()| make_executable(&nvcc))
        .or_else(|error| fail(&nvcc, error))?;
    execute(
        cargo()
            .args(["clippy", "--workspace", "--all-targets", "--quiet"])
            .args(FEATURES)
            .args(["--", "--deny", "warnings"])
            .env("NVCC", &nvcc)
            .env("CUDA_HOME", folder)
            .env("CUDA_COMPUTE_CAP", "90")
            .env("CUDARC_CUDA_VERSION", "13000"),
    )
}

#[cfg(unix)]
fn make_executable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_executable(path: &Path) -> std::io::Result<()> {
    Err(std::io::Error::other(format!("{} is a shell script", path.display())))
}
