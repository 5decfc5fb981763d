//! What the host does with streams of evaluations: windows, guidance branches and experts, each
//! with cache objects of its own, looked at from outside by a cache that writes down what it sees.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::spied::{bench, events, log, spying, strs};
use crate::support::{error_text, plugin, signal, wan};

/// Two windows of nine latent frames, five in common.
const TWO_WINDOWS: [&str; 6] =
    ["--frame_num", "49", "--base_num_frames", "33", "--overlap_history", "17"];
const FRAMES_OF_WINDOW: usize = 9;
const NEW_IN_SECOND: usize = 4;
const STEPS: usize = 6;

/// The flags of a run of `rounds` of a sampler alone.
fn part(of: &str, rounds: (usize, usize), rest: usize) -> Vec<String> {
    let option = |text: String| ["--sampler-option".to_string(), text];
    let mut flags = vec!["--sampler".to_string(), "part".into()];
    flags.extend(option(format!("of={of}")));
    flags.extend(option(format!("from={}", rounds.0)));
    flags.extend(option(format!("to={}", rounds.1)));
    flags.extend(option(format!("rest={rest}")));
    flags
}

/// Round, branch, choice and numbers of evaluations, rounds counted from `first`.
fn decisions(evaluations: &[Value], first: u64) -> Vec<String> {
    let of = |e: &Value| {
        let round = e["round"].as_u64().unwrap() - first;
        let [index, branch, choice, measured] =
            ["evaluation", "branch", "choice", "measured"].map(|name| e[name].to_string());
        format!("{round} {index} {branch} {choice} {measured}")
    };
    evaluations.iter().map(of).collect()
}

/// Each with options that make it reuse within six steps.
fn second_window_alone(cache: &[&str]) {
    let bench = bench(&["--sample_steps", "6"]);
    let mut reused = 0;
    for solver in ["euler", "unipc", "heun", "euler-ancestral"] {
        let options = json!({
            "solver": solver, "timesteps": "diffusers",
            "base_num_frames": 33, "overlap_history": 17,
        });
        let solver_flag = format!("solver={solver}");
        let whole_flags = ["--sampler", "diffusion-forcing", "--sampler-option", &solver_flag];
        let whole_flags = [&whole_flags[..], &["--sampler-option", "timesteps=diffusers"]].concat();
        let whole = bench.run("whole", &[&whole_flags[..], &TWO_WINDOWS, cache].concat());
        let library = plugin("diffusion-forcing");
        let id = "diffusion-forcing";
        let of = json!({ "library": library, "id": id, "options": options });
        let of = bench.document("of", &of);
        let video = &TWO_WINDOWS[..2];
        let first = part(&of, (0, STEPS), 0);
        let first = bench.run("first", &[&strs(&first)[..], video, cache].concat());
        // Frames that the first window does not have are still noise.
        let ends = first.report["ends_at"].as_array().unwrap();
        let sigmas: Vec<f64> = ends.iter().map(|sigma| sigma.as_f64().unwrap()).collect();
        assert_eq!(sigmas, [[0.0; FRAMES_OF_WINDOW].as_slice(), &[1.0; NEW_IN_SECOND]].concat());
        assert_eq!(first.bits_of(0, 9), whole.bits_of(0, 9), "{solver} {cache:?}");

        let second = part(&of, (STEPS, 2 * STEPS), NEW_IN_SECOND);
        let from = bench.path("first");
        let from = ["--latents", from.to_str().unwrap()];
        let second = bench.run("second", &[&strs(&second)[..], video, cache, &from].concat());
        assert_eq!(second.bits(), whole.bits(), "{solver} {cache:?}");
        let half = whole.evaluations().len() / 2;
        let (early, late) = whole.evaluations().split_at(half);
        assert_eq!(decisions(early, 0), decisions(first.evaluations(), 0), "{solver}");
        // One round says that the first frames rest.
        assert_eq!(
            decisions(late, STEPS as u64),
            decisions(second.evaluations(), 1),
            "{solver} {cache:?}"
        );
        reused += late.iter().filter(|e| e["choice"] == "reuse").count();
    }
    assert!(reused > 0, "{cache:?} reuses nothing in the second window: nothing is shown");
}

macro_rules! windows {
    ($($name:ident: $cache:literal $($option:literal)*;)*) => {
        $(#[test]
        fn $name() {
            second_window_alone(&["--cache", $cache, $("--cache-option", $option),*]);
        })*
    };
}

windows! {
    a_second_window_is_that_window_alone_with_teacache:
        "teacache" "threshold=0.3" "retention=1";
    a_second_window_is_that_window_alone_with_teacache_half:
        "teacache-half" "threshold=0.3" "retention=1";
    a_second_window_is_that_window_alone_with_magcache:
        "magcache" "table=t2v-1.3b" "threshold=0.5" "retention=1";
    a_second_window_is_that_window_alone_with_easycache: "easycache" "threshold=5" "retention=2";
    a_second_window_is_that_window_alone_with_first_block: "first-block" "threshold=2";
    a_second_window_is_that_window_alone_with_forecast: "forecast" "threshold=5" "retention=2";
}

#[test]
fn every_window_and_branch_gets_a_fresh_object_and_the_old_one_goes_first() {
    let bench = bench(&["--sample_steps", "6"]);
    let spy = spying(&bench, &["reuse=2,4", "keep=1"]);
    bench.run("run", &[&strs(&spy)[..], &TWO_WINDOWS].concat());
    let log = log(&bench);
    // Two windows, two branches: asked by the plan what they will hold, then by the run.
    let made = events(&log, "new");
    assert_eq!(made.len(), 8);
    let facts: Vec<Value> = made[4..]
        .iter()
        .map(|line| {
            let c = &line["context"];
            json!([
                c["branch"],
                c["frames"],
                c["evaluations"],
                c["evaluations_before"],
                c["evaluations_after"],
                c["timesteps_max"],
                c["steps"],
                c["experts"]
            ])
        })
        .collect();
    let expected = |branch, timesteps| json!([branch, 9, 6, 0, 0, timesteps, 6, 1]);
    // In the second window a clean prefix is beside the moving frames.
    assert_eq!(
        facts,
        [expected("cond", 1), expected("uncond", 1), expected("cond", 2), expected("uncond", 2)]
    );
    for object in 4..8u64 {
        let own: Vec<&Value> = log.iter().filter(|line| line["object"] == object).collect();
        let indices: Vec<u64> = own.iter().filter_map(|l| l["index"].as_u64()).collect();
        assert_eq!(indices, [0, 1, 2, 3, 4, 5], "object {object}");
        let remaining: Vec<u64> = own.iter().filter_map(|l| l["remaining"].as_u64()).collect();
        assert_eq!(remaining, [5, 4, 3, 2, 1, 0], "object {object}");
        let stored = own.iter().filter(|l| l["event"] == "store").count();
        assert_eq!(stored, 4, "object {object}: two of six reuse");
        assert_eq!(own.last().unwrap()["event"], "gone");
    }
    let place = |event: &str, object: u64| {
        log.iter().position(|l| l["event"] == event && l["object"] == object).unwrap()
    };
    assert!(place("gone", 4).max(place("gone", 5)) < place("new", 6).min(place("new", 7)));
}

/// Numbers of a run of the spying cache by another way than the host's.
struct Count {
    /// Per branch: computed, reused, longest row of reuses.
    branches: BTreeMap<String, (u64, u64, u64)>,
    held_per_branch_max: u64,
    held_max: u64,
}

impl Count {
    /// `keep` is how many of the last residuals an object holds.
    fn of(log: &[Value], keep: usize) -> Self {
        let mut count = Self { branches: BTreeMap::new(), held_per_branch_max: 0, held_max: 0 };
        let mut held: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut rows: BTreeMap<u64, u64> = BTreeMap::new();
        for line in log {
            let object = line["object"].as_u64().unwrap();
            match line["event"].as_str().unwrap() {
                "decide" => {
                    let branch = line["branch"].as_str().unwrap().to_string();
                    let of = count.branches.entry(branch).or_default();
                    let row = rows.entry(object).or_default();
                    match line["reuses"].as_bool().unwrap() {
                        true => (of.1, *row) = (of.1 + 1, *row + 1),
                        false => (of.0, *row) = (of.0 + 1, 0),
                    }
                    of.2 = of.2.max(*row);
                }
                "store" => {
                    let own = held.entry(object).or_default();
                    own.push(line["bytes"].as_u64().unwrap());
                    let over = own.len().saturating_sub(keep);
                    own.drain(..over);
                }
                "gone" => drop(held.remove(&object)),
                _ => {}
            }
            let sums: Vec<u64> = held.values().map(|own| own.iter().sum()).collect();
            count.held_per_branch_max =
                count.held_per_branch_max.max(sums.iter().copied().max().unwrap_or(0));
            count.held_max = count.held_max.max(sums.iter().sum());
        }
        count
    }

    fn check(&self, report: &Value) {
        let decisions = &report["decisions"];
        let (mut computed, mut reused, mut row) = (0, 0, 0);
        for (branch, of) in &self.branches {
            let said = &decisions["branches"][branch];
            assert_eq!(
                said,
                &json!({ "computed": of.0, "reused": of.1, "reused_in_a_row": of.2 }),
                "{branch}"
            );
            (computed, reused, row) = (computed + of.0, reused + of.1, row.max(of.2));
        }
        assert_eq!(decisions["branches"].as_object().unwrap().len(), self.branches.len());
        assert_eq!(
            [&decisions["computed"], &decisions["reused"], &decisions["reused_in_a_row"]],
            [&json!(computed), &json!(reused), &json!(row)]
        );
        let cache = &report["memory"]["cache"];
        assert_eq!(cache["held_per_branch_max"], self.held_per_branch_max);
        assert_eq!(cache["held_max"], self.held_max);
        assert_eq!(cache["leaked"], 0);
        let holdings = cache["holdings"].as_array().unwrap().iter();
        let holdings: u64 = holdings.map(|h| h["bytes"].as_u64().unwrap()).sum();
        assert_eq!(holdings, self.held_max, "{cache}");
    }
}

#[test]
fn figures_of_the_sidecar_are_those_of_an_independent_count() {
    let bench = bench(&["--sample_steps", "6"]);
    // Windows of different lengths: 9 and then 6 latent frames; a residual is 16 tokens of 192
    // each.
    let windows = ["--frame_num", "37", "--base_num_frames", "33", "--overlap_history", "17"];
    for (keep, options) in [
        (1, vec!["reuse=2,3,5", "keep=1"]),
        (3, vec!["reuse=3", "keep=3"]),
        (2, vec!["reuse=1,4", "keep=2", "replaces=output"]),
        (2, vec!["reuse=1,4", "keep=2", "replaces=output", "decides=before_embed"]),
        (2, vec!["reuse=1,4", "keep=2", "decides=after_block_0"]),
    ] {
        let spy = spying(&bench, &options);
        let run = bench.run("run", &[&strs(&spy)[..], &windows].concat());
        Count::of(&log(&bench), keep).check(&run.report);
        let one = if options.contains(&"replaces=output") {
            9 * 16 * 8 * 8 * 4
        } else {
            9 * 16 * 192 * 4
        };
        let cache = &run.report["memory"]["cache"];
        let declared = one * (keep as u64 + 1);
        assert_eq!(cache["declared_per_branch"], declared, "{options:?}");
        assert_eq!(cache["declared_max"], 2 * declared);
        assert_eq!(cache["held_per_branch_max"], one * keep as u64);
        let signals = &run.report["memory"]["signals"];
        assert_eq!(signals["rows"], 2, "a clean prefix and what moves");
        assert_eq!(signals["e_bytes"], 2 * 192 * 4);
        assert_eq!(signals["e0_bytes"], 2 * 6 * 192 * 4);
        assert_eq!(signals["e0_bytes_per_token"], 9 * 16 * 6 * 192 * 4);
    }
    // Without guidance there is one branch.
    let spy = spying(&bench, &["reuse=2,3"]);
    let alone = ["--frame_num", "9", "--sample_guide_scale", "1"];
    let run = bench.run("run", &[&strs(&spy)[..], &alone].concat());
    let count = Count::of(&log(&bench), 1);
    assert_eq!(count.branches, BTreeMap::from([("cond".to_string(), (4, 2, 2))]));
    count.check(&run.report);
}

#[test]
fn an_output_is_reused_wherever_it_was_decided() {
    let bench = bench(&["--sample_steps", "6", "--frame_num", "9"]);
    let of = |decides: &str| {
        let spy = spying(&bench, &["reuse=2,3", "replaces=output", &format!("decides={decides}")]);
        bench.run("run", &strs(&spy)).bits()
    };
    let early = of("before_embed");
    assert_eq!(early, of("before_blocks"));
    assert_eq!(early, of("after_block_0"));
    let spy = spying(&bench, &["reuse=2", "decides=before_embed"]);
    let (code, text) = bench.try_run("run", &strs(&spy));
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("spy: decides before the embedding"), "{text}");
}

#[test]
fn the_first_branch_leads_where_decisions_are_shared_and_only_there() {
    let bench = bench(&["--sample_steps", "6", "--frame_num", "9"]);
    for shared in [true, false] {
        let spy = spying(&bench, &["reuse=2,4", &format!("shared={shared}")]);
        bench.run("run", &strs(&spy));
        for line in events(&log(&bench), "decide") {
            let choice = if line["reuses"] == true { "reuse" } else { "compute" };
            let follows = shared && line["branch"] == "uncond";
            let expected = if follows { json!(choice) } else { Value::Null };
            assert_eq!(line["leader"], expected, "{line}");
        }
    }
}

#[test]
fn a_cache_is_told_where_the_user_wants_what_it_keeps() {
    let bench = bench(&["--sample_steps", "2", "--frame_num", "5"]);
    for (flag, place) in [("main", "device"), ("host", "host")] {
        let spy = spying(&bench, &[]);
        bench.run("run", &[&strs(&spy)[..], &["--cache_device", flag]].concat());
        for line in events(&log(&bench), "new") {
            assert_eq!(line["context"]["keep"], place);
        }
    }
}

#[test]
fn a_schedule_beyond_the_video_is_refused_before_it_runs() {
    let bench = bench(&["--sample_steps", "4", "--frame_num", "9"]);
    let of =
        json!({ "library": plugin("diffusion-forcing"), "id": "diffusion-forcing", "options": {} });
    let of = bench.document("of", &of);
    for (spoil, says) in [
        ("beyond", "frame 3 at place 2 of 3 frames"),
        ("empty", "no frames, or no evaluations"),
        ("rises", "impossible levels"),
    ] {
        let mut flags = part(&of, (0, 4), 0);
        flags.extend(["--sampler-option".into(), format!("spoil={spoil}")]);
        let (code, text) = bench.try_run("run", &strs(&flags));
        assert_eq!(code, Some(5), "{spoil}: {text}");
        assert!(text.contains("part: round 3: "), "{spoil}: {text}");
        assert!(text.contains(says), "{spoil}: {text}");
        assert!(!bench.path("run").exists());
        // A plan of it is no plan either.
        let plugins = bench.folder().join("plugins");
        let short = ["--sample_steps", "4", "--frame_num", "9", "--cache", "spy"];
        let plan = ["cache", "plan", "--plugin_dir", plugins.to_str().unwrap()];
        let output = wan(&[&plan[..], &short, &strs(&flags)].concat());
        assert_eq!(output.status.code(), Some(5), "{spoil}: {}", error_text(&output));
        assert!(error_text(&output).contains(says), "{spoil}: {}", error_text(&output));
    }
}

#[test]
fn a_step_that_never_ends_is_stopped_between_two_evaluations() {
    let bench = bench(&["--sample_steps", "4", "--frame_num", "5"]);
    let of =
        json!({ "library": plugin("diffusion-forcing"), "id": "diffusion-forcing", "options": {} });
    let of = bench.document("of", &of);
    let mut flags = part(&of, (0, 4), 0);
    flags.extend(["--sampler-option".into(), "endless=true".into()]);
    flags.extend(spying(&bench, &[]));
    let mut child = bench.start("run", &strs(&flags));
    let path = bench.folder().join("log.jsonl");
    while fs::read_to_string(&path).is_ok_and(|text| text.lines().count() < 12) || !path.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.ends_with("\nwan: stopped\n"), "{said}");
    assert!(!bench.path("run").exists());
}
