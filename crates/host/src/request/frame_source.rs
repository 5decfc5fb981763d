//! Where given pictures and clips come from: a file, or pixels in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wan_border::files::OpenFile;
use wan_media::{CLIP_BYTES_MAX, PictureLimits, VideoFrames, read_image_within, read_video_within};

use crate::error::{Error, Result};
use crate::path_text;
use crate::request::file_hash::hashed;

/// A picture or a clip that is given.
///
/// In JSON a file is its path. Pixels cannot be written there: what is recorded is their size and
/// hash, from which nothing can be generated again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum FrameSource {
    /// A PNG, JPEG or WebP picture; an MP4 clip with H.264 video.
    File(PathBuf),
    /// Frames in memory; a picture is one frame.
    Pixels(Arc<VideoFrames>),
    /// What a sidecar says of frames that were in memory.
    Recorded(PixelsRecord),
}

/// Size and hash of frames that were in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelsRecord {
    /// Frames.
    pub frames: usize,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// SHA-256 of the pixels: frames x height x width x 3, RGB, one byte a channel.
    pub sha256: String,
}

/// The frames of a source.
#[derive(Debug)]
pub(crate) struct SourceFrames {
    /// All of them.
    pub(crate) frames: Arc<VideoFrames>,
    /// SHA-256 of the file that they were read from, if they were.
    pub(crate) hash: Option<String>,
}

/// A source as JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Path(PathBuf),
    Record(PixelsRecord),
}

impl From<Written> for FrameSource {
    fn from(written: Written) -> Self {
        match written {
            Written::Path(path) => Self::File(path),
            Written::Record(record) => Self::Recorded(record),
        }
    }
}

impl From<FrameSource> for Written {
    fn from(source: FrameSource) -> Self {
        match source {
            FrameSource::File(path) => Self::Path(path_text::readable(&path)),
            FrameSource::Recorded(record) => Self::Record(record),
            FrameSource::Pixels(frames) => Self::Record(PixelsRecord {
                frames: frames.frames(),
                width: frames.width(),
                height: frames.height(),
                sha256: hex::encode(Sha256::digest(frames.rgb())),
            }),
        }
    }
}

impl From<&str> for FrameSource {
    fn from(path: &str) -> Self {
        Self::File(path.into())
    }
}

impl From<PathBuf> for FrameSource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for FrameSource {
    fn from(path: &Path) -> Self {
        Self::File(path.into())
    }
}

impl From<VideoFrames> for FrameSource {
    fn from(frames: VideoFrames) -> Self {
        Self::Pixels(Arc::new(frames))
    }
}

impl FrameSource {
    /// One picture; `field` is what the request calls it.
    ///
    /// # Errors
    /// If the file cannot be read, or the frames are not one.
    pub(crate) fn picture(&self, field: &'static str) -> Result<SourceFrames> {
        let read = self.read(field, |file| {
            let picture = read_image_within(file, PictureLimits::default())?;
            let (width, height) = (picture.width() as usize, picture.height() as usize);
            VideoFrames::new(width, height, picture.into_raw())
        })?;
        match read.frames.frames() {
            1 => Ok(read),
            count => Err(Error::field(field, format!("{count} frames, expected one picture"))),
        }
    }

    /// All frames of a clip.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn clip(&self, field: &'static str) -> Result<SourceFrames> {
        self.read(field, |file| read_video_within(file, CLIP_BYTES_MAX))
    }

    /// Frames in memory, or what `decode` makes of the file.
    fn read(
        &self,
        field: &'static str,
        decode: impl FnOnce(&mut OpenFile) -> wan_media::Result<VideoFrames>,
    ) -> Result<SourceFrames> {
        match self {
            Self::File(path) => {
                let (frames, hash) = hashed(path, decode).map_err(|e| Error::field(field, e))?;
                Ok(SourceFrames { frames: Arc::new(frames), hash: Some(hash) })
            }
            Self::Pixels(frames) => Ok(SourceFrames { frames: frames.clone(), hash: None }),
            Self::Recorded(record) => Err(record.is_no_picture(field)),
        }
    }

    /// The file, if it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        if let Self::File(path) = self { Some(path) } else { None }
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Pixels(_) | Self::Recorded(_) => "pixels in memory".into(),
        }
    }
}

impl PixelsRecord {
    fn is_no_picture(&self, field: &'static str) -> Error {
        Error::field(
            field,
            format!(
                "was given as {} frames of {}x{} pixels in memory (SHA-256 {}), which no file \
                 holds; give them again",
                self.frames, self.width, self.height, self.sha256
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_in_memory_are_recorded_and_do_not_come_back() {
        let source = FrameSource::from(VideoFrames::new(2, 1, vec![0; 12]).unwrap());
        assert_eq!(source.clip("video").unwrap().frames.frames(), 2);
        let error = source.picture("image").unwrap_err().to_string();
        assert_eq!(error, "`image` 2 frames, expected one picture");
        let text = serde_json::to_string(&source).unwrap();
        assert!(
            text.starts_with(r#"{"frames":2,"width":2,"height":1,"sha256":"15ec7bf0"#),
            "{text}"
        );
        let recorded: FrameSource = serde_json::from_str(&text).unwrap();
        let error = recorded.picture("image").unwrap_err().to_string();
        assert!(error.contains("2 frames of 2x1 pixels in memory"), "{error}");
        assert!(serde_json::from_str::<FrameSource>("3").is_err());
    }
}
