//! The command lines of a case.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::case::Case;

/// `wan convert`, to a file of all tensors in f32.
pub(super) fn convert(program: &Path, case: &Case, out: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    command.arg("convert").arg(model(case)?);
    command.args(["--dtype", "f32", "--out"]).arg(out);
    network(&mut command, case);
    Ok(command)
}

/// `wan inspect --forward`, to a file of what comes out.
pub(super) fn forward(program: &Path, case: &Case, out: &Path) -> Result<Command> {
    let io = case.said.forward.as_deref().context("a forward pass")?;
    let mut command = Command::new(program);
    command.arg("inspect").arg(model(case)?);
    command.arg("--forward").arg(case.file(io)).arg("--out").arg(out);
    network(&mut command, case);
    Ok(command)
}

fn model(case: &Case) -> Result<std::path::PathBuf> {
    Ok(case.file(case.said.model.first().context("weights")?))
}

fn network(command: &mut Command, case: &Case) {
    command.args(["--part", &case.said.kind]);
    if let Some(config) = &case.said.config {
        command.arg("--config").arg(case.file(config));
    }
    for lora in &case.said.loras {
        let mut argument = case.file(&lora.file).into_os_string();
        argument.push(format!("={}", lora.strength));
        command.arg("--lora").arg(argument);
    }
}
