//! What a cache declares is what the host counts: to the byte, for every cache, format, number of
//! frames, at one level and at as many as there are frames.

use serde_json::{Value, json};
use wan_plugin_api::{Choice, DType, OptionKind, Place};
use wan_plugin_kit::{CacheUnderTest, FakeModel, Script, side_by_side};
use wan_tests::memory_of_caches;

use crate::cache_properties::{is_up_to_date, subjects};
use crate::stream::run_on_host;

/// Evaluations: as many as every cache needs to fill its memory and to reuse.
const EVALUATIONS: usize = 24;

/// The subject at its own options, and with each word, switch and small number at another value.
fn variations(subject: &CacheUnderTest) -> Vec<CacheUnderTest> {
    let mut all = vec![subject.clone()];
    for spec in subject.specs() {
        let values: Vec<Value> = match &spec.kind {
            OptionKind::Bool => vec![json!(true), json!(false)],
            OptionKind::Choice(words) if words.len() <= 5 => {
                words.iter().map(|w| json!(w)).collect()
            }
            OptionKind::Int { min, max } if max - min < 4 => {
                (*min..=*max).map(|i| json!(i)).collect()
            }
            _ => continue,
        };
        let others = values.into_iter().filter(|value| *value != subject.base()[&spec.name]);
        all.extend(others.map(|value| subject.clone().with(&spec.name, value)));
    }
    all
}

/// Streams of every format, number of frames, level, branch and place.
fn scripts(shared: bool) -> Vec<Script> {
    let mut scripts = Vec::new();
    for dtype in [DType::F32, DType::BF16] {
        for (frames, lag) in [(1, 0.0), (2, 0.0), (2, 10.0), (5, 0.0), (5, 10.0)] {
            for (branch, keep) in
                [("cond", Place::Device), ("cond", Place::Host), ("uncond", Place::Device)]
            {
                let model = FakeModel { dtype, keep, ..FakeModel::new(1) };
                let mut script = Script::new(side_by_side(frames, EVALUATIONS, lag), model);
                script.branch = branch;
                if shared && branch == "uncond" {
                    let third = |i| if i % 3 == 0 { Choice::Compute } else { Choice::Reuse };
                    script.leaders = (0..EVALUATIONS).map(third).collect();
                }
                scripts.push(script);
            }
        }
    }
    scripts
}

#[test]
fn declared_is_counted() {
    let mut counted = 0;
    for subject in subjects().iter().flat_map(variations) {
        let context = scripts(false)[0].context();
        let Ok(cache) = subject.create(subject.base(), &context) else { continue };
        for script in scripts(cache.plan().shared_decision) {
            let cache = subject.create(subject.base(), &script.context()).unwrap();
            let declared = cache.plan().bytes_max;
            let (log, left) = run_on_host(&subject, subject.base(), &script);
            let most = log.iter().map(|e| e.held).max().unwrap();
            let what = || format!("{} {:?} {:?}", subject.id(), subject.base(), script.context());
            assert!(most <= declared && left == 0, "{most} of {declared}, {left}: {}", what());
            let is_full = log.iter().any(|e| e.choice == Choice::Reuse)
                && log.iter().filter(|e| e.kept).count() >= 4;
            assert!(!is_full || most == declared, "{most} of {declared}: {}", what());
            counted += usize::from(is_full);
        }
    }
    assert!(counted >= 1000, "{counted} cases");
}

#[test]
fn the_page_shows_what_the_caches_declare() {
    is_up_to_date("memory-of-caches.md", &memory_of_caches::document(&subjects()));
}
