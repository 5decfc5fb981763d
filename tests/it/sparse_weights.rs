//! Weights of real size through the program: headers of files that were never filled. What is read
//! is counted, in the place of a clock.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use wan_model::inspect::{Network, known};
use wan_model::original_names::Layout;
use wan_weight_files::{Encoding, GgufWriter, SafetensorsWriter, TensorInfo};

use crate::support::program;
use wan_tests::checkout::checkout;

/// Bytes that the program reads before it looks at any weights, at most: the libraries that it
/// links, and what the system says of the machine.
const START_MAX: u64 = 256 << 10;

/// Names of tensors in a file, number formats, container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Diffusers,
    Wan,
    /// Wan's names behind ComfyUI's prefix.
    Prefixed,
    /// The same in 8 bits, with a factor beside each matrix.
    Scaled,
    /// The mix that is named Q4_K_M.
    Gguf,
}

const KINDS: [Kind; 5] = [Kind::Diffusers, Kind::Wan, Kind::Prefixed, Kind::Scaled, Kind::Gguf];

/// The tensors of a network as such a file has them.
fn tensors(network: &Network, kind: Kind) -> Vec<TensorInfo> {
    let is_text = matches!(network, Network::TextEncoder(_));
    let layout = match (kind, is_text) {
        (Kind::Diffusers, _) | (Kind::Scaled, true) => Layout::Diffusers,
        (Kind::Gguf, true) => Layout::LlamaTextEncoder,
        _ => network.original_layout(),
    };
    let is_prefixed = matches!(kind, Kind::Prefixed | Kind::Scaled) && !is_text;
    let prefix = if is_prefixed { "model.diffusion_model." } else { "" };
    let mut infos = Vec::new();
    for (name, shape) in network.tensors() {
        let encoding = encoding(&name, &shape, kind);
        let name = format!("{prefix}{}", layout.restore(&name));
        if encoding == Encoding::F8E4M3 {
            let name = format!("{}scale_weight", name.strip_suffix("weight").unwrap());
            infos.push(TensorInfo { name, shape: Vec::new(), encoding: Encoding::F32 });
        }
        infos.push(TensorInfo { name, shape, encoding });
    }
    if kind == Kind::Scaled {
        let (name, shape) = (format!("{prefix}scaled_fp8"), vec![2]);
        infos.push(TensorInfo { name, shape, encoding: Encoding::F8E4M3 });
    }
    // Writers want each tensor at a multiple of its numbers' size.
    infos.sort_by_key(|info| std::cmp::Reverse(info.encoding.block_bits() / info.encoding.block()));
    infos
}

fn encoding(name: &str, shape: &[usize], kind: Kind) -> Encoding {
    let is_matrix = shape.len() == 2 && name.ends_with("weight") && name.contains("block");
    let is_wide = name.contains("relative_attention_bias");
    match kind {
        Kind::Scaled if is_matrix && !is_wide => Encoding::F8E4M3,
        Kind::Gguf if name.contains("to_v.") || name.contains("net.2.") => match is_matrix {
            true => Encoding::Q6K,
            false => Encoding::F32,
        },
        Kind::Gguf if is_matrix && !is_wide => Encoding::Q4K,
        Kind::Gguf => Encoding::F32,
        _ => Encoding::BF16,
    }
}

/// A file whose header describes the tensors, and which has a hole in their place; gives the
/// header's length.
fn write(path: &Path, kind: Kind, infos: &[TensorInfo]) -> u64 {
    let out = File::create(path).unwrap();
    let architecture =
        if infos[0].name.starts_with("enc.") || infos[0].name.starts_with("token_embd") {
            "t5encoder"
        } else {
            "wan"
        };
    let metadata = BTreeMap::from([("general.architecture".into(), architecture.into())]);
    let padded = |info: &TensorInfo| info.bytes().next_multiple_of(32);
    let bytes: u64 = match kind {
        Kind::Gguf => {
            drop(GgufWriter::new(&out, infos, &metadata).unwrap());
            infos.iter().map(padded).sum()
        }
        _ => {
            drop(SafetensorsWriter::new(&out, infos, &BTreeMap::new()).unwrap());
            infos.iter().map(TensorInfo::bytes).sum()
        }
    };
    let header = out.metadata().unwrap().len();
    out.set_len(header + bytes).unwrap();
    header
}

/// What `wan inspect` prints of a file, and how many bytes it has read in all.
fn inspected(path: &Path) -> (String, u64) {
    let said = tempfile::tempfile().unwrap();
    let mut command = Command::new(program());
    command.arg("inspect").arg(path).stdin(Stdio::null());
    command.stdout(said.try_clone().unwrap()).stderr(said.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    // It has ended, and its counts are still there.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(Pid::from_child(&child)), options).unwrap();
    let counts = std::fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
    let read = counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    let is_well = child.wait().unwrap().success();
    let text = {
        use std::io::{Read, Seek};
        let (mut said, mut text) = (said, String::new());
        said.rewind().unwrap();
        said.read_to_string(&mut text).unwrap();
        text
    };
    assert!(is_well, "{}: {text}", path.display());
    (text, read.parse().unwrap())
}

fn network(id: &str) -> Network {
    known().into_iter().find(|known| known.id == id).unwrap().network
}

#[test]
fn weights_of_real_size_are_told_by_their_headers() {
    let folder = tempfile::tempdir().unwrap();
    for id in ["t2v-14B", "i2v-14B", "umt5-xxl"] {
        let network = network(id);
        for kind in KINDS {
            let is_prefix_of_none = kind == Kind::Prefixed && id == "umt5-xxl";
            if is_prefix_of_none {
                continue;
            }
            let extension = if kind == Kind::Gguf { "gguf" } else { "safetensors" };
            let path: PathBuf = folder.path().join(format!("{id}-{kind:?}.{extension}"));
            let header = write(&path, kind, &tensors(&network, kind));
            let length = std::fs::metadata(&path).unwrap().len();
            assert!(length > 5 << 30 || kind == Kind::Gguf && length > 2 << 30, "{length}");
            let (said, read) = inspected(&path);
            assert!(said.contains(id), "{id} {kind:?}: {said}");
            // The header once more than it is read: it is compared before weights are loaded.
            assert!(read < 2 * header + START_MAX, "{id} {kind:?}: {read} bytes, {header} header");
        }
    }
}

/// A full-size model of sparse files, and what its plan must not exceed.
struct Planned {
    transformers: &'static [&'static str],
    kind: Kind,
    flags: &'static [&'static str],
    gib_max: f64,
}

#[test]
fn models_of_real_size_are_planned_by_their_headers() {
    let folder = tempfile::tempdir().unwrap();
    let file = |id: &str, kind: Kind, name: &str| {
        let path = folder.path().join(name);
        write(&path, kind, &tensors(&network(id), kind));
        path.display().to_string()
    };
    let vae = file("vae-2.1", Kind::Diffusers, "vae.safetensors");
    let text = file("umt5-xxl", Kind::Diffusers, "umt5.safetensors");
    let tokenizer = checkout().join("demo-model/tokenizer/tokenizer.json");
    let narrow = &["--dtype", "bf16", "--narrow_stream"];
    let cases = [
        Planned { transformers: &["t2v-14B"], kind: Kind::Gguf, flags: narrow, gib_max: 11.0 },
        Planned {
            transformers: &["t2v-A14B", "t2v-A14B"],
            kind: Kind::Gguf,
            flags: narrow,
            gib_max: 20.0,
        },
        Planned { transformers: &["t2v-1.3B"], kind: Kind::Diffusers, flags: narrow, gib_max: 8.0 },
    ];
    for Planned { transformers, kind, flags, gib_max } in cases {
        let limit = format!("{}MiB", gib_max * 1024.0);
        let mut command = Command::new(program());
        command.args([
            "plan",
            "--json",
            "--device",
            "cpu",
            "--cache",
            "none",
            "--sampler",
            "unipc",
        ]);
        command.args(["--prompt", "a ball", "--size", "832*480", "--frame_num", "81"]);
        command.args(["--task", transformers[0]]);
        command.args(flags).args(["--vae", &vae, "--text_encoder", &text, "--tokenizer"]);
        command.arg(&tokenizer).args(["--max_memory", &limit]);
        for (number, (id, flag)) in
            transformers.iter().zip(["--transformer", "--transformer_2"]).enumerate()
        {
            command.args([flag, &file(id, kind, &format!("{number}.weights"))]);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{transformers:?}: {said}");
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let peak = plan["peaks"]["device"]["bytes"].as_f64().unwrap() / f64::from(1 << 30);
        println!("{transformers:?} {kind:?}: {peak:.2} GiB, {}", plan["plan"]["choices"]);
        assert!(peak > 1.0 && peak <= gib_max, "{transformers:?}: {peak} GiB");
        // Attention is never of all tokens with all tokens.
        let tokens = 21 * 30 * 52;
        let lines = plan["plan"]["phases"].as_array().unwrap().iter();
        let lines = lines.flat_map(|phase| phase["lines"].as_array().unwrap());
        let attention = lines.filter(|line| line["what"].as_str().unwrap().contains("attention"));
        let most = attention.map(|line| line["bytes"].as_u64().unwrap()).max().unwrap();
        assert!(most < tokens * tokens * 4, "{most} bytes of workspace");
    }
}
