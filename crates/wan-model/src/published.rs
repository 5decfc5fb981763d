//! The published models: their configs, by which inspection recognises them, and the settings with
//! which their publishers sample them. All of it is data in `published.toml`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Table;

use crate::config::WanConfig;

/// A published model.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Name in Wan's `--task`: `t2v-1.3B`.
    pub id: String,
    /// Its publisher and its published name.
    pub title: String,
    /// Number of transformers: 1, or 2 where one is for high noise and one for low.
    pub experts: usize,
    /// Config of each transformer.
    pub transformer: WanConfig,
    /// The publisher's settings.
    pub defaults: Sampling,
}

/// The settings with which a publisher samples a model. Fields are named like the flags.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Negative prompt of classifier-free guidance.
    pub negative_prompt: String,
    /// Width and height in pixels, as `832*480`.
    pub size: String,
    /// Pixel frames, `4 n + 1`.
    pub frame_num: usize,
    /// Inference steps.
    pub sample_steps: u32,
    /// Flow shift.
    pub sample_shift: f64,
    /// Flow shift by size, for sizes with another one.
    #[serde(default)]
    pub sample_shift_of_size: BTreeMap<String, f64>,
    /// Guidance scale; that of the first expert if there are two.
    pub sample_guide_scale: f64,
    /// Guidance scale of the second expert; none: that of the first.
    #[serde(default)]
    pub sample_guide_scale_low: Option<f64>,
    /// Frames per second.
    pub fps: f64,
    /// Id of the sampler, if the model needs a certain one.
    #[serde(default)]
    pub sampler: Option<String>,
}

/// `published.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    transformer: Table,
    defaults: Table,
    model: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    title: String,
    #[serde(default = "one")]
    experts: usize,
    transformer: Table,
    #[serde(default)]
    defaults: Table,
}

fn one() -> usize {
    1
}

/// The content of the document, with common values filled in.
struct Catalogue {
    defaults: Sampling,
    models: Vec<Published>,
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    read(include_str!("published.toml")).expect("published.toml is built in, and tests read it")
});

/// All published models. Some have equal transformers.
pub fn all() -> &'static [Published] {
    &CATALOGUE.models
}

/// The published model with this id.
pub fn find(id: &str) -> Option<&'static Published> {
    all().iter().find(|model| model.id == id)
}

/// Wan's own defaults, for a model that is not recognised as a published one.
pub fn common_defaults() -> &'static Sampling {
    &CATALOGUE.defaults
}

fn read(text: &str) -> Result<Catalogue, toml::de::Error> {
    let document: Document = toml::from_str(text)?;
    let complete = |entry: Entry| {
        Ok(Published {
            id: entry.id,
            title: entry.title,
            experts: entry.experts,
            transformer: merged(&document.transformer, entry.transformer)?,
            defaults: merged(&document.defaults, entry.defaults)?,
        })
    };
    Ok(Catalogue {
        models: document.model.into_iter().map(complete).collect::<Result<_, _>>()?,
        defaults: merged(&document.defaults, Table::new())?,
    })
}

/// The common values, overridden by an entry's own.
fn merged<T: DeserializeOwned>(common: &Table, own: Table) -> Result<T, toml::de::Error> {
    let mut all = common.clone();
    all.extend(own);
    all.try_into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::testing::transformer;

    #[test]
    fn every_field_of_the_document_is_one_of_a_config() {
        let document: Document = toml::from_str(include_str!("published.toml")).unwrap();
        let config = serde_json::to_value(transformer("t2v-14B")).unwrap();
        let own = document.model.iter().flat_map(|model| model.transformer.keys());
        for field in own.chain(document.transformer.keys()) {
            assert!(config.get(field).is_some(), "transformer.{field}");
        }
        let ids: BTreeSet<&str> = all().iter().map(|model| model.id.as_str()).collect();
        assert_eq!(ids.len(), all().len());
        assert!(all().iter().all(|model| [1, 2].contains(&model.experts)));
    }

    #[test]
    fn published_sizes() {
        assert_eq!(transformer("t2v-1.3B").dim(), 1536);
        assert_eq!(transformer("t2v-14B").dim(), 5120);
        assert_eq!(transformer("ti2v-5B").dim(), 3072);
        for model in all() {
            model.transformer.check().unwrap();
        }
        let odd = WanConfig { attention_head_dim: 7, ..transformer("t2v-1.3B") };
        assert!(odd.check().unwrap_err().to_string().contains("attention_head_dim: 7"));
    }

    #[test]
    fn a_field_that_nobody_reads_is_refused() {
        let entry = "\n[[model]]\nid = \"x\"\ntitle = \"X\"\ndefaults.sample_step = 3\n\
            transformer = { num_attention_heads = 1, ffn_dim = 8, num_layers = 1 }\n";
        let text = format!("{}{entry}", include_str!("published.toml"));
        let error = read(&text).err().unwrap().to_string();
        assert!(error.contains("sample_step"), "{error}");
        let right = read(&text.replace("sample_step =", "sample_steps =")).ok().unwrap();
        let model = right.models.last().unwrap();
        assert_eq!((model.defaults.sample_steps, model.transformer.dim()), (3, 128));
    }
}
