//! The documents that cross the door of epoch 1, as they were when it was frozen.
//!
//! A library in somebody's plugin folder writes and reads them with the types that it was built
//! with: it must find every member that it knows, under its name and with its meaning, and what it
//! writes must be understood. So a document may gain an optional member, and nothing else.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wan_plugin_api::blocks::{BlockAnswer, BlockQuestion};
use wan_plugin_api::extensions::AttentionQuestion;
use wan_plugin_api::state::StateQuestion;
use wan_plugin_api::{CacheContext, CachePlan, PluginDescription, SampleRequest, Schedule};
use wan_tests::checkout::checkout;

/// Reads a frozen document as today's type and writes it again: nothing may be lost.
fn keeps<T: Serialize + DeserializeOwned>(frozen: &Value) {
    let read: T = serde_json::from_value(frozen.clone())
        .unwrap_or_else(|e| panic!("{e}: a plugin of epoch 1 writes {frozen}"));
    let today = serde_json::to_value(read).unwrap();
    if let Some(lost) = lost(frozen, &today, "") {
        panic!("{lost}: a plugin of epoch 1 reads {frozen}, today it is {today}");
    }
}

/// The first member of `frozen` that `today` has not got, or not with this value.
fn lost(frozen: &Value, today: &Value, place: &str) -> Option<String> {
    match (frozen, today) {
        (Value::Object(a), Value::Object(b)) => a.iter().find_map(|(name, value)| {
            let place = format!("{place}.{name}");
            b.get(name).map_or(Some(place.clone()), |found| lost(value, found, &place))
        }),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(i, (value, found))| lost(value, found, &format!("{place}[{i}]"))),
        _ => (frozen != today).then(|| place.into()),
    }
}

#[test]
fn documents_of_epoch_1_are_as_they_were_when_it_was_frozen() {
    let path = checkout().join("tests/snapshots/epoch1_documents.json");
    let frozen: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    keeps::<SampleRequest>(&frozen["sample_request"]);
    keeps::<CacheContext>(&frozen["cache_context"]);
    keeps::<Schedule>(&frozen["schedule"]);
    keeps::<PluginDescription>(&frozen["plugin_description"]);
    keeps::<Vec<CachePlan>>(&frozen["cache_plans"]);
    keeps::<Vec<StateQuestion>>(&frozen["state_questions"]);
    keeps::<Vec<BlockQuestion>>(&frozen["block_questions"]);
    keeps::<BlockAnswer>(&frozen["block_answer"]);
    keeps::<AttentionQuestion>(&frozen["attention_question"]);
}
