//! A run as a program would lead it: two growing files, four checkpoints.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::disk::script::{Plan, Script};
use crate::{Checkpoint, Error, Growing, Journal, Mark, Result, RunFolder, TensorView};

/// Checkpoints of the whole run.
pub(super) const END: u64 = 4;

pub(super) const RECIPE: &str = "{ \"seed\": 7 }";

/// What the text of a checkpoint holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Text {
    latents: Mark,
    video: Mark,
}

/// A part of the journal.
fn part(number: u64) -> Vec<u8> {
    format!("latents of round {number}").into_bytes()
}

fn clip(number: u64) -> Vec<u8> {
    vec![u8::try_from(number).unwrap(); 5]
}

fn numbers_of(number: u64) -> Vec<u8> {
    (0..6).flat_map(|i| (number * 10 + i).to_le_bytes()).collect()
}

fn quiet_disk() -> Disk {
    Script::disk(Plan::Quiet, false).0
}

/// A run at work.
pub(super) struct Story {
    pub(super) folder: RunFolder,
    files: Option<(Journal, Growing)>,
    /// Checkpoints that were reported as written.
    pub(super) done: u64,
}

impl Story {
    pub(super) fn begin(disk: Disk, path: &Path) -> Result<Self> {
        let folder = RunFolder::create_on(disk, path, RECIPE)?;
        Ok(Self { folder, files: None, done: 0 })
    }

    /// Opens the folder, and the growing files where the newest checkpoint says.
    pub(super) fn resume(disk: Disk, path: &Path) -> Result<Self> {
        let mut story = Self { folder: RunFolder::open_on(disk, path)?, files: None, done: 0 };
        assert_eq!(story.folder.recipe(), RECIPE);
        story.go_back()?;
        Ok(story)
    }

    /// Goes on from the newest checkpoint in the same process.
    pub(super) fn go_back(&mut self) -> Result<()> {
        self.files = None;
        let newest = self.folder.newest()?;
        assert!(newest.damaged.is_empty(), "{:?}", newest.damaged);
        (self.files, self.done) = match newest.checkpoint {
            None => (None, 0),
            Some(checkpoint) => {
                let text: Text = serde_json::from_str(&checkpoint.text).unwrap();
                let latents = self.folder.go_on_journal("latents", &text.latents)?;
                let video = self.folder.go_on("video.mp4", &text.video)?;
                check(&self.folder, &checkpoint, &text);
                (Some((latents, video)), checkpoint.number)
            }
        };
        Ok(())
    }

    /// Goes on to the end, or to an error.
    pub(super) fn go_on(&mut self) -> Result<()> {
        while self.done < END {
            self.round()?;
        }
        Ok(())
    }

    fn round(&mut self) -> Result<()> {
        let number = self.done + 1;
        if self.files.is_none() {
            let latents = self.folder.begin_journal("latents")?;
            self.files = Some((latents, self.folder.begin("video.mp4")?));
        }
        let (latents, video) = self.files.as_mut().unwrap();
        latents.append(&part(number))?;
        video.append(&clip(number))?;
        let text = Text { latents: latents.mark()?, video: video.mark()? };
        let text = serde_json::to_string(&text).unwrap();
        let bytes = numbers_of(number);
        let tensors = [
            TensorView { name: "mask", dtype: "BOOL", shape: &[3], bytes: &bytes[..3] },
            TensorView { name: "x", dtype: "F32", shape: &[3, 4], bytes: &bytes },
        ];
        self.folder.write_checkpoint(number, &text, &tensors)?;
        self.done = number;
        // Both are on the disk, and are not waited for twice.
        assert_eq!(serde_json::from_str::<Text>(&text).unwrap().video, video.mark()?);
        Ok(())
    }
}

/// Whether a checkpoint and what it refers to are what [`Story::round`] wrote.
fn check(folder: &RunFolder, checkpoint: &Checkpoint, text: &Text) {
    let (number, x) = (checkpoint.number, &checkpoint.tensors[1]);
    assert_eq!((x.name.as_str(), x.dtype.as_str(), &x.shape[..]), ("x", "F32", &[3, 4][..]));
    assert_eq!(x.bytes, numbers_of(number));
    assert_eq!(checkpoint.tensors[0].bytes, numbers_of(number)[..3]);
    let parts = folder.read_journal("latents", &text.latents).unwrap();
    let parts: Vec<Vec<u8>> = parts.map(Result::unwrap).collect();
    assert_eq!(parts, (1..=number).map(part).collect::<Vec<_>>());
    let video = fs::read(folder.path_of("video.mp4").unwrap()).unwrap();
    let clips: Vec<u8> = (1..=number).flat_map(clip).collect();
    assert_eq!(video[..usize::try_from(text.video.bytes).unwrap()], clips);
}

/// Holds a run that ended to what it had reported, and brings it to its end. `done` is the number
/// of the last checkpoint that was reported as written.
pub(super) fn hold(path: &Path, done: u64) {
    let mut story = match Story::resume(quiet_disk(), path) {
        Err(Error::NoRun { .. }) => {
            assert_eq!(done, 0);
            Story::begin(quiet_disk(), path).unwrap()
        }
        story => story.unwrap(),
    };
    assert!(story.done >= done, "{} of {done}", story.done);
    let all = story.folder.checkpoints().unwrap();
    for number in done.saturating_sub(1).max(1)..=done {
        let file = all.iter().find(|file| file.number() == number).expect("a completed one");
        let checkpoint = file.read().unwrap();
        check(&story.folder, &checkpoint, &serde_json::from_str(&checkpoint.text).unwrap());
    }
    assert!(super::names(path).iter().all(|name| !name.ends_with(".part")));
    story.go_on().unwrap();
    drop(story);
    end(path);
}

/// Whether the run has come to its end as one does that nothing happened to. Where it ended before
/// it could remove the oldest of three checkpoints, that one may be there still.
pub(super) fn end(path: &Path) {
    let (_folder, quiet) = super::place();
    Story::begin(quiet_disk(), &quiet).unwrap().go_on().unwrap();
    let mut names = super::names(path);
    names.retain(|name| !name.starts_with("round-000002."));
    assert_eq!(names, super::names(&quiet), "hashes too");
    for name in &names {
        assert_eq!(fs::read(path.join(name)).unwrap(), fs::read(quiet.join(name)).unwrap());
    }
    assert_eq!(names.len(), 6, "lock, recipe, two files, two checkpoints");
}
