//! `wan.toml`: what holds in a model folder where a request says nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Table;
use wan_plugin_api::OptionValues;

use crate::request::Request;

/// Key of shifts by size.
const SHIFT_OF_SIZE: &str = "sample_shift_of_size";

/// `wan.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WanToml {
    pub(crate) model: ModelFiles,
    pub(crate) generate: Option<FolderDefaults>,
    pub(crate) sampler_options: OptionValues,
    pub(crate) cache_options: OptionValues,
}

impl WanToml {
    /// Whether it completes requests, and does not only name files.
    pub(crate) fn completes_requests(&self) -> bool {
        let has_options = !self.sampler_options.is_empty() || !self.cache_options.is_empty();
        self.generate.is_some() || has_options
    }
}

/// `[model]`: the files of a model's parts, relative to the folder of `wan.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ModelFiles {
    transformer: Option<PathBuf>,
    transformer_2: Option<PathBuf>,
    text_encoder: Option<PathBuf>,
    vae: Option<PathBuf>,
    image_encoder: Option<PathBuf>,
    tokenizer: Option<PathBuf>,
}

/// Files of a model by the names of its parts.
#[derive(Debug, Default)]
pub(crate) struct NamedFiles {
    pub(crate) parts: BTreeMap<String, Vec<PathBuf>>,
    pub(crate) tokenizer: Option<PathBuf>,
}

impl ModelFiles {
    /// The files, named from where the folder of `wan.toml` is named from.
    pub(crate) fn within(&self, folder: &Path) -> NamedFiles {
        let parts = [
            ("transformer", &self.transformer),
            ("transformer_2", &self.transformer_2),
            ("text_encoder", &self.text_encoder),
            ("vae", &self.vae),
            ("image_encoder", &self.image_encoder),
        ];
        let named = |(part, file): (&str, &Option<PathBuf>)| {
            Some((part.to_owned(), vec![folder.join(file.as_ref()?)]))
        };
        NamedFiles {
            parts: parts.into_iter().filter_map(named).collect(),
            tokenizer: self.tokenizer.as_ref().map(|file| folder.join(file)),
        }
    }
}

/// `[generate]`: a request, and shifts of sizes (`832*480`) that have one of their own.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Table")]
pub(crate) struct FolderDefaults {
    pub(crate) request: Request,
    pub(crate) shift_of_size: BTreeMap<String, f64>,
}

impl TryFrom<Table> for FolderDefaults {
    type Error = String;

    fn try_from(mut table: Table) -> std::result::Result<Self, String> {
        let said = |error: toml::de::Error| error.message().to_string();
        let shifts = table.remove(SHIFT_OF_SIZE).map(BTreeMap::deserialize);
        let shifts = shifts.transpose().map_err(said)?;
        let request = serde_path_to_error::deserialize(table);
        let request: Request = request.map_err(|error: serde_path_to_error::Error<_>| {
            let field = error.path().to_string();
            format!("{field}: {}", said(error.into_inner()))
        })?;
        // What has no effect here is refused.
        for (field, is_given, why) in [
            ("task", request.task.is_some(), "names other defaults than these; leave it out"),
            ("sampler_options", !request.sampler_options.is_empty(), "is a table beside this one"),
            ("cache_options", !request.cache_options.is_empty(), "is a table beside this one"),
        ] {
            if is_given {
                return Err(format!("{field}: {why}"));
            }
        }
        Ok(Self { request, shift_of_size: shifts.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_model_are_relative_to_its_folder_and_other_keys_are_refused() {
        let read = |text: &str| toml::from_str::<WanToml>(text);
        let text = "[model]\ntransformer = 'a/b.gguf'\nvae = '/c.pth'\ntokenizer = 't.json'";
        let files = read(text).unwrap().model.within(Path::new("root"));
        let expected = [("transformer", "root/a/b.gguf"), ("vae", "/c.pth")];
        let expected = expected.map(|(part, file)| (part.to_owned(), vec![PathBuf::from(file)]));
        assert_eq!(files.parts, expected.into());
        assert_eq!(files.tokenizer, Some("root/t.json".into()));
        let error = read("[model]\ntransfromer = 'a'").unwrap_err().to_string();
        assert!(error.contains("transfromer"), "{error}");
    }

    #[test]
    fn what_has_no_effect_in_a_folders_defaults_is_refused() {
        let read = |text: &str| toml::from_str::<WanToml>(text);
        assert!(read("[generate]\nfps = 8\n[sampler_options]\nsolver = 'euler'").is_ok());
        for (text, field) in [
            ("task = 't2v-14B'", "task: "),
            ("sampler_options = { solver = 'euler' }", "sampler_options: "),
            ("cache_options = { threshold = 0.1 }", "cache_options: "),
        ] {
            let error = read(&format!("[generate]\n{text}")).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
