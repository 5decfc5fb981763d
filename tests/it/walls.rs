//! Walls that the compiler does not watch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wan_host::parts::Kind;
use wan_tests::checkout::checkout;

use crate::support::{error_text, registry};

pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(rust_files(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files.retain(|file| file.extension().is_some_and(|e| e == "rs"));
    files
}

#[test]
fn host_and_model_know_no_strategy_by_name() {
    let registry = registry();
    let names: Vec<String> = [Kind::Sampler, Kind::Cache]
        .into_iter()
        .flat_map(|kind| registry.strategies(kind))
        .map(|strategy| format!("\"{}\"", strategy.id))
        .collect();
    assert!(names.len() >= 6, "{names:?}");
    for name in ["host", "media", "cli", "cache-lab", "plugin-check", "wan-model"] {
        let files = rust_files(&checkout().join("crates").join(name).join("src"));
        assert!(files.len() >= 5, "{name}: {files:?}");
        for file in files {
            // An example in the documentation may name one.
            let text = code(&fs::read_to_string(&file).unwrap());
            for name in &names {
                assert!(!text.contains(name.as_str()), "{name} in {}", file.display());
            }
        }
    }
}

/// What no source of ours may say, where it may all the same, and why not.
const NEVER: [(&str, &[&str], &str); 7] = [
    (
        "env!(\"CARGO_MANIFEST_DIR\")",
        &[],
        "is where something was compiled: another checkout, where a target folder was copied",
    ),
    (
        "failure_persistence: None",
        &["crates/plugin-kit/src/runner.rs"],
        "forgets the case that failed",
    ),
    ("Tensor::rand", &[], "draws without a seed"),
    ("rand_like(", &[], "draws without a seed"),
    ("randn_like(", &[], "draws without a seed"),
    ("rand::rng(", &[], "draws without a seed"),
    ("from_os_rng(", &[], "draws without a seed"),
];

/// What ends in candle's product of matrices, and where it may all the same. On the CPU that
/// product asks each time how many cores there are, by opening a file; `wan-model`'s does not.
const CANDLES_PRODUCTS: [(&str, &[&str]); 6] = [
    (".matmul", &["crates/wan-model/src/product.rs"]),
    ("::matmul", &[]),
    ("broadcast_matmul", &[]),
    (".conv1d", &[]),
    (".conv2d", &["crates/wan-model/src/vae/conv.rs"]),
    (".conv_transpose", &[]),
];

/// What no test may ask: another machine, or a busy one, answers otherwise.
const NO_CLOCKS: [&str; 3] = [".elapsed(", "Instant::now(", "SystemTime::now("];

/// All sources of ours but this file, which names what it looks for.
fn our_sources() -> Vec<(PathBuf, String)> {
    let root = checkout();
    let folders = ["crates", "plugins", "tests", "xtask"].map(|folder| root.join(folder));
    let files = folders.iter().flat_map(|folder| rust_files(folder));
    let files = files.filter(|file| !file.ends_with("it/walls.rs"));
    files.map(|file| (file.clone(), fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn nothing_draws_without_a_seed_or_forgets_what_failed_or_where_it_is() {
    let sources = our_sources();
    assert!(sources.len() > 200, "{}", sources.len());
    for (file, text) in &sources {
        for (words, places, why) in NEVER {
            let may = places.iter().any(|place| file.ends_with(place));
            assert!(may || !text.contains(words), "{}: {words} {why}", file.display());
        }
    }
}

#[test]
fn no_test_asks_a_clock() {
    let mut tests = 0;
    for (file, text) in our_sources() {
        let path = file.strip_prefix(checkout()).unwrap().to_string_lossy().into_owned();
        let is_all_test = path.starts_with("tests/it") || path.contains("/tests");
        let start = if is_all_test { Some(0) } else { text.find("#[cfg(test)]") };
        let Some(start) = start else { continue };
        tests += 1;
        for clock in NO_CLOCKS {
            assert!(!text[start..].contains(clock), "{path}: {clock}..) in a test");
        }
    }
    assert!(tests > 60, "{tests}");
}

/// The crates that a plugin links or may link, beside the plugins themselves.
const OF_PLUGINS: [&str; 4] =
    ["wan-plugin-api", "wan-samplers", "wan-diffusion-forcing", "wan-cache"];

/// Who links proptest: the kit, `wan plugins check`, and what links these.
const LINK_PROPTEST: [&str; 4] = ["wan-cli", "wan-plugin-check", "wan-plugin-kit", "wan-tests"];

/// What belongs to the program and to the crates beside it, and what the library never links.
const NEVER_IN_HOST: [&str; 8] =
    ["clap", "indicatif", "maud", "nalgebra", "plotters", "proptest", "rlimit", "signal-hook"];

/// The arrows between our packages: what each links itself. The plugins stand below.
const ARROWS: [(&str, &[&str]); 20] = [
    ("wan-border", &[]),
    ("wan-kernels", &[]),
    ("wan-plugin-api", &[]),
    ("wan-plugin-kit", &["wan-plugin-api"]),
    ("wan-samplers", &["wan-plugin-api"]),
    ("wan-diffusion-forcing", &["wan-plugin-api", "wan-samplers"]),
    ("wan-cache", &["wan-plugin-api"]),
    ("wan-weight-files", &["wan-border"]),
    ("wan-model", &["wan-border", "wan-kernels", "wan-weight-files"]),
    ("wan-media", &["wan-border"]),
    ("wan-outputs", &[]),
    ("wan-run-store", &["wan-outputs"]),
    (
        "wan-host",
        &[
            "wan-border",
            "wan-media",
            "wan-model",
            "wan-outputs",
            "wan-plugin-api",
            "wan-run-store",
            "wan-samplers",
        ],
    ),
    (
        "wan-cache-lab",
        &["wan-border", "wan-host", "wan-media", "wan-model", "wan-outputs", "wan-plugin-api"],
    ),
    ("wan-plugin-check", &["wan-host", "wan-plugin-api", "wan-plugin-kit"]),
    (
        "wan-cli",
        &[
            "wan-border",
            "wan-cache-lab",
            "wan-host",
            "wan-media",
            "wan-model",
            "wan-outputs",
            "wan-plugin-api",
            "wan-plugin-check",
        ],
    ),
    (
        "wan-tests",
        &[
            "wan-border",
            "wan-cache",
            "wan-cache-lab",
            "wan-diffusion-forcing",
            "wan-host",
            "wan-kernels",
            "wan-media",
            "wan-model",
            "wan-outputs",
            "wan-plugin-api",
            "wan-plugin-epoch0",
            "wan-plugin-kit",
            "wan-samplers",
            "wan-weight-files",
        ],
    ),
    ("wan-plugin-epoch0", &[]),
    ("wan-audit", &[]),
    ("xtask", &[]),
];

/// The arrows of the plugins, which lie in folders of these names.
const ARROWS_OF_PLUGINS: [(&str, &[&str]); 7] = [
    ("diffusion-forcing", &["wan-diffusion-forcing", "wan-plugin-api"]),
    ("easycache", &["wan-cache", "wan-plugin-api"]),
    ("first-block", &["wan-cache", "wan-plugin-api"]),
    ("forecast", &["wan-cache", "wan-plugin-api"]),
    ("half-memory", &["wan-cache", "wan-plugin-api"]),
    ("magcache", &["wan-cache", "wan-plugin-api"]),
    ("teacache", &["wan-cache", "wan-plugin-api"]),
];

/// Packages of ours that link `package`, by themselves or through another. Features are those of
/// the whole workspace, as it is built: an optional dependency counts where anybody turns it on.
fn who_links(package: &str) -> BTreeSet<String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(checkout()).args(["tree", "--locked", "--offline", "--workspace"]);
    cargo.args(["--edges", "normal", "--invert", package, "--prefix", "none"]);
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", error_text(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.lines().filter_map(|line| line.split(' ').next());
    names.filter(|name| name.starts_with("wan-")).map(String::from).collect()
}

#[test]
fn no_plugin_and_no_crate_that_plugins_link_links_proptest() {
    let folders = fs::read_dir(checkout().join("plugins")).unwrap().map(Result::unwrap);
    let plugins = folders.map(|f| format!("wan-plugin-{}", f.file_name().to_str().unwrap()));
    let walled: BTreeSet<String> = plugins.chain(OF_PLUGINS.map(String::from)).collect();
    assert!(walled.len() >= 10, "{walled:?}");
    // All of them link serde: so their names are right, and the tree shows them.
    let link_serde = who_links("serde");
    assert!(walled.is_subset(&link_serde), "{walled:?} and {link_serde:?}");
    let link_proptest = who_links("proptest");
    assert!(walled.is_disjoint(&link_proptest), "{link_proptest:?}");
    assert_eq!(link_proptest, LINK_PROPTEST.map(String::from).into());
}

#[test]
fn the_host_links_nothing_of_the_program() {
    for package in NEVER_IN_HOST {
        let linked_by = who_links(package);
        assert!(!linked_by.is_empty(), "nobody links {package}");
        assert!(!linked_by.contains("wan-host"), "{package}: {linked_by:?}");
    }
}

/// A package of ours: its folder, and the packages of ours that it links itself.
type Package = (PathBuf, BTreeSet<String>);

/// All packages of the workspace by name, as their manifests say.
fn packages() -> BTreeMap<String, Package> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(checkout()).args(["metadata", "--no-deps", "--offline", "--locked"]);
    let output = cargo.args(["--format-version", "1"]).output().unwrap();
    assert!(output.status.success(), "{}", error_text(&output));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let package = |package: &Value| {
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        // Of ours are those that lie in a folder; no kind is that of a normal dependency.
        let links = dependencies.filter(|d| d["path"].is_string() && d["kind"].is_null());
        let links = links.map(|d| text(&d["name"])).collect();
        (text(&package["name"]), (folder.to_path_buf(), links))
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

#[test]
fn every_arrow_between_crates_is_in_the_table_and_is_used() {
    let plugins = ARROWS_OF_PLUGINS.map(|(name, to)| (format!("wan-plugin-{name}"), to));
    let crates = ARROWS.map(|(name, to)| (name.to_string(), to));
    let allowed: BTreeMap<String, BTreeSet<String>> = crates
        .into_iter()
        .chain(plugins)
        .map(|(name, to)| (name, to.iter().map(|to| to.to_string()).collect()))
        .collect();
    let packages = packages();
    let found: BTreeMap<_, _> =
        packages.iter().map(|(n, (_, to))| (n.clone(), to.clone())).collect();
    assert_eq!(found, allowed, "the manifests, and the table; ARCHITECTURE.md draws it");
    for (name, (folder, links)) in &packages {
        let files = rust_files(folder);
        let sources: Vec<String> = files.iter().map(|f| fs::read_to_string(f).unwrap()).collect();
        for link in links {
            let word = link.replace('-', "_");
            assert!(sources.iter().any(|s| s.contains(&word)), "{name} does not use {link}");
        }
    }
}

/// What of a source is neither a comment nor its tests.
pub(crate) fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether code names a layer of candle's that multiplies matrices or convolves.
fn names_candles_layer(code: &str) -> bool {
    let crates = ["candle_nn::", "candle_transformers::"];
    crates.iter().flat_map(|name| code.split(name).skip(1)).any(|rest| {
        let is_outside = |c: char| !c.is_alphanumeric() && c != '_' && c != ':';
        let (path, after) = rest.split_at(rest.find(is_outside).unwrap_or(rest.len()));
        // `use candle_nn::{Linear, VarBuilder};`
        let names = if after.starts_with('{') { after.split(';').next().unwrap() } else { path };
        ["linear", "conv"].iter().any(|layer| names.to_lowercase().contains(layer))
    })
}

#[test]
fn products_of_matrices_go_through_one_function() {
    let mut exceptions = 0;
    for (file, text) in our_sources() {
        let path = file.strip_prefix(checkout()).unwrap().to_string_lossy().into_owned();
        let is_product = path.starts_with("crates") || path.starts_with("plugins");
        if !is_product || path.contains("/tests") {
            continue;
        }
        let code = code(&text);
        assert!(!names_candles_layer(&code), "{path}: a layer that ends in candle's product");
        for (words, places) in CANDLES_PRODUCTS {
            let may = places.contains(&path.as_str());
            exceptions += usize::from(may && code.contains(words));
            assert!(may || !code.contains(words), "{path}: {words} instead of `product`");
        }
    }
    assert_eq!(exceptions, 2, "an exception that nothing needs");
}

#[test]
fn a_layer_of_candles_is_seen_however_it_is_named() {
    for code in [
        "use candle_nn::Linear;",
        "let layer = candle_nn::linear(3, 2, vb)?;",
        "use candle_nn::{\n    VarBuilder,\n    Conv2d,\n};",
        "use candle_transformers::models::with_tracing::{RmsNorm, linear};",
    ] {
        assert!(names_candles_layer(code), "{code}");
    }
    let other = "fn load(vb: candle_nn::VarBuilder) -> Linear;\nuse candle_nn::VarBuilder;";
    assert!(!names_candles_layer(other));
}

/// The crates that somebody else's program links, or loads: plugins are libraries too.
const LIBRARIES: [&str; 12] = [
    "crates/border",
    "crates/kernels",
    "crates/host",
    "crates/wan-model",
    "crates/samplers",
    "crates/cache",
    "crates/plugin-api",
    "crates/media",
    "crates/run-store",
    "crates/cache-lab",
    "crates/plugin-check",
    "plugins",
];

/// What belongs to the process and so to the program alone, where a library says it all the same,
/// and why it may.
const OF_THE_PROCESS: [(&str, &[(&str, &str)]); 19] = [
    // Standard output and error.
    ("println!(", &[]),
    ("print!(", &[]),
    ("dbg!(", &[]),
    ("io::stdout", &[]),
    ("io::stderr", &[]),
    // The panic hook.
    ("set_hook", &[("crates/plugin-api/src/guard.rs", "an exported library's own hook")]),
    ("take_hook", &[("crates/plugin-api/src/guard.rs", "an exported library's own hook")]),
    // Environment and working directory.
    ("set_var", &[]),
    ("remove_var", &[]),
    ("set_current_dir", &[]),
    // Signals, and the end.
    ("ctrlc", &[]),
    ("signal_hook", &[]),
    ("process::exit", &[]),
    ("process::abort", &[]),
    // What there is one of: the subscriber, the logger, the thread pool.
    ("set_global_default", &[]),
    ("tracing_subscriber", &[]),
    (".init(", &[]),
    ("build_global", &[]),
    // Limits.
    (
        "setrlimit",
        &[("crates/plugin-check/src/process.rs", "the process of one case, by `answer`")],
    ),
];

#[test]
fn no_library_changes_its_process_or_prints() {
    let sources = our_sources().into_iter().filter_map(|(file, text)| {
        let path = file.strip_prefix(checkout()).unwrap().to_string_lossy().into_owned();
        let is_library = LIBRARIES.iter().any(|folder| path.starts_with(&format!("{folder}/")));
        // Examples are programs.
        let is_library = is_library && !path.contains("/tests") && !path.contains("/examples/");
        is_library.then(|| (path, code(&text)))
    });
    let sources: Vec<(String, String)> = sources.collect();
    assert!(sources.len() > 150, "{}", sources.len());
    for (words, exceptions) in OF_THE_PROCESS {
        let found = sources.iter().filter(|(_, code)| code.contains(words));
        let found: Vec<&str> = found.map(|(path, _)| path.as_str()).collect();
        let expected: Vec<&str> = exceptions.iter().map(|(path, _)| *path).collect();
        assert_eq!(found, expected, "{words} belongs to the program");
    }
}
