//! The tokenizer of a checkpoint: a file of its own, or what the text encoder's file has of it.

use std::path::{Path, PathBuf};

use wan_border::files::{self, Content};

use super::Checkpoint;
use crate::error::{Error, Result};

/// Where diffusers and Wan keep it. UMT5's two files give the same ids.
const PLACES: [&str; 6] = [
    "tokenizer/tokenizer.json",
    "tokenizer/spiece.model",
    "tokenizer.json",
    "spiece.model",
    "google/umt5-xxl/tokenizer.json",
    "google/umt5-xxl/spiece.model",
];

/// Tensor that ComfyUI's text encoders have it in.
const TENSOR: &str = "spiece_model";

/// A tokenizer's file.
pub(crate) struct TokenizerFile {
    /// The file, or the weight file that it is in.
    pub(crate) path: PathBuf,
    /// What is in it.
    pub(crate) bytes: Vec<u8>,
}

impl Checkpoint {
    /// The tokenizer: the file that was named, or one where diffusers and Wan keep it, or the one
    /// in the text encoder's file. None where there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn tokenizer(&self) -> Result<Option<TokenizerFile>> {
        let places = PLACES.map(|place| self.root().join(place));
        let named = self.named_tokenizer().map(Path::to_path_buf);
        let Some(path) = named.or_else(|| places.into_iter().find(|place| place.is_file())) else {
            return self.tokenizer_of_text_encoder();
        };
        let bytes = files::bytes(&path, Content::Tokenizer).map_err(wan_model::Error::from)?;
        Ok(Some(TokenizerFile { path, bytes }))
    }

    /// The error where there is none.
    pub(crate) fn no_tokenizer(&self) -> Error {
        Error::invalid(format!(
            "{}: no tokenizer (looked for {}, and for {TENSOR} in the text encoder's file); \
             download tokenizer.json of google/umt5-xxl, and name it with `tokenizer`",
            self.root().display(),
            PLACES.join(", ")
        ))
    }

    fn tokenizer_of_text_encoder(&self) -> Result<Option<TokenizerFile>> {
        if !self.has("text_encoder") {
            return Ok(None);
        }
        for file in self.weights("text_encoder")?.files() {
            let is_it = |name: &str| name == TENSOR || name.ends_with(&format!(".{TENSOR}"));
            let found = file.tensors().iter().position(|tensor| is_it(&tensor.name));
            let Some(number) = found else { continue };
            let bytes = file.tensors()[number].bytes();
            if bytes > Content::Tokenizer.bytes_max() {
                return Err(Error::model_file(format!(
                    "{}: tensor '{TENSOR}' has {bytes} bytes, which no tokenizer has; name another \
                     tokenizer with `tokenizer`",
                    file.path().display()
                )));
            }
            let bytes = file.read(number).map_err(wan_model::Error::from)?;
            return Ok(Some(TokenizerFile { path: file.path().to_path_buf(), bytes }));
        }
        Ok(None)
    }
}
