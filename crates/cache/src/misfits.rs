//! Saved states that do not fit the cache they are loaded into are refused.

use serde_json::{Value, json};
use wan_plugin_api::{Cache, ErrorKind, Message, Result, state};
use wan_plugin_kit::VecOps;

use crate::fixture::context;
use crate::{
    EasyCache, EasyCacheOptions, Forecast, ForecastOptions, HalfMemory, HalfOptions, MagCache,
    MagCacheOptions, Store, TeaCache, TeaCacheOptions,
};

/// Loads a document with these fields, and a tensor for each of these names.
fn load<C: Cache>(
    options: C::Options,
    strategy: &str,
    names: &[&str],
    fields: Value,
) -> Result<()> {
    let mut cache = C::new(options, &context(8)).unwrap();
    let ops = VecOps::default();
    let document = json!({ "strategy": strategy, "tensors": names, "fields": fields }).to_string();
    let tensors = names.iter().map(|_| ops.tensor(2, &[1.0, 2.0])).collect();
    state::load(Message { document, tensors }, |id, message| {
        cache.extension(id, message, &VecOps::default())
    })
}

fn refused(loaded: Result<()>, says: &str) {
    let error = loaded.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    assert!(error.message.contains(says), "{error}");
}

const ZERO: &str = "0000000000000000";

#[test]
fn a_history_of_another_order_or_with_a_tensor_too_many_is_refused() {
    let loaded = |points: usize, names: &[&str]| {
        let fields = json!({
            "skipped_in_a_row": 0,
            "updates": [1, 1],
            "sigmas": vec![[ZERO, ZERO]; points],
            "sum": ZERO,
            "measured": null,
        });
        load::<Forecast>(ForecastOptions::default(), "forecast", names, fields)
    };
    loaded(2, &["residuals", "residuals"]).unwrap();
    refused(loaded(3, &["residuals"; 3]), "field sigmas: expected at most 2 of this order, got 3");
    refused(loaded(1, &["residuals"; 2]), "field residuals: expected 1, got 2");
    refused(loaded(1, &["residuals", "other"]), "field other: expected nothing of this name");
    refused(loaded(0, &["residuals"]), "field residuals: expected 0, got 1");
}

#[test]
fn a_correction_belongs_to_as_many_outputs_as_are_kept() {
    let loaded = |rows: usize| {
        let fields = json!({
            "skipped_in_a_row": 0,
            "updates": [1, 1],
            "sigmas": [[ZERO, ZERO]],
            "reused": [],
            "astray": vec![[ZERO, ZERO]; rows],
            "sum": ZERO,
            "measured": [ZERO, ZERO, 1],
        });
        let options = ForecastOptions { give_back: true, ..ForecastOptions::default() };
        load::<Forecast>(options, "forecast", &["residuals"], fields)
    };
    loaded(1).unwrap();
    refused(loaded(2), "field astray: expected at most 1 rows, got 2");
}

#[test]
fn ratios_are_those_of_as_many_frames_as_have_taken_steps() {
    let loaded = |ratios: usize| {
        let options = MagCacheOptions { table: "t2v-14b".into(), ..MagCacheOptions::default() };
        let fields = json!({
            "skipped_in_a_row": 0, "steps": [3, 3], "ratios": vec![ZERO; ratios], "error": ZERO,
        });
        load::<MagCache>(options, "magcache", &["residual"], fields)
    };
    loaded(2).unwrap();
    refused(loaded(1), "field ratios: expected 2, got 1");
}

#[test]
fn an_input_that_is_said_to_be_another_does_not_come_beside_it() {
    let loaded = |names: &[&str], field: &str, value: Value| {
        let mut fields = json!({
            "skipped_in_a_row": 0,
            "sum": ZERO,
            "k": null,
            "output_sums": [],
            "computed_is_previous": true,
        });
        fields[field] = value;
        load::<EasyCache>(EasyCacheOptions::default(), "easycache", names, fields)
    };
    loaded(&["previous", "delta"], "k", json!("7ff0000000000000")).unwrap();
    let both = loaded(&["previous", "computed", "delta"], "k", Value::Null);
    refused(both, "field computed: expected nothing of this name");
    refused(loaded(&["delta"; 2], "k", Value::Null), "field delta: expected at most 1 tensor");
    refused(loaded(&[], "k", json!(1.5)), "field k: invalid type");
    refused(loaded(&[], "sum", Value::Null), "field sum: invalid type");
}

#[test]
fn a_cache_at_half_width_and_the_one_at_full_width_refuse_each_other() {
    let fields = || json!({ "skipped_in_a_row": 1, "sum": ZERO });
    let full = TeaCacheOptions::default();
    let half = || HalfOptions { store: Store::Both, inner: TeaCacheOptions::default() };
    let names = ["anchor", "residual"];
    load::<HalfMemory<TeaCache>>(half(), "teacache-half", &names, fields()).unwrap();
    let loaded = load::<HalfMemory<TeaCache>>(half(), "teacache", &names, fields());
    refused(loaded, "field strategy: expected teacache-half, got teacache");
    let loaded = load::<TeaCache>(full, "teacache-half", &names, fields());
    refused(loaded, "field strategy: expected teacache, got teacache-half");
}
