//! What the commands print for a person says what they print as JSON, and what the sidecar says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::demo::generate;
use crate::spied::spy_folder;
use crate::support::{demo_folder, done, error_text, fixture, plugin, program, sidecar, wan};

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&done(arguments)).unwrap()
}

#[test]
fn plugins_are_listed_and_shown_with_all_their_options() {
    let text = done(&["plugins", "list"]);
    // A library that is left out is said there.
    let output = wan(&["plugins", "list", "--json"]);
    assert_eq!(error_text(&output), "");
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (mut strategies, mut libraries) = (0, 0);
    for entry in list.as_array().unwrap() {
        let plugin = &entry["plugin"];
        let line = format!(
            "{} {} ({})",
            plugin["name"].as_str().unwrap(),
            plugin["version"].as_str().unwrap(),
            plugin["licence"].as_str().unwrap()
        );
        assert!(text.lines().any(|l| l.starts_with(&line)), "{line} in {text}");
        if let Some(hash) = entry["source"]["hash"].as_str() {
            assert!(text.contains(&format!("  sha256 {hash}")), "{hash}");
            libraries += 1;
        }
        for (kind, group) in [("sampler", "samplers"), ("cache", "caches")] {
            for strategy in plugin[group].as_array().unwrap() {
                strategies += 1;
                let id = strategy["id"].as_str().unwrap();
                let doc = strategy["doc"].as_str().unwrap();
                assert!(text.contains(&format!("  {kind} {id}: {doc}")), "{id}");
                check_shown(kind, id, strategy);
            }
        }
    }
    assert!(libraries >= 7 && strategies >= 20, "{libraries} libraries, {strategies} strategies");
    let output = wan(&["plugins", "show", "teacach"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error_text(&output).contains("did you mean teacache?"));
}

/// `wan plugins show ID` as text and as JSON, against what the plugin says of itself.
fn check_shown(kind: &str, id: &str, strategy: &Value) {
    let (text, shown) = (done(&["plugins", "show", id]), json(&["plugins", "show", id, "--json"]));
    assert!(text.starts_with(&format!("{kind} {id}: ")), "{text}");
    assert_eq!((&shown[0]["id"], &shown[0]["kind"]), (&id.into(), &kind.into()));
    let options = strategy["options"].as_array().unwrap();
    let names = |of: &Value| -> Vec<String> {
        let list = of["options"].as_array().unwrap().iter();
        list.map(|o| o["name"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(names(&shown[0]), names(strategy));
    for (option, shown) in options.iter().zip(shown[0]["options"].as_array().unwrap()) {
        let name = option["name"].as_str().unwrap();
        let allowed = shown["allowed"].as_str().unwrap();
        assert!(!allowed.is_empty(), "{id} {name}");
        let line = format!("  {name} = {}  ({allowed})", option["default"]);
        assert!(text.contains(&line), "{line} in {text}");
        match option["flag"].as_str() {
            Some(flag) => assert!(text.contains(&format!("      also --{flag}")), "{text}"),
            None => assert_eq!(shown["flag"], Value::Null),
        }
        if let Some(range) = shown["range"].as_array().filter(|_| shown["type"] != "choice") {
            let [min, max] = [0, 1].map(|end| range[end].as_f64().unwrap());
            assert!(allowed.ends_with(&format!("from {min} to {max}")), "{allowed}");
        }
    }
}

#[test]
fn a_library_is_shown_by_its_file() {
    let library = plugin("teacache");
    let shown = json(&["plugins", "show", library.to_str().unwrap(), "--json"]);
    let ids: Vec<&str> =
        shown.as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["teacache"]);
    let extension = fixture("extension");
    let text = done(&["plugins", "show", extension.to_str().unwrap()]);
    assert!(text.contains("  answers to wan.cache.block-decisions/1"), "{text}");
    let output = wan(&["plugins", "show", "/nowhere/libx.so"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error_text(&output).contains("/nowhere/libx.so"), "{}", error_text(&output));
}

#[test]
fn help_shows_every_command_and_hides_the_checks_own() {
    let text = |arguments: &[&str]| String::from_utf8(wan(arguments).stdout).unwrap();
    let top = text(&["--help"]);
    for command in ["generate", "decode", "inspect", "cache", "plugins"] {
        assert!(top.lines().any(|l| l.trim_start().starts_with(command)), "{command} in {top}");
    }
    let plugins = text(&["plugins", "--help"]);
    for command in ["list", "show", "new", "check"] {
        assert!(plugins.lines().any(|l| l.trim_start().starts_with(command)), "{plugins}");
    }
    assert!(!plugins.contains("answer"), "{plugins}");
    let cache = text(&["cache", "--help"]);
    for command in ["plan", "compare", "record", "replay", "calibrate"] {
        assert!(cache.lines().any(|l| l.trim_start().starts_with(command)), "{cache}");
    }
    // Without a subcommand the same is said, and it is an error.
    for (command, help) in [(&[][..], top), (&["cache"], cache), (&["plugins"], plugins)] {
        let output = wan(command);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert_eq!(error_text(&output), help, "{command:?}");
    }
}

#[test]
fn a_check_of_one_case_needs_all_that_it_is_told() {
    let library = plugin("teacache");
    let flags = [("--test", "manifest"), ("--seed", "1"), ("--memory", "4000000000")];
    let place = tempfile::tempdir().unwrap();
    let answer = place.path().join("answer.json").display().to_string();
    let flags = [&flags[..], &[("--answer", answer.as_str())]].concat();
    let run = |without: Option<usize>| {
        let given = flags.iter().enumerate().filter(|(place, _)| Some(*place) != without);
        let given: Vec<&str> = given.flat_map(|(_, (flag, value))| [*flag, *value]).collect();
        wan(&[&["plugins", "answer", library.to_str().unwrap()], &given[..]].concat())
    };
    for (number, (flag, _)) in flags.iter().enumerate() {
        let output = run(Some(number));
        assert_eq!(output.status.code(), Some(2), "without {flag}: {}", error_text(&output));
        assert!(error_text(&output).contains(flag), "{}", error_text(&output));
    }
    assert_eq!(run(None).status.code(), Some(0), "{}", error_text(&run(None)));
    assert!(Path::new(&answer).exists());
}

#[test]
fn commands_that_need_no_plugin_load_none() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad");
    fs::create_dir(&bad).unwrap();
    fs::copy(fixture("not_a_plugin"), bad.join("libbad.so")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.args(arguments).env("XDG_DATA_HOME", folder.path());
        command.output().unwrap()
    };
    let dir = ["--plugin_dir", bad.to_str().unwrap()];
    // One in a folder that was named stops a command that loads plugins.
    assert_eq!(run(&[&["plugins", "list"], &dir[..]].concat()).status.code(), Some(5));
    let crate_folder = folder.path().join("my-cache");
    let new = ["plugins", "new", "cache", "my-cache", "--path", crate_folder.to_str().unwrap()];
    let output = run(&new);
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    // One in a standard folder is left out with a warning by the one, and not opened by the other.
    let standard = folder.path().join("wan/plugins");
    fs::create_dir_all(&standard).unwrap();
    fs::copy(fixture("not_a_plugin"), standard.join("libbad.so")).unwrap();
    let output = run(&["plugins", "list"]);
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    assert!(error_text(&output).contains("left out"), "{}", error_text(&output));
    let library = plugin("teacache");
    let check = ["plugins", "check", library.to_str().unwrap(), "--only", "manifest"];
    let output = run(&check);
    assert_eq!((output.status.code(), error_text(&output)), (Some(0), String::new()));
}

#[test]
fn a_list_of_hashes_in_the_settings_folder_is_kept_to() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("wan");
    fs::create_dir(&settings).unwrap();
    let list = json(&["plugins", "list", "--json"]);
    let hash_of = |name: &str| {
        let of = |e: &&Value| e["plugin"]["name"].as_str().unwrap().ends_with(name);
        let entry = list.as_array().unwrap().iter().find(of).unwrap();
        entry["source"]["hash"].as_str().unwrap().to_string()
    };
    let names = |text: &str| -> BTreeSet<String> {
        fs::write(settings.join("plugins.allow"), text).unwrap();
        let mut command = Command::new(program());
        command.args(["plugins", "list", "--json"]).env("XDG_CONFIG_HOME", folder.path());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
        let list: Value = serde_json::from_slice(&output.stdout).unwrap();
        let loaded = list.as_array().unwrap().iter().filter(|e| !e["source"]["hash"].is_null());
        loaded.map(|e| e["plugin"]["name"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(names(""), BTreeSet::new(), "an empty list allows nothing");
    let one = format!("# a remark\n{}  libteacache.so\n", hash_of("teacache"));
    assert_eq!(names(&one), BTreeSet::from(["wan-plugin-teacache".to_string()]));
}

#[test]
fn the_last_lines_of_a_run_are_those_of_its_sidecar() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("out.mp4");
    let short = ["--frame_num", "9", "--sample_steps", "8", "--cache"];
    let cache = ["forecast", "--cache_option", "computes=0,1,4,7"];
    let text = generate(&video, &[&short[..], &cache].concat());
    let report = sidecar(&video);
    assert!(text.contains("(9 frames, 64x64, 16 fps)"), "{text}");
    let said = "forecast: reused 8 of 16 block-stack evaluations (50 %), at most 2 in a row";
    assert!(text.contains(said), "{text}");
    // Both branches did alike: one line.
    assert!(text.lines().any(|l| l == "  steps: CCssCssC"), "{text}");
    assert!(!text.contains("cond:"), "{text}");
    let held = report["memory"]["cache"]["held_max"].as_u64().unwrap();
    let declared = report["memory"]["cache"]["declared_max"].as_u64().unwrap();
    let kilo = |bytes: u64| format!("{:.2} kB", bytes as f64 / 1000.0);
    let memory = format!("cache {} (declared {})", kilo(held), kilo(declared));
    assert!(text.contains(&memory), "{memory} in {text}");
    assert!(text.contains("e 768 B, e0 4.61 kB (1 row held; one per token"), "{text}");
    let time = text.lines().find(|l| l.starts_with("time: ")).unwrap();
    for phase in ["load", "denoise", "decode", "write"] {
        assert!(time.contains(phase), "{time}");
    }
    assert!(time.ends_with(" on cpu"), "{time}");
}

#[test]
fn branches_that_decide_for_themselves_have_a_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let plugins = spy_folder(folder.path());
    let video = folder.path().join("out.mp4");
    let flags = ["--plugin_dir", plugins.to_str().unwrap(), "--frame_num", "5", "--cache", "spy"];
    let options = ["--cache_option", "reuse=1,3", "--cache_option", "askew=true"];
    let text = generate(&video, &[&flags[..], &options, &["--sample_steps", "6"]].concat());
    for line in ["  cond: CsCsCC", "  uncond: CCsCsC"] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
    assert!(!text.contains("steps: "), "{text}");
}

#[test]
fn a_plan_for_people_is_the_plan_for_programs() {
    let flags = ["cache", "plan", "--frame_num", "9", "--sample_steps", "8", "--cache", "teacache"];
    let options = ["--cache_option", "threshold=0.3", "--cache_option", "retention=2"];
    let flags = [&flags[..], &options].concat();
    let text = done(&flags);
    let plan = json(&[&flags[..], &["--json"]].concat());
    let plan = &plan["plan"];
    let count = &plan["decisions"];
    let line = format!(
        "reuses {} of {} evaluations, at most {} in a row: the blocks run {:.2} times less",
        count["reused"],
        count["reused"].as_u64().unwrap() + count["computed"].as_u64().unwrap(),
        count["reused_in_a_row"],
        plan["speed_up"].as_f64().unwrap()
    );
    assert!(text.lines().any(|l| l == line), "{line} in {text}");
    let all = count["reused"].as_f64().unwrap() + count["computed"].as_f64().unwrap();
    assert_eq!(plan["speed_up"].as_f64().unwrap(), all / count["computed"].as_f64().unwrap());
    let evaluations = plan["evaluations"].as_array().unwrap();
    for (round, timestep) in plan["timesteps"].as_array().unwrap().iter().enumerate() {
        let own = evaluations.iter().find(|e| e["round"] == round as u64).unwrap();
        let line = format!(
            "{round:>5} {:>8.2}  {:7} ",
            timestep.as_f64().unwrap(),
            own["choice"].as_str().unwrap()
        );
        assert!(text.lines().any(|l| l.starts_with(&line)), "{line:?} in {text}");
    }
    assert!(text.contains("   cond: ") && text.contains(" uncond: "), "{text}");
    assert!(text.contains("8 steps, shift 3, sampler diffusion-forcing"), "{text}");
}

#[test]
fn words_that_a_small_vocabulary_does_not_have_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("out.mp4");
    let run = |prompt: &str| {
        let flags = ["generate", "--progress", "quiet", "--frame_num", "5", "--sample_steps", "1"];
        let output = wan(&[
            &flags[..],
            &["--cache", "none", "--prompt", prompt, "--save_file", video.to_str().unwrap()],
        ]
        .concat());
        assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
        error_text(&output)
    };
    assert_eq!(run("a big red ball"), "");
    let said = run("a purpleish zebra and a red ball");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("wan: this model does not know: "), "{said}");
    let (unknown, known) = said.split_once("; it knows: ").unwrap();
    assert!(unknown.contains("purpleish") && unknown.contains("zebra"), "{unknown}");
    assert!(!unknown.contains("ball") && known.contains("ball"), "{said}");
}

#[test]
fn weights_are_described_in_words_and_as_json() {
    let folder = demo_folder();
    let path = folder.to_str().unwrap();
    let (text, list) = (done(&["inspect", path]), json(&["inspect", path, "--json"]));
    let sets = list.as_array().unwrap();
    let names: BTreeSet<String> = sets
        .iter()
        .map(|set| set["path"].as_str().unwrap().rsplit('/').next().unwrap().to_string())
        .collect();
    assert!(names.is_superset(&["transformer", "vae", "text_encoder"].map(String::from).into()));
    for set in sets {
        let size = &set["size"];
        let line = format!(
            "  {} tensors, {:.3} G parameters, {:.3} GB",
            size["tensors"],
            size["parameters"].as_f64().unwrap() / 1e9,
            size["bytes"].as_f64().unwrap() / 1e9
        );
        assert!(text.contains(&line), "{line} in {text}");
        assert!(text.contains(set["path"].as_str().unwrap()));
        let bytes: u64 =
            set["dtypes"].as_object().unwrap().values().map(|d| d["bytes"].as_u64().unwrap()).sum();
        assert_eq!(size["bytes"], bytes);
    }
    assert!(
        text.contains("a transformer, width 192, 8 layers, 16 to 16 channels, of no published")
    );
    assert!(text.contains("a UMT5 encoder"), "{text}");
    let file = folder.join("vae/diffusion_pytorch_model.safetensors");
    let alone = json(&["inspect", file.to_str().unwrap(), "--json"]);
    assert_eq!(alone.as_array().unwrap().len(), 1);
    let place = tempfile::tempdir().unwrap();
    let output = wan(&["inspect", place.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error_text(&output).contains("no weight file in it"));
}
