//! What lies in the folder of a run: what it made, and what it left unfinished.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use safetensors::SafeTensors;
use serde_json::Value;
use wan_media::{GrowingIndex, VideoFrames, VideoTags, read_video};

/// The name of all runs, without an end.
const NAME: &str = "out";

/// Members of a sidecar that are of the process and not of the video.
const OF_THE_PROCESS: [&str; 4] =
    ["phases", "memory.peak_resident_bytes", "memory.weights", "memory.streamed"];

/// The video of a run in a folder.
pub(super) fn video(folder: &Path) -> PathBuf {
    folder.join(NAME).with_extension("mp4")
}

/// What it is kept in while it is unfinished.
pub(super) fn run_folder(folder: &Path) -> PathBuf {
    folder.join(NAME).with_extension("run")
}

/// Names of all that lies in a folder; none if it is not there.
pub(super) fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What a finished run has made.
pub(super) struct Made {
    /// Contents of its files by name, but for what is of the process.
    files: BTreeMap<String, Contents>,
    /// The pictures, if it made any.
    pub(super) pictures: Option<VideoFrames>,
}

/// What a file says that has to be the same.
enum Contents {
    Bytes(Vec<u8>),
    Sidecar(Value),
    /// Sidecar and numbers.
    Latents(Value, Vec<u8>),
}

impl Made {
    /// Reads what lies in a folder.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        for name in names(folder) {
            let path = folder.join(&name);
            ensure!(path.is_file(), "{name} is left, which is no file");
            let bytes = fs::read(&path)?;
            let contents = match path.extension().and_then(|end| end.to_str()) {
                Some("json") => Contents::Sidecar(serde_json::from_slice(&bytes)?),
                Some("safetensors") => latents(&bytes).with_context(|| name.clone())?,
                _ => Contents::Bytes(bytes),
            };
            files.insert(name, contents);
        }
        let video = video(folder);
        let pictures = video.is_file().then(|| read_video(&video)).transpose()?;
        Ok(Self { files, pictures })
    }

    /// In what another run's files differ, a line each.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.files.keys().chain(other.files.keys()).collect();
        let mut found = Vec::new();
        for name in names {
            match (self.files.get(name), other.files.get(name)) {
                (Some(own), Some(other)) => differ(own, other, name, &mut found),
                (Some(_), None) => found.push(format!("{name} is missing")),
                (None, _) => found.push(format!("{name} is left")),
            }
        }
        found
    }
}

/// Numbers and sidecar of a file of latents.
fn latents(bytes: &[u8]) -> Result<Contents> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let sidecar = header.metadata().as_ref().and_then(|texts| texts.get("wan"));
    let sidecar = serde_json::from_str(sidecar.context("no sidecar in it")?)?;
    let numbers = SafeTensors::deserialize(bytes)?.tensor("latents")?.data().to_vec();
    Ok(Contents::Latents(sidecar, numbers))
}

fn differ(own: &Contents, other: &Contents, name: &str, found: &mut Vec<String>) {
    match (own, other) {
        (Contents::Sidecar(own), Contents::Sidecar(other)) => members(own, other, "", found),
        (Contents::Latents(own, ours), Contents::Latents(other, others)) => {
            members(own, other, "", found);
            if ours != others {
                found.push(format!("{name} has other numbers"));
            }
        }
        (Contents::Bytes(own), Contents::Bytes(other)) if own == other => {}
        _ => found.push(format!("{name} has other bytes")),
    }
}

/// In which members two sidecars differ.
fn members(own: &Value, other: &Value, path: &str, found: &mut Vec<String>) {
    if OF_THE_PROCESS.contains(&path) || own == other {
        return;
    }
    let (Value::Object(ours), Value::Object(others)) = (own, other) else {
        let [own, other] = [own, other].map(|value| {
            let text = value.to_string();
            text.chars().take(80).collect::<String>()
        });
        return found.push(format!("sidecar: {path} is {other} instead of {own}"));
    };
    let names: BTreeSet<&String> = ours.keys().chain(others.keys()).collect();
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let [own, other] = [ours, others].map(|o| o.get(name).unwrap_or(&Value::Null));
        members(own, other, &path, found);
    }
}

/// How far a run has come on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// No run is there, or not yet.
    Nothing,
    /// A run.
    Run {
        /// Whether it has a checkpoint.
        has_checkpoint: bool,
    },
    /// All is made; what kept the run is on its way out, or gone.
    Removed,
}

impl Left {
    /// Looks into a folder whose process has ended.
    pub(super) fn in_folder(folder: &Path, made: &BTreeSet<String>) -> Self {
        let own = names(&run_folder(folder));
        let is_there = |begin: &str, end: &str| {
            own.iter().any(|name| name.starts_with(begin) && name.ends_with(end))
        };
        if is_there("recipe.", ".json") {
            return Self::Run { has_checkpoint: is_there("round-", ".safetensors") };
        }
        let all = names(folder);
        if made.iter().all(|name| all.contains(name)) { Self::Removed } else { Self::Nothing }
    }
}

/// What lies beside the folder of an unfinished run, though nothing should. `made` are the names of
/// what the run makes, which come just before its end.
pub(super) fn beside(folder: &Path, made: &BTreeSet<String>) -> Vec<String> {
    let own = run_folder(folder);
    let is_own = |name: &String| own.file_name().is_some_and(|own| **name == *own);
    let all = names(folder).into_iter();
    all.filter(|name| !is_own(name) && !made.contains(name)).collect()
}

/// What a killed process has left of the video plays: its frames are the first of the finished
/// video. Gives how many there are.
pub(super) fn growing(folder: &Path, whole: &VideoFrames) -> Result<usize> {
    let path = run_folder(folder).join("growing-video.mp4");
    let Ok(file) = File::open(&path) else { return Ok(0) };
    let mut file = BufReader::new(file);
    let Some(index) = GrowingIndex::read(&mut file, u64::MAX)? else { return Ok(0) };
    // What is read is plain.
    let plain = tempfile::Builder::new().suffix(".mp4").tempfile()?;
    index.write_faststart(&mut file, &VideoTags::default(), &mut plain.as_file())?;
    let there = read_video(plain.path())?;
    let frames = there.frames();
    ensure!(frames == index.frames(), "{frames} frames play of {}", index.frames());
    ensure!(whole.rgb().starts_with(there.rgb()), "the growing file shows another video");
    check_with_ffmpeg(&path)?;
    Ok(frames)
}

/// Decodes a video with ffmpeg, where there is one, which must find nothing wrong.
pub(super) fn check_with_ffmpeg(video: &Path) -> Result<()> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-i"]).arg(video).args(["-f", "null", "-"]);
    let Ok(output) = command.output() else { return Ok(()) };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() && said.is_empty(), "ffmpeg: {said}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_of_the_process_may_differ_and_no_others() {
        let own = json!({ "phases": [1], "memory": { "peak_resident_bytes": 1, "held": 2 } });
        let mut other = json!({ "phases": [], "memory": { "peak_resident_bytes": 9, "held": 2 } });
        let differences = |other: &Value| {
            let mut found = Vec::new();
            members(&own, other, "", &mut found);
            found
        };
        assert_eq!(differences(&other), Vec::<String>::new());
        other["memory"]["held"] = json!(3);
        other["more"] = json!(true);
        let expected =
            ["sidecar: memory.held is 3 instead of 2", "sidecar: more is true instead of null"];
        assert_eq!(differences(&other), expected);
    }
}
