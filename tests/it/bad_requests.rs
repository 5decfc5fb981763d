//! Bad command lines, jobs and `wan.toml`s, drawn by a seed: each ends with a documented exit code,
//! in one line that names what is wrong, and nothing panics.

use std::fs;
use std::path::Path;
use std::process::Command;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde_json::{Value, json};

use crate::support::{demo_folder, error_text, program};

/// What a flag takes, and so what it refuses.
#[derive(Clone, Copy)]
enum Takes {
    /// A whole number from 1 on.
    Count,
    /// A positive, finite number.
    Number,
    /// A finite number, 0 or above.
    Scale,
    Seed,
    Size,
    /// One of a few words.
    Word,
    /// A file that is there and of the right kind.
    File,
    /// A folder with a model.
    Folder,
    /// NAME=VALUE of a strategy.
    Option,
}

use Takes::{Count, File, Folder, Number, Option as StrategyOption, Scale, Seed, Size, Word};

/// Flags of `wan generate`, with the field of a job of the same name.
const FLAGS: &[(&str, Takes)] = &[
    ("size", Size),
    ("frame_num", Count),
    ("fps", Number),
    ("base_seed", Seed),
    ("sample_steps", Count),
    ("sample_shift", Number),
    ("sample_guide_scale", Scale),
    ("sample_guide_scale_low", Scale),
    ("context_frames", Count),
    ("task", Word),
    ("sampler", Word),
    ("cache", Word),
    ("cache_device", Word),
    ("dtype", Word),
    ("on_nan", Word),
    ("image", File),
    ("last_frame", File),
    ("video", File),
    ("latents", File),
    ("sampler_option", StrategyOption),
    ("cache_option", StrategyOption),
];

/// Flags that no job has.
const FLAGS_ALONE: &[(&str, Takes)] = &[
    ("job", File),
    ("reproduce", File),
    ("ckpt_dir", Folder),
    ("transformer", File),
    ("vae", File),
    ("text_encoder", File),
    ("tokenizer", File),
    ("plugin_dir", Folder),
    ("device", Word),
    ("progress", Word),
    ("metadata", Word),
];

/// Words of what each kind refuses.
fn refused(takes: Takes) -> &'static [&'static str] {
    match takes {
        Count => &["", "abc", "-1", "0", "1.5", "nan", "1e3", "18446744073709551616", "٣", "0x10"],
        Number => &["", "abc", "-1", "0", "nan", "inf", "-inf", "1e999", "1,5", "--"],
        Scale => &["", "abc", "-1", "nan", "inf", "-inf", "1e999", "1,5", "--"],
        Seed => &["", "abc", "-2", "1.5", "99999999999999999999", "nan"],
        Size => &[
            "",
            "64",
            "64*",
            "64x",
            "*64",
            "64*64*64",
            "-64*64",
            "0*64",
            "65*64",
            "a*b",
            "18446744073709551615*16",
            "4294967296*4294967296",
            "100000*100000",
            "64.0*64",
        ],
        Word => &["", "no-such", "NONE ", "a\u{1b}[31m", "../x", "长"],
        File => &["", "/no/such/file", ".", "empty", "noise", "text.json", "/dev/null", "fifo"],
        Folder => &["", "/no/such/folder", "empty", "noise", "fifo"],
        StrategyOption => &["", "=", "no-such=1", "threshold", "threshold=", "interval=abc", "=1"],
    }
}

/// What a field of a job refuses, as JSON.
fn refused_json(takes: Takes) -> Vec<Value> {
    let wrong_kinds = [json!([]), json!({}), json!(true)];
    let own = match takes {
        Count => vec![json!("abc"), json!(-1), json!(0), json!(1.5), json!(1e300)],
        Number => vec![json!("abc"), json!(-1), json!(0)],
        Scale => vec![json!("abc"), json!(-1), json!(1e300)],
        Seed => vec![json!("abc"), json!(-2), json!(1.5), json!(1e300)],
        StrategyOption => vec![json!("abc"), json!(1), json!({"no-such": 1})],
        File | Folder => vec![json!(1), json!("/no/such/file"), json!("noise")],
        Size | Word => refused(takes).iter().map(|word| json!(word)).chain([json!(1)]).collect(),
    };
    match takes {
        StrategyOption => own,
        _ => own.into_iter().chain(wrong_kinds).collect(),
    }
}

/// Draws, the same for the same seed.
struct Draw(ChaCha8Rng);

impl Draw {
    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let count = all.len() as u64;
        &all[(self.0.next_u64() % count) as usize]
    }
}

/// A folder with what bad command lines name.
fn prepare(folder: &Path) {
    fs::write(folder.join("empty"), "").unwrap();
    fs::write(folder.join("noise"), (0..997u32).map(|i| (i * i) as u8).collect::<Vec<_>>())
        .unwrap();
    fs::write(folder.join("text.json"), "{\"a\": [1, 2]}").unwrap();
    assert!(Command::new("mkfifo").arg(folder.join("fifo")).status().unwrap().success());
    let copied = Command::new("cp").arg("-r").arg(demo_folder()).arg(folder.join("model")).status();
    assert!(copied.unwrap().success());
}

/// A bad command line, and one of the words that its error must have.
struct Bad {
    arguments: Vec<String>,
    /// The field.
    names: String,
    /// The line, and the file that it names, for the report.
    written: String,
}

fn bad_line(arguments: Vec<String>, field: &str, file: &str) -> Bad {
    let written = format!("{arguments:?} {file}");
    Bad { arguments, names: field.into(), written }
}

/// Writes what the line needs into the folder.
fn bad(draw: &mut Draw, folder: &Path) -> Bad {
    let short = ["generate", "--frame_num=5", "--sample_steps=1", "--progress=quiet"];
    let mut arguments: Vec<String> = short.map(String::from).into();
    match draw.of(&[0, 0, 0, 1, 2]) {
        0 => {
            let all = [FLAGS, FLAGS_ALONE].concat();
            let (flag, takes) = *draw.of(&all);
            let value = draw.of(refused(takes));
            // Each once: a second one is another fault.
            arguments.retain(|argument| !argument.starts_with(&format!("--{flag}=")));
            arguments.push(format!("--{flag}={value}"));
            bad_line(arguments, flag, "")
        }
        1 => {
            let (field, takes) = *draw.of(FLAGS);
            let values = refused_json(takes);
            let name = if field.ends_with("_option") { format!("{field}s") } else { field.into() };
            let job = json!({ name.as_str(): draw.of(&values) });
            fs::write(folder.join("job.json"), job.to_string()).unwrap();
            // The flag would be taken in its place.
            arguments.retain(|argument| !argument.starts_with(&format!("--{field}=")));
            arguments.push("--job=job.json".into());
            bad_line(arguments, field, &job.to_string())
        }
        _ => {
            let (field, takes) = *draw.of(&FLAGS[..15]);
            let values = refused_json(takes);
            let value = draw.of(&values);
            let value: toml::Value = serde_json::from_value(value.clone()).unwrap();
            let text = fs::read_to_string(demo_folder().join("wan.toml")).unwrap();
            let mut table: toml::Table = toml::from_str(&text).unwrap();
            table["generate"].as_table_mut().unwrap().insert(field.into(), value);
            let text = toml::to_string(&table).unwrap();
            fs::write(folder.join("model/wan.toml"), &text).unwrap();
            arguments.retain(|argument| !argument.starts_with(&format!("--{field}=")));
            arguments.push("--ckpt_dir=model".into());
            bad_line(arguments, field, &text)
        }
    }
}

/// What is wrong with how the program answers a bad request; nothing if it is as documented.
fn fault(bad: &Bad, folder: &Path) -> Option<String> {
    // A second of processor time, 300 MB of address space, and an end to what waits for ever.
    let limits = "ulimit -t 1; ulimit -v 300000; exec timeout 20 \"$@\"";
    let mut command = Command::new("sh");
    command.env("MALLOC_ARENA_MAX", "1").env("RAYON_NUM_THREADS", "1");
    command.args(["-c", limits, "sh"]).arg(program()).args(&bad.arguments).current_dir(folder);
    let output = command.output().unwrap();
    let said = error_text(&output);
    let last = said.lines().last().unwrap_or_default().to_string();
    let dashed = bad.names.replace('_', "-");
    let code = output.status.code();
    let why = match code {
        _ if said.contains("panicked") => "a panic",
        Some(2..=5) if !last.starts_with("wan: ") => "the last line is not ours",
        Some(2..=5) if !last.contains(&bad.names) && !last.contains(&dashed) => "no field is named",
        Some(2..=5) => return None,
        Some(0) => "it is taken",
        _ => "no documented exit code",
    };
    Some(format!("{why}, {code:?}: {}: {said}", bad.written))
}

fn check(count: usize) {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(13));
    let mut faults = Vec::new();
    for _ in 0..count {
        let bad = bad(&mut draw, folder.path());
        faults.extend(fault(&bad, folder.path()));
    }
    assert!(faults.is_empty(), "{} of {count}:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_bad_request_ends_in_one_line_that_names_the_field() {
    check(100);
}

#[test]
#[ignore = "takes minutes; run with --run-ignored"]
fn twelve_hundred_bad_requests_end_in_one_line_that_names_the_field() {
    check(1200);
}
