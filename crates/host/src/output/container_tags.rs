//! What the container of a video says of it: less than the sidecar, since videos are passed on.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wan_media::VideoTags;

use crate::output::sidecar::{Sidecar, StrategyReport};
use crate::request::frame_source::FrameSource;

/// Most bytes of the comment, unless everything is asked for.
const COMMENT_BYTES_MAX: usize = 2048;

/// What stands where a prompt was cut.
const MARK: &str = " [cut]";

/// What the tags of a video's container hold. None of them holds a path, a user or a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metadata {
    /// Nothing.
    None,
    /// Program, prompts, seed, settings and hashes; prompts are cut, with a mark, where the comment
    /// would pass 2 KB.
    #[default]
    Standard,
    /// The same with uncut prompts, and the bare names of given files.
    Full,
}

impl Metadata {
    /// `none`, `standard` or `full`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "standard" => Some(Self::Standard),
            "full" => Some(Self::Full),
            _ => None,
        }
    }

    /// The tags of the video that a sidecar is of.
    pub(super) fn tags(self, sidecar: &Sidecar) -> VideoTags {
        if self == Self::None {
            return VideoTags::default();
        }
        let mut comment = comment(sidecar);
        if self == Self::Full {
            comment["given"] = given_names(sidecar);
        } else {
            cut_prompts(&mut comment);
        }
        let title = comment["settings"]["prompt"].as_str().unwrap_or_default().to_string();
        let description = format!("made by wan {}", sidecar.wan);
        VideoTags { title, comment: comment.to_string(), description }
    }
}

fn comment(sidecar: &Sidecar) -> Value {
    let mut settings = json!(sidecar.settings);
    if let Some(members) = settings.as_object_mut() {
        members.remove("given");
    }
    for strategy in ["sampler", "cache"] {
        let options = settings[strategy].get_mut("options").and_then(Value::as_object_mut);
        options.into_iter().flat_map(|o| o.values_mut()).for_each(hash_document);
    }
    let strategy = |report: &StrategyReport| {
        let StrategyReport { id, plugin, version, hash, .. } = report;
        json!({ "id": id, "plugin": plugin, "version": version, "hash": hash })
    };
    json!({
        "wan": sidecar.wan,
        "settings": settings,
        "task": sidecar.task,
        "model": { "variant": sidecar.model.variant, "fingerprint": sidecar.model.fingerprint },
        "sampler": strategy(&sidecar.sampler),
        "cache": sidecar.cache.as_ref().map(strategy),
        "latents_hash": sidecar.latents_hash,
    })
}

/// A whole document, a calibration, is known by its hash.
fn hash_document(value: &mut Value) {
    if value.is_object() {
        *value = json!({ "sha256": hex::encode(Sha256::digest(value.to_string())) });
    }
}

/// Bare names of the given files.
fn given_names(sidecar: &Sidecar) -> Value {
    let given = &sidecar.settings.given;
    let of = |source: &Option<FrameSource>| source.as_ref().and_then(FrameSource::path).map(name);
    json!({
        "image": of(&given.image),
        "last_frame": of(&given.last_frame),
        "video": of(&given.video),
        "latents": given.latents.as_deref().map(name),
    })
}

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Cuts the longer prompt, then the other, until the comment is short enough.
fn cut_prompts(comment: &mut Value) {
    for _ in 0..2 {
        let too_many = comment.to_string().len().saturating_sub(COMMENT_BYTES_MAX);
        if too_many == 0 {
            return;
        }
        let length = |field: &str| comment["settings"][field].to_string().len();
        let longer = if length("prompt") >= length("negative_prompt") {
            "prompt"
        } else {
            "negative_prompt"
        };
        let Some(text) = comment["settings"][longer].as_str() else { return };
        // In JSON a character may take up to six bytes: so that it fits, each is counted as it is
        // written.
        let room = length(longer).saturating_sub(too_many + MARK.len() + 2);
        let mut written = 0;
        let fits = |c: &char| {
            written += json!(c).to_string().len() - 2;
            written <= room
        };
        let cut: String = text.chars().take_while(fits).collect();
        comment["settings"][longer] = json!(cut + MARK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_cut_until_the_comment_fits() {
        for (prompt, negative) in [
            ("a ball".to_string(), "雾".repeat(2000)),
            ("\"\n".repeat(1500), "x".repeat(900)),
            ("\u{1}".repeat(700), "雾\"".repeat(1200)),
        ] {
            let settings = json!({ "prompt": prompt, "negative_prompt": negative });
            let mut comment = json!({ "settings": settings });
            cut_prompts(&mut comment);
            let length = comment.to_string().len();
            assert!(length <= COMMENT_BYTES_MAX, "{length}");
            assert!(length > COMMENT_BYTES_MAX - 20, "{length}: cut more than needed");
            assert!(comment.to_string().contains(MARK));
        }
        let mut short = json!({ "settings": { "prompt": "a", "negative_prompt": "b" } });
        let before = short.clone();
        cut_prompts(&mut short);
        assert_eq!(short, before);
    }
}
