//! Embeddings that are kept on the disk: the same bits with and without, and no text encoder where
//! there is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wan_host::{Cancel, DeviceChoice, Engine, Model, PromptCache, Request};
use wan_tests::tiny_model::TinyModel;

use crate::support::{demo_folder, error_text, program};

/// Where the environment says that embeddings are kept.
const FOLDER: &str = "WAN_PROMPT_CACHE";

/// A model, a folder for its videos, and one for embeddings.
struct Kept {
    folder: tempfile::TempDir,
    model: TinyModel,
}

/// A run of the program.
struct Run {
    report: Value,
    said: String,
}

impl Run {
    /// Hash of the latents.
    fn hash(&self) -> &str {
        self.report["latents_hash"].as_str().unwrap()
    }

    /// Whether the text encoder was loaded.
    fn encoded(&self) -> bool {
        !self.report["memory"]["weights"]["parts"]["text_encoder"].is_null()
    }
}

impl Kept {
    fn new() -> Self {
        let (folder, model) = (tempfile::tempdir().unwrap(), TinyModel::t2v());
        model.write(&folder.path().join("model")).unwrap();
        Self { folder, model }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    fn prompts(&self) -> PathBuf {
        self.folder.path().join("cache/prompts")
    }

    /// The files of the cache, in order of name.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.prompts()).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn command(&self, name: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(["generate", "--progress", "quiet", "--cache", "none", "--frame_num", "5"]);
        command.args(["--size", "64*64", "--sample_steps", "2", "--negative_prompt", "a blue box"]);
        if !flags.contains(&"--prompt") {
            command.args(["--prompt", "a red ball"]);
        }
        command
            .arg("--ckpt_dir")
            .arg(self.root())
            .args(flags)
            .arg("--save_file")
            .arg(self.video(name))
            .arg("--overwrite");
        command.env(FOLDER, self.prompts());
        command
    }

    fn video(&self, name: &str) -> PathBuf {
        self.folder.path().join(name).with_extension("mp4")
    }

    fn run(&self, name: &str, flags: &[&str]) -> Run {
        self.finished(name, &mut self.command(name, flags))
    }

    fn finished(&self, name: &str, command: &mut Command) -> Run {
        let output = command.output().unwrap();
        let said = error_text(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let report = fs::read(self.video(name).with_extension("json")).unwrap();
        Run { report: serde_json::from_slice(&report).unwrap(), said }
    }
}

#[test]
fn a_prompt_is_encoded_once_and_the_bits_are_the_same() {
    let kept = Kept::new();
    let without = kept.run("without", &["--no_prompt_cache"]);
    assert!(without.encoded() && !kept.prompts().exists());
    let (first, second) = (kept.run("first", &[]), kept.run("second", &[]));
    assert_eq!((first.encoded(), second.encoded()), (true, false));
    assert_eq!([first.hash(), second.hash()], [without.hash(); 2]);
    assert_eq!(kept.files().len(), 2, "the prompt and the negative one");
    // Turned off, it is neither asked nor changed.
    fs::remove_file(&kept.files()[0]).unwrap();
    assert!(kept.run("off", &["--no_prompt_cache"]).encoded());
    assert_eq!(kept.files().len(), 1);
    // One of the two is enough for the encoder to be loaded.
    let again = kept.run("again", &[]);
    assert_eq!((again.encoded(), again.hash()), (true, without.hash()));
    assert_eq!(kept.files().len(), 2);
    for run in [without, first, second, again] {
        assert_eq!(run.said, "");
    }
}

#[test]
fn another_prompt_encoder_or_tokenizer_is_another_embedding() {
    let kept = Kept::new();
    kept.run("first", &[]);
    let other = kept.run("other", &["--prompt", "a big red ball"]);
    assert!(other.encoded());
    assert_eq!(kept.files().len(), 3);
    // White space at the ends is cleaned off.
    assert!(!kept.run("spaces", &["--prompt", "  a red  ball "]).encoded());
    kept.model.write_weights(&kept.root(), "text_encoder", 1).unwrap();
    assert!(kept.run("weights", &[]).encoded());
    kept.model.write_weights(&kept.root(), "text_encoder", 0).unwrap();
    assert!(!kept.run("weights again", &[]).encoded());
    // The transformer does not matter.
    kept.model.write_weights(&kept.root(), "transformer", 1).unwrap();
    assert!(!kept.run("transformer", &[]).encoded());
    let tokenizer = kept.root().join("tokenizer/tokenizer.json");
    let text = fs::read_to_string(&tokenizer).unwrap();
    fs::write(&tokenizer, text + "\n").unwrap();
    assert!(kept.run("tokenizer", &[]).encoded());
}

#[test]
fn a_damaged_file_is_said_once_and_made_again() {
    let kept = Kept::new();
    let hash = kept.run("first", &[]).hash().to_owned();
    for change in [
        (|bytes: &mut Vec<u8>| bytes[100] ^= 1) as fn(&mut Vec<u8>),
        |bytes| bytes.truncate(bytes.len() / 2),
        Vec::clear,
        |bytes| bytes.push(0),
    ] {
        let file = &kept.files()[0];
        let mut bytes = fs::read(file).unwrap();
        change(&mut bytes);
        fs::write(file, bytes).unwrap();
        let run = kept.run("damaged", &[]);
        assert_eq!((run.encoded(), run.hash()), (true, hash.as_str()));
        assert_eq!(run.said.lines().count(), 1, "{}", run.said);
        assert!(run.said.contains(file.to_str().unwrap()), "{}", run.said);
        assert!(run.said.contains("encoded again"), "{}", run.said);
        let run = kept.run("mended", &[]);
        assert_eq!((run.encoded(), run.hash(), run.said.as_str()), (false, hash.as_str(), ""));
    }
}

#[test]
fn a_folder_that_takes_nothing_is_a_warning() {
    let kept = Kept::new();
    fs::write(kept.folder.path().join("cache"), "a file in the folder's place").unwrap();
    let run = kept.run("first", &[]);
    assert!(run.encoded());
    assert_eq!(run.said.lines().count(), 1, "{}", run.said);
    assert!(run.said.contains("the prompt's embedding is not kept"), "{}", run.said);
    assert!(run.said.contains(kept.prompts().to_str().unwrap()), "{}", run.said);
    assert_eq!(run.hash(), kept.run("without", &["--no_prompt_cache"]).hash());
}

#[cfg(unix)]
#[test]
fn nobody_else_reads_a_prompt() {
    use std::os::unix::fs::PermissionsExt;
    let kept = Kept::new();
    kept.run("first", &[]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&kept.prompts()), 0o700);
    for file in kept.files() {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        let name = file.file_name().unwrap().as_encoded_bytes().to_vec();
        let bytes = fs::read(&file).unwrap();
        for word in ["red", "ball", "blue"] {
            let is_in = |bytes: &[u8]| bytes.windows(word.len()).any(|w| w == word.as_bytes());
            assert!(!is_in(&name) && !is_in(&bytes), "{word} in {}", file.display());
        }
    }
}

#[test]
fn processes_at_once_leave_whole_files() {
    let kept = Kept::new();
    let names = ["a", "b", "c", "d"];
    let started: Vec<_> =
        names.iter().map(|name| kept.command(name, &[]).spawn().unwrap()).collect();
    for mut process in started {
        assert!(process.wait().unwrap().success());
    }
    let run = kept.run("after", &[]);
    assert!(!run.encoded() && run.said.is_empty(), "{}", run.said);
    assert_eq!(kept.files().len(), 2, "{:?}", kept.files());
}

#[test]
fn a_small_text_encoder_leaves_nothing_in_the_users_folder() {
    let kept = Kept::new();
    let home = kept.folder.path().join("home");
    fs::create_dir(&home).unwrap();
    let mut command = kept.command("first", &[]);
    command.env_remove(FOLDER).env_remove("XDG_CACHE_HOME").env("HOME", &home);
    assert!(kept.finished("first", &mut command).encoded());
    assert!(fs::read_dir(&home).unwrap().next().is_none());
    // So turning it off has no effect, and is refused.
    let mut command = kept.command("second", &["--no_prompt_cache"]);
    let output = command.env_remove(FOLDER).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error_text(&output).contains("--no_prompt_cache needs a text encoder of 64 MiB"));
}

fn opened(cache: Option<PromptCache>) -> Model {
    let builder = Engine::builder().device(DeviceChoice::Cpu);
    let builder = cache.into_iter().fold(builder, |builder, cache| builder.prompt_cache(cache));
    builder.build().unwrap().open(demo_folder()).unwrap()
}

#[test]
fn the_library_keeps_prompts_where_it_is_told_to_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let request = Request::new("a big red ball").frame_num(5).sample_steps(1);
    let request = request.sampler("unipc").cache("none");
    let hash = |model: &Model| {
        let settings = model.settle(&request).unwrap();
        model.encode(&settings, &Cancel::default()).unwrap().hash().unwrap()
    };
    let plain = opened(None);
    assert!(plain.engine().prompt_cache().folder().is_none());
    let expected = hash(&plain);
    let kept = || opened(Some(PromptCache::at(folder.path())));
    let first = kept();
    assert!(first.engine().prompt_cache().keeps(first.checkpoint()).unwrap());
    assert_eq!(hash(&first), expected);
    assert!(first.memory().parts.contains_key("text_encoder"));
    let second = kept();
    assert_eq!(hash(&second), expected);
    assert!(!second.memory().parts.contains_key("text_encoder"));
    // What comes from the disk is where it is computed with.
    let embeds = second.encode_prompt("a big red ball").unwrap();
    assert_eq!(embeds.dims(), plain.encode_prompt("a big red ball").unwrap().dims());
    assert!(second.generate(&request).unwrap().notices.is_empty());
    fs::write(fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path(), "x").unwrap();
    let notices = kept().generate(&request).unwrap().notices;
    assert!(notices.len() == 1 && notices[0].contains("encoded again"), "{notices:?}");
    assert!(opened(Some(PromptCache::none())).engine().prompt_cache().folder().is_none());
}
