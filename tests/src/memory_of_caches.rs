//! The page that shows what each cache declares for real models, beside what the references keep.

use std::fmt::Write;

use wan_plugin_api::{CacheContext, DType, ModelIdentity};
use wan_plugin_kit::{CacheUnderTest, small_context};

/// A model.
struct Model {
    name: &'static str,
    dim: u32,
    layers: u32,
}

const MODELS: [Model; 2] =
    [Model { name: "1.3B", dim: 1536, layers: 30 }, Model { name: "14B", dim: 5120, layers: 40 }];

/// A size of video.
struct Size {
    name: &'static str,
    width: u32,
    height: u32,
    frames: u32,
}

const SIZES: [Size; 3] = [
    Size { name: "832x480x81", width: 832, height: 480, frames: 81 },
    Size { name: "960x544x97", width: 960, height: 544, frames: 97 },
    Size { name: "1280x720x81", width: 1280, height: 720, frames: 81 },
];

/// Latent channels of Wan's VAE.
const CHANNELS: u32 = 16;

/// What a cache of the prompt's branch is told, every latent frame at a level of its own.
fn context(model: &Model, size: &Size, dtype: DType) -> CacheContext {
    let frames = (size.frames - 1) / 4 + 1;
    // The VAE divides each side by 8, patches by 2 more.
    let frame_tokens = (size.width / 16) * (size.height / 16);
    let small = small_context(50);
    CacheContext {
        model: ModelIdentity {
            dim: model.dim,
            layers: model.layers,
            in_channels: CHANNELS,
            ..small.model
        },
        frames,
        frame_tokens,
        timesteps_max: frames,
        dtype,
        frame_output_elements: u64::from(4 * CHANNELS * frame_tokens),
        ..small
    }
}

/// The page.
pub fn document(subjects: &[CacheUnderTest]) -> String {
    let mut subjects: Vec<&CacheUnderTest> = subjects.iter().collect();
    subjects.sort_by_key(|subject| subject.id());
    let kept = |dtype: DType| {
        let bytes = |subject: &CacheUnderTest, branch: &str, context: &CacheContext| {
            let context = CacheContext { branch: branch.into(), dtype, ..context.clone() };
            // The options of a subject fit every model.
            subject.create(subject.base(), &context).map_or(0, |cache| cache.plan().bytes_max)
        };
        rows(subjects.iter().flat_map(|&subject| {
            let of = |branch: &'static str| {
                move |context: &CacheContext| bytes(subject, branch, context)
            };
            let name = format!("`{}`", subject.id());
            let differs = columns(of("cond")) != columns(of("uncond"));
            let negative =
                differs.then(|| (format!("{name}, negative prompt"), columns(of("uncond"))));
            [Some((name, columns(of("cond")))), negative].into_iter().flatten()
        }))
    };
    let per_token = |times: u64, bytes: u64| {
        columns(move |context: &CacheContext| {
            let tokens = u64::from(context.frames) * u64::from(context.frame_tokens);
            tokens * times * u64::from(context.model.dim) * bytes
        })
    };
    let per_frame = |times: u64| {
        columns(move |c: &CacheContext| u64::from(c.frames) * times * u64::from(c.model.dim) * 4)
    };
    let references = rows([
        ("`e0` per token, f32: `L 6 D 4`".to_string(), per_token(6, 4)),
        ("`e0` per token, bf16: `L 6 D 2`".to_string(), per_token(6, 2)),
        ("`e` per token, f32: `L D 4`".to_string(), per_token(1, 4)),
        ("`e` per token, bf16: `L D 2`".to_string(), per_token(1, 2)),
        ("residual, f32: `L D 4`".to_string(), per_token(1, 4)),
        ("residual, bf16: `L D 2`".to_string(), per_token(1, 2)),
        ("TeaCache, f32, `e0` and residual".to_string(), per_token(7, 4)),
        ("TeaCache, bf16, `e0` and residual".to_string(), per_token(7, 2)),
        ("*here:* `e0`, a row per frame, f32: `F 6 D 4`".to_string(), per_frame(6)),
        ("*here:* `e`, a row per frame, f32: `F D 4`".to_string(), per_frame(1)),
    ]);
    include_str!("memory_of_caches/page.md.in")
        .replace("{{f32}}", &kept(DType::F32))
        .replace("{{bf16}}", &kept(DType::BF16))
        .replace("{{references}}", &references)
}

/// A number for every model and size.
fn columns(bytes: impl Fn(&CacheContext) -> u64) -> Vec<u64> {
    let of = |model| SIZES.iter().map(move |size| context(model, size, DType::F32));
    MODELS.iter().flat_map(of).map(|context| bytes(&context)).collect()
}

/// A table in Markdown.
fn rows(lines: impl IntoIterator<Item = (String, Vec<u64>)>) -> String {
    let heads =
        MODELS.iter().flat_map(|m| SIZES.iter().map(move |s| format!("{} {}", m.name, s.name)));
    let heads: Vec<String> = heads.collect();
    let mut table = format!("| | {} |\n|---|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for (name, numbers) in lines {
        let numbers: Vec<String> = numbers.into_iter().map(in_words).collect();
        // Writing to a string cannot fail.
        let _ = write!(table, "\n| {name} | {} |", numbers.join(" | "));
    }
    table
}

/// Bytes in decimal units, three digits.
fn in_words(bytes: u64) -> String {
    let (unit, size) = match bytes {
        0..1_000_000 => ("kB", 1e3),
        1_000_000..1_000_000_000 => ("MB", 1e6),
        _ => ("GB", 1e9),
    };
    let number = bytes as f64 / size;
    match number {
        0.0..10.0 => format!("{number:.2} {unit}"),
        10.0..100.0 => format!("{number:.1} {unit}"),
        _ => format!("{number:.0} {unit}"),
    }
}
