//! Published defaults of the published models, as data (`tasks.toml`).

use std::collections::BTreeMap;

use wan_model::inspect::inspect;
use wan_plugin_api::options::did_you_mean;

use crate::defaults::{Defaults, GenerateDefaults};
use crate::error::{Error, Result};
use crate::model_folder::ModelFolder;

/// Defaults by task.
///
/// # Errors
/// If the file that is built in is malformed, which a test rules out.
pub fn tasks() -> Result<BTreeMap<String, GenerateDefaults>> {
    toml::from_str(include_str!("tasks.toml"))
        .map_err(|e| Error::invalid(format!("tasks.toml: {}", e.message())))
}

/// What holds where the user gives no flag: the named task's defaults; else the model folder's;
/// else those of the model that the transformer's tensors are known to be of, with the shift that
/// diffusers' scheduler config in the folder has.
///
/// # Errors
/// For an unknown task, or where the tensors fit several models with other defaults.
pub fn defaults_for(folder: &ModelFolder, task: Option<&str>) -> Result<Defaults> {
    let tasks = tasks()?;
    if let Some(task) = task {
        let generate = tasks.get(task).cloned().ok_or_else(|| {
            let known = tasks.keys().map(String::as_str);
            Error::invalid(format!("--task {task} is not known{}", did_you_mean(task, known)))
        })?;
        return Ok(Defaults { task: Some(task.into()), generate, ..Defaults::default() });
    }
    if let Some(own) = &folder.defaults {
        return Ok(own.clone());
    }
    let task = recognised(folder)?;
    let mut generate = task.as_ref().and_then(|task| tasks.get(task)).cloned().unwrap_or_default();
    if let Some(shift) = folder.scheduler_shift() {
        generate.sample_shift = shift;
    }
    Ok(Defaults { task, generate, ..Defaults::default() })
}

/// The published model that the transformer's tensors are of, if any.
fn recognised(folder: &ModelFolder) -> Result<Option<String>> {
    let candidates = inspect(&folder.weights("transformer")?)?.candidates;
    let two = folder.has("transformer_2");
    let ids: Vec<&str> =
        candidates.iter().map(|k| k.id).filter(|id| id.contains("A14B") == two).collect();
    match ids.as_slice() {
        [] => Ok(None),
        [id] => {
            eprintln!("wan: this is {id} by its tensors");
            Ok(Some(id.to_string()))
        }
        several => Err(Error::invalid(format!(
            "{}: these tensors are those of {}; say which with --task",
            folder.root().display(),
            several.join(" and ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use wan_model::inspect::{Network, known};

    use super::*;
    use crate::settings::parse_size;

    #[test]
    fn every_published_transformer_has_defaults_that_can_be_read() {
        let tasks = tasks().unwrap();
        for known in known() {
            if matches!(known.network, Network::Transformer(_)) {
                let task = tasks.get(known.id).unwrap_or_else(|| panic!("{} has none", known.id));
                let (width, height) = parse_size(&task.size).unwrap();
                assert!(width % 16 == 0 && height % 16 == 0, "{}", known.id);
                assert_eq!((task.frame_num - 1) % 4, 0, "{}", known.id);
            }
        }
        assert_eq!(tasks["t2v-A14B"].sample_guide_scale_low, Some(3.0));
    }

    #[test]
    fn image_to_video_at_480p_has_a_shift_of_its_own() {
        let shift = |task: &str, width, height| {
            tasks().unwrap()[task].clone().for_size(width, height).sample_shift
        };
        // Wan2.1 generate.py: 3.0 where "i2v" is in the task and the size is one of these two.
        assert_eq!([(832, 480), (480, 832)].map(|(w, h)| shift("i2v-14B", w, h)), [3.0, 3.0]);
        assert_eq!([(1280, 720), (480, 480)].map(|(w, h)| shift("i2v-14B", w, h)), [5.0, 5.0]);
        assert_eq!(shift("t2v-14B", 832, 480), 5.0);
        assert_eq!(shift("flf2v-14B", 832, 480), 16.0);
        assert_eq!(shift("i2v-A14B", 832, 480), 5.0);
        for sizes in tasks().unwrap().values().map(|task| &task.sample_shift_of_size) {
            assert!(sizes.keys().all(|size| parse_size(size).is_ok()), "{sizes:?}");
        }
    }
}
