//! Solvers of libraries: samplers of the same id, and a third party's in diffusion forcing.

use serde_json::{Value, json};
use wan_host::parts::{Kind, OpenedPlugin, Registry};
use wan_plugin_api::library::{Library, SamplerInstance};
use wan_plugin_api::options::complete;
use wan_plugin_api::{FrameLevel, OptionValues, SampleRequest, Step};
use wan_plugin_kit::{ModelFn, SavedBytes, VecOps, values};

use crate::c_door::{Built, c_fixture};
use crate::latents::LatentsBench;
use crate::support::{
    choice, demo_model_with, error_text, fixture, latent_bits, registry, sample, short_request,
    wan, with_sampler,
};

/// A library's solver as the sampler that is made of it.
struct Offered {
    library: Library,
    id: &'static str,
}

impl Offered {
    fn open(built: &Built, id: &'static str) -> Self {
        let library = OpenedPlugin::open(&built.path(), None).unwrap().library;
        Self { library: Registry::offered(library).unwrap().0, id }
    }

    fn sampler(&self, given: &[(&str, Value)], steps: u32) -> SamplerInstance {
        let description = self.library.describe().unwrap();
        let strategy = description.samplers.iter().find(|s| s.id == self.id).unwrap();
        let given: OptionValues = given.iter().map(|(n, v)| (n.to_string(), v.clone())).collect();
        let values = complete(self.id, &strategy.options, &given).unwrap();
        let request =
            SampleRequest { frames: 2, prefix_frames: 0, steps, shift: 1.0, temporal_scale: 4 };
        self.library.create_sampler(self.id, &values, &request).unwrap()
    }
}

/// All steps of a sampler from `start`, with `dx/dsigma = 3 * x - 0.4`.
fn walked(sampler: &mut SamplerInstance, start: &[f32]) -> Vec<f32> {
    let ops = VecOps::default();
    let mut sample = ops.tensor(2, start);
    for (index, round) in sampler.schedule_from(0).unwrap().rounds.iter().enumerate() {
        let step = Step { index, evaluation: 0, evaluations_left: 0, round };
        let flow = |x: &[f32], _: &[FrameLevel]| x.iter().map(|x| 3.0 * x - 0.4).collect();
        let mut model = ModelFn::new(&ops, flow);
        sample = sampler.step(&sample, &step, &mut model, &ops).unwrap();
        assert_eq!(model.evaluations, round.evaluations);
    }
    values(&sample)
}

#[test]
fn a_solver_in_c_is_a_sampler_of_its_order() {
    let at = |sigma: f64| 5.0 * (3.0 * sigma).exp() + 0.4 / 3.0;
    for (file, id, evaluations) in [("ralston.c", "c-ralston", 2), ("adams.c", "c-adams", 1)] {
        let built = c_fixture(file);
        let offered = Offered::open(&built, id);
        let error = |steps: u32| {
            let sigmas = (0..=steps).map(|i| 1.0 - f64::from(i) / f64::from(steps));
            let sigmas = json!(sigmas.collect::<Vec<_>>());
            let mut sampler = offered.sampler(&[("sigmas", sigmas)], steps);
            let rounds = sampler.schedule_from(0).unwrap().rounds;
            assert!(rounds.iter().all(|round| round.evaluations == evaluations));
            let start = at(1.0) as f32;
            (f64::from(walked(&mut sampler, &[start, start])[0]) - at(0.0)).abs()
        };
        let rate = (error(32) / error(64)).log2();
        assert!((rate - 2.0).abs() < 0.3, "{id}: order {rate}");
    }
}

#[test]
fn what_such_a_sampler_says_is_the_solvers_and_the_levels() {
    let built = c_fixture("adams.c");
    let mut registry = registry();
    registry.add_file(&built.path()).unwrap();
    let strategies: Vec<_> = registry.strategies(Kind::Sampler).collect();
    let of = |id: &str| *strategies.iter().find(|s| s.id == id).unwrap();
    let (adams, euler) = (of("c-adams"), of("euler"));
    assert_eq!(adams.doc, "two-step Adams-Bashforth, in C, all frames together");
    assert_eq!((&adams.options, &adams.extensions), (&euler.options, &euler.extensions));
}

#[test]
fn a_schedule_of_such_a_sampler_is_run_in_two_parts() {
    let built = c_fixture("ralston.c");
    let offered = Offered::open(&built, "c-ralston");
    let start = [1.0, -0.5];
    let whole = walked(&mut offered.sampler(&[], 6), &start);
    let first = walked(&mut offered.sampler(&[("end_step", json!(2))], 6), &start);
    let second = walked(&mut offered.sampler(&[("start_step", json!(2))], 6), &first);
    assert_eq!(second, whole);
    assert_ne!(first, whole);

    // ... and through the program, from the file that the first run leaves.
    let folder = built.folder().to_str().unwrap();
    let small = ["--frame_num", "5", "--sample_steps", "6", "--cache", "none"];
    let bench = LatentsBench::new(&["--plugin_dir", folder, "--sampler", "c-ralston"]);
    let bench = bench.with_flags(&small);
    let whole = bench.run("whole", &[]);
    bench.run("first", &["--sampler_option", "end_step=2"]);
    let from = bench.path("first");
    let second = ["--sampler_option", "start_step=2", "--latents", from.to_str().unwrap()];
    assert_eq!(bench.run("second", &second).bits(), whole.bits());
}

#[test]
fn the_state_of_such_a_sampler_is_the_solvers() {
    let built = c_fixture("adams.c");
    let offered = Offered::open(&built, "c-adams");
    let ops = VecOps::default();
    let flow = |x: &[f32], _: &[FrameLevel]| x.iter().map(|x| 3.0 * x - 0.4).collect();
    let run = |is_saved: bool| {
        let mut sampler = offered.sampler(&[], 5);
        let mut sample = ops.tensor(2, &[0.3, -1.0]);
        for (index, round) in sampler.schedule_from(0).unwrap().rounds.iter().enumerate() {
            let step = Step { index, evaluation: 0, evaluations_left: 0, round };
            let mut model = ModelFn::new(&ops, flow);
            sample = sampler.step(&sample, &step, &mut model, &ops).unwrap();
            if is_saved {
                let saved =
                    SavedBytes::save(|id, message| sampler.extension(id, message, &ops)).unwrap();
                sampler = offered.sampler(&[], 5);
                saved.load(&ops, |id, message| sampler.extension(id, message, &ops)).unwrap();
            }
        }
        values(&sample)
    };
    assert_eq!(run(true), run(false));
    let ralston = c_fixture("ralston.c");
    let mut stateless = Offered::open(&ralston, "c-ralston").sampler(&[], 5);
    let error = SavedBytes::save(|id, message| stateless.extension(id, message, &ops)).unwrap_err();
    assert!(error.message.contains("c-ralston has no extension wan.state/1"), "{error}");
}

#[test]
fn solvers_in_c_are_listed_checked_and_generate() {
    for (file, id) in [("ralston.c", "c-ralston"), ("adams.c", "c-adams")] {
        let built = c_fixture(file);
        let folder = built.folder().to_str().unwrap();
        let list = wan(&["plugins", "list", "--plugin_dir", folder]);
        assert!(String::from_utf8_lossy(&list.stdout).contains(id));
        let video = built.folder().join("out.mp4");
        let generated = wan(&[
            "generate",
            "--frame_num",
            "5",
            "--sample_steps",
            "2",
            "--plugin_dir",
            folder,
            "--sampler",
            id,
            "--save_file",
            video.to_str().unwrap(),
        ]);
        assert!(generated.status.success() && video.is_file(), "{}", error_text(&generated));
        let checked = wan(&["plugins", "check", built.path().to_str().unwrap(), "--json"]);
        let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let bad: Vec<_> = findings.iter().filter(|f| f["status"] == "fail").collect();
        assert!(checked.status.success() && bad.is_empty(), "{bad:#?}");
        for test in ["sampler-constant", "sampler-schedule", "sampler-handover"] {
            let tried = findings.iter().any(|f| f["test"] == test && f["status"] == "pass");
            assert!(tried, "{test} of {id}: {findings:#?}");
        }
        let state = findings.iter().find(|f| f["test"] == "sampler-state").unwrap();
        let expected = if id == "c-adams" { "pass" } else { "skipped" };
        assert_eq!(state["status"], expected, "{state}");
    }
}

#[test]
fn no_other_sampler_is_lent_a_library_s_solver() {
    let built = c_fixture("ralston.c");
    let mut registry = registry();
    registry.add_file(&built.path()).unwrap();
    let given = |solver: &str| OptionValues::from([("solver".to_string(), json!(solver))]);
    let refused = |solver: &str| {
        let chosen = registry.choose(Kind::Sampler, "diffusion-forcing", &given(solver));
        chosen.map(|_| ()).unwrap_err().to_string()
    };
    let said = refused("c-ralston");
    assert!(
        said.contains("`sampler` c-ralston") && said.contains("wan-diffusion-forcing"),
        "{said}"
    );
    assert!(!refused("ralston").contains("wan-diffusion-forcing"));

    let folder = built.folder().to_str().unwrap();
    let output = wan(&[
        "generate",
        "--plugin_dir",
        folder,
        "--sampler",
        "diffusion-forcing",
        "--sampler_option",
        "solver=c-ralston",
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error_text(&output).contains("wan-diffusion-forcing"), "{}", error_text(&output));
}

/// One file, in its own folder: asynchronous, in chunks that overlap, through the host.
#[test]
fn a_third_party_s_solver_runs_diffusion_forcing_with_windows() {
    let mut registry = registry();
    registry.add_file(&fixture("third_party_solver")).unwrap();
    let model = demo_model_with(registry);
    let forced = |options: &[(&str, Value)]| {
        let request = short_request().frame_num(33).sample_steps(4);
        with_sampler(request, choice("diffusion-forcing-midpoint", options))
    };
    let alone = short_request().frame_num(33).sample_steps(4).sampler("midpoint");
    assert!(latent_bits(&model, &forced(&[])) == latent_bits(&model, &alone));

    let asynchronous = forced(&[
        ("ar_step", json!(1)),
        ("base_num_frames", json!(17)),
        ("overlap_history", json!(5)),
    ]);
    let sampled = sample(&model, &asynchronous).unwrap();
    // Chunks of 5, 5 and 3 of the 9 latent frames, of which 2 are taken over each time: 4 steps, and
    // a round more for every block behind the first that moves.
    let (rounds, used) = ((4 + 4) + (4 + 2) + 4, &sampled.experts[0]);
    assert_eq!((used.rounds, used.evaluations), (rounds, 2 * rounds as u32));

    // The same by the program, with the flags that every such sampler has.
    let folder = tempfile::tempdir().unwrap();
    let library = fixture("third_party_solver");
    std::fs::copy(&library, folder.path().join(library.file_name().unwrap())).unwrap();
    let bench = LatentsBench::new(&["--plugin_dir", folder.path().to_str().unwrap()]);
    let forced = ["--sampler", "diffusion-forcing-midpoint", "--ar_step", "1"];
    let windows = ["--base_num_frames", "17", "--overlap_history", "5", "--cache", "none"];
    let small = ["--frame_num", "33", "--sample_steps", "4"];
    let run = bench.run("forced", &[&forced[..], &windows, &small].concat());
    assert_eq!(run.report["experts"][0]["rounds"].as_u64(), Some(rounds as u64));
}
