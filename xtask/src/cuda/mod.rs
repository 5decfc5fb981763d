//! `cargo xtask cuda`: the program and its plugins for NVIDIA GPUs, in `target/cuda`. Needs no GPU.

mod candle;
mod toolkit;

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Done, build, cargo, execute, root};

/// Chips whose code is made where the user names none: H100, H200.
const COMPUTE_CAP: &str = "90";

/// Of all packages, in one invocation for the reason that `build::everything` gives.
const FEATURES: [&str; 2] = ["--features", "wan-cli/cuda,wan-tests/cuda"];

/// Builds `target/cuda/debug/wan`, with the plugins beside it.
pub(crate) fn build(arguments: &[String]) -> Done {
    let compute_cap = compute_cap(arguments)?;
    let folder = root().join("target/cuda");
    fs::create_dir_all(folder.join("link")).or_else(|error| fail(&folder, error))?;
    let toolkit = toolkit::find(&folder)?;
    let lock = Lock::keep()?;
    let candle = candle::patched(&folder, &toolkit.version, lock.version("candle-core"))?;
    // candle's kernels ask for the CUDA runtime: this script makes it the static one, so that the
    // program starts where there is none.
    let script = folder.join("link/libcudart.so");
    fs::write(&script, "GROUP ( libcudart_static.a -lpthread -ldl -lrt )\n")
        .or_else(|error| fail(&script, error))?;
    let mut libraries = vec![folder.join("link")];
    libraries.extend(["lib64", "lib", "targets/x86_64-linux/lib"].map(|l| toolkit.home.join(l)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = std::iter::once(toolkit.home.join("bin")).chain(std::env::split_paths(&path));
    let patch = format!("patch.crates-io.candle-core.path={:?}", candle.display().to_string());
    let built = execute(
        cargo()
            .args(["--config", &patch, "build", "--workspace", "--lib", "--bins", "--target-dir"])
            .arg(&folder)
            .args(FEATURES)
            .env("CUDA_HOME", &toolkit.home)
            .env("CUDA_COMPUTE_CAP", compute_cap)
            .env("LIBRARY_PATH", joined(&libraries))
            .env("PATH", joined(programs)),
    );
    drop(lock);
    built?;
    build::lay_out(&folder.join("debug"))?;
    eprintln!(
        "xtask: {}; a GPU's machine needs a driver, and cublas, cublasLt, curand and nvrtc of CUDA \
         {} on LD_LIBRARY_PATH",
        folder.join("debug/wan").display(),
        toolkit.version
    );
    Ok(())
}

fn compute_cap(arguments: &[String]) -> Result<&str, u8> {
    match arguments {
        [] => Ok(COMPUTE_CAP),
        [flag, cap] if flag == "--compute-cap" && cap.parse::<u16>().is_ok() => Ok(cap),
        _ => {
            eprintln!("xtask: cuda takes [--compute-cap N], as 80, 89 or 90; found {arguments:?}");
            Err(2)
        }
    }
}

fn joined(folders: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> std::ffi::OsString {
    std::env::join_paths(folders).unwrap_or_default()
}

fn fail<T>(path: &Path, error: std::io::Error) -> Result<T, u8> {
    eprintln!("xtask: {}: {error}", path.display());
    Err(1)
}

/// `Cargo.lock` as it was: building with the patch takes candle-core's checksum out.
struct Lock {
    path: PathBuf,
    text: String,
}

impl Lock {
    fn keep() -> Result<Self, u8> {
        let path = root().join("Cargo.lock");
        let text = fs::read_to_string(&path).or_else(|error| fail(&path, error))?;
        Ok(Self { path, text })
    }

    /// The version of a package; empty where it is not there.
    fn version(&self, package: &str) -> &str {
        let entry = self.text.split_once(&format!("name = \"{package}\"\nversion = \""));
        entry.and_then(|(_, after)| after.split('"').next()).unwrap_or_default()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            return;
        }
        if let Err(error) = fs::write(&self.path, &self.text) {
            eprintln!("xtask: {}: {error}; put it back with git", self.path.display());
        }
    }
}
