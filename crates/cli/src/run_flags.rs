//! Flags of everything that runs a model, under the names that users of Wan's `generate.py` and
//! SkyReels' `generate_video_df.py` know. Options of strategies may have flags of their own.

use std::fmt::Display;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use wan_host::parts::{Kind, Registry};
use wan_host::{
    Bytes, EncoderPlace, Error, Fit, Format, FrameSource, LoraRequest, OnNan, Request, Result,
};
use wan_plugin_api::{OptionKind, OptionSpec, OptionValues, Place, Strategy};

use super::args::{flag, model_dir, plugin_dir, plugin_timeout, progress};

/// `command` with the flags of everything that runs a model.
pub(super) fn with_run_flags(command: Command, registry: &Registry) -> Command {
    let command = command
        .args(video_flags())
        .args(model_flags())
        .args(memory_flags())
        .args(given_flags())
        .args(sampling_flags())
        .args(strategy_flags())
        .args([progress(), plugin_dir(), plugin_timeout()]);
    option_flags(registry).into_iter().fold(command, |c, arg| c.arg(arg))
}

fn video_flags() -> [Arg; 8] {
    [
        flag("prompt", "TEXT", "What the video shows"),
        flag("negative_prompt", "TEXT", "What it should not show"),
        model_dir(),
        flag("task", "TASK", "Take the published defaults of this model: t2v-14B, i2v-A14B, ..."),
        flag("size", "W*H", "Pixels, as 832*480"),
        flag("frame_num", "N", "Frames, 4n+1")
            .alias("num_frames")
            .value_parser(value_parser!(usize)),
        flag("fps", "FPS", "Frames per second").value_parser(value_parser!(f64)),
        flag("base_seed", "SEED", "Seed of all noise; -1 draws one")
            .alias("seed")
            .allow_negative_numbers(true)
            .value_parser(value_parser!(i64).range(-1..)),
    ]
}

fn model_flags() -> [Arg; 9] {
    let file = |name, help| flag(name, "FILE", help).value_parser(value_parser!(PathBuf));
    [
        file("transformer", "Transformer in one file (Wan's, ComfyUI's or diffusers' names)"),
        file("transformer_2", "Second, low-noise expert in one file"),
        file("vae", "VAE in one file"),
        file("text_encoder", "UMT5 in one file"),
        file("image_encoder", "CLIP vision encoder in one file"),
        file("tokenizer", "tokenizer.json or spiece.model of the text encoder"),
        lora(),
        flag("dtype", "FORMAT", "Number format of the transformer: f32 (default) | bf16 | f16")
            .hide_possible_values(true)
            .value_parser(["f32", "bf16", "f16"]),
        Arg::new("narrow_stream").long("narrow_stream").action(ArgAction::SetTrue).help(
            "Keep the residual stream in that format too, as diffusers does; Wan has it in f32",
        ),
    ]
    .map(|arg| arg.help_heading("Model files"))
}

/// Flags that say how much memory a run takes, under the names of the published programs too.
pub(super) fn memory_flags() -> [Arg; 10] {
    let format = |name, help| {
        flag(name, "FORMAT", help).hide_possible_values(true).value_parser(["f32", "bf16", "f16"])
    };
    let bytes = |name, help| flag(name, "BYTES", help).value_parser(value_parser!(Bytes));
    [
        bytes(
            "max_memory",
            "Most memory of the device, on the CPU of the process, as 12GiB [default: what is free]",
        ),
        bytes("max_host_memory", "Most main memory of the process, beside a GPU"),
        flag("fit", "auto|never", "Make a run fit the memory, or refuse it [default: auto]")
            .hide_possible_values(true)
            .value_parser(["auto", "never"]),
        flag(
            "text_encoder_device",
            "cpu|device",
            "Where the text encoder computes [default: device, where the transformer does]",
        )
        .hide_possible_values(true)
        .value_parser(["cpu", "device"]),
        Arg::new("t5_cpu")
            .long("t5_cpu")
            .action(ArgAction::SetTrue)
            .conflicts_with("text_encoder_device")
            .help("The same as --text_encoder_device cpu"),
        Arg::new("offload_model")
            .long("offload_model")
            .value_name("True|False")
            .value_parser(["True", "true", "False", "false"])
            .hide(true)
            .help("Wan's: parts of a model are in memory for their turn in any case"),
        Arg::new("offload")
            .long("offload")
            .action(ArgAction::SetTrue)
            .hide(true)
            .help("SkyReels': parts of a model are in memory for their turn in any case"),
        Arg::new("convert_model_dtype")
            .long("convert_model_dtype")
            .action(ArgAction::SetTrue)
            .conflicts_with("dtype")
            .hide(true)
            .help("Wan's: the same as --dtype bf16"),
        format("text_encoder_dtype", "Number format of the text encoder's products [default: f32]"),
        format("vae_dtype", "Number format of the VAE's products [default: f32]"),
    ]
    .map(|arg| arg.help_heading("Memory"))
}

/// LoRAs, of which there may be several.
pub(super) fn lora() -> Arg {
    flag(
        "lora",
        "FILE[=STRENGTH][@high|low]",
        "LoRA on the transformer, at this strength [1], of two experts on one alone; may be given \
         more than once",
    )
    .value_parser(value_parser!(LoraRequest))
    .action(ArgAction::Append)
}

/// The LoRAs that flags name, if they name any.
pub(super) fn given_loras(matches: &ArgMatches) -> Option<Vec<LoraRequest>> {
    matches.get_many::<LoraRequest>("lora").map(|loras| loras.cloned().collect())
}

fn given_flags() -> [Arg; 5] {
    let file = |name, help| flag(name, "FILE", help).value_parser(value_parser!(PathBuf));
    [
        file("image", "Picture that the video begins with: PNG, JPEG or WebP").alias("first_frame"),
        file("last_frame", "Picture that the video ends with, for models that take one")
            .alias("end_image"),
        file("latents", "Latents of an earlier run, to go on from instead of noise"),
        file("video", "MP4 clip that the video goes on from").alias("video_path"),
        flag(
            "context_frames",
            "N",
            "Frames of the clip's end that are context, 4n+1 [default: 17]",
        )
        .value_parser(value_parser!(usize)),
    ]
    .map(|arg| arg.help_heading("Given frames"))
}

fn sampling_flags() -> [Arg; 6] {
    [
        flag("sample_steps", "N", "Inference steps per frame")
            .alias("inference_steps")
            .value_parser(value_parser!(u32)),
        flag("sample_shift", "SHIFT", "Flow shift").alias("shift").value_parser(value_parser!(f64)),
        flag("sample_guide_scale", "SCALE", "Guidance scale; 1 runs without guidance")
            .alias("guidance_scale")
            .value_parser(value_parser!(f64)),
        Arg::new("latents_only").long("latents_only").action(ArgAction::SetTrue).help(
            "End with latents, noisy ones where the schedule ends early, for a run with --latents",
        ),
        flag(
            "on_nan",
            "stop|warn",
            "What to do with numbers that no video has: stop, or warn and go on [default: stop]",
        )
        .hide_possible_values(true)
        .value_parser(["stop", "warn"]),
        flag("sample_guide_scale_low", "SCALE", "Guidance scale of a second, low-noise expert")
            .alias("guidance_scale_2")
            .value_parser(value_parser!(f64)),
    ]
    .map(|arg| arg.help_heading("Sampling"))
}

fn strategy_flags() -> [Arg; 5] {
    let option = |name, help| flag(name, "NAME=VALUE", help).action(ArgAction::Append);
    [
        flag("sampler", "NAME", "Sampler; `wan plugins list` names them").alias("sample_solver"),
        option("sampler_option", "An option of the sampler; may be given more than once"),
        flag("cache", "NAME", "Step cache, or `none`"),
        option("cache_option", "An option of the cache; may be given more than once"),
        flag(
            "cache_device",
            "PLACE",
            "Where the cache keeps tensors: main (the model's device) | host",
        )
        .hide_possible_values(true)
        .value_parser(["main", "host"]),
    ]
    .map(|arg| arg.help_heading("Plugins"))
}

/// What the flags say, else what the job says. Options of strategies are those of the job alone.
pub(super) fn request_of(matches: &ArgMatches, job: Request) -> Request {
    let text = |flag: &str| matches.get_one::<String>(flag).cloned();
    let number = |flag: &str| matches.get_one::<f64>(flag).copied();
    let path = |flag: &str| matches.get_one::<PathBuf>(flag).cloned();
    let frames = |flag: &str| path(flag).map(FrameSource::from);
    // Some commands decode nothing.
    let switch = |flag: &str| matches.try_get_one::<bool>(flag).ok().flatten().filter(|on| **on);
    let (sampler, cache) = (text("sampler"), text("cache"));
    // Options of a strategy that a flag has replaced are not for the new one.
    let kept = |flag: &Option<String>, own: &Option<String>, options: OptionValues| match flag {
        Some(_) if flag != own => OptionValues::new(),
        _ => options,
    };
    Request {
        sampler_options: kept(&sampler, &job.sampler, job.sampler_options),
        cache_options: kept(&cache, &job.cache, job.cache_options),
        prompt: text("prompt").or(job.prompt),
        negative_prompt: text("negative_prompt").or(job.negative_prompt),
        task: text("task").or(job.task),
        size: text("size").or(job.size),
        frame_num: matches.get_one("frame_num").copied().or(job.frame_num),
        fps: number("fps").or(job.fps),
        base_seed: matches.get_one("base_seed").copied().or(job.base_seed),
        sample_steps: matches.get_one("sample_steps").copied().or(job.sample_steps),
        sample_shift: number("sample_shift").or(job.sample_shift),
        sample_guide_scale: number("sample_guide_scale").or(job.sample_guide_scale),
        sample_guide_scale_low: number("sample_guide_scale_low").or(job.sample_guide_scale_low),
        sampler: sampler.or(job.sampler),
        cache: cache.or(job.cache),
        cache_device: text("cache_device").map(|place| place_of(&place)).or(job.cache_device),
        image: frames("image").or(job.image),
        last_frame: frames("last_frame").or(job.last_frame),
        video: frames("video").or(job.video),
        context_frames: matches.get_one("context_frames").copied().or(job.context_frames),
        latents: path("latents").or(job.latents),
        latents_only: switch("latents_only").copied().or(job.latents_only),
        lora: given_loras(matches).or(job.lora),
        dtype: format_of(matches, "dtype")
            .or(switch("convert_model_dtype").map(|_| Format::Bf16))
            .or(job.dtype),
        narrow_stream: switch("narrow_stream").copied().or(job.narrow_stream),
        text_encoder_dtype: format_of(matches, "text_encoder_dtype").or(job.text_encoder_dtype),
        text_encoder_device: switch("t5_cpu")
            .map(|_| EncoderPlace::Cpu)
            .or(text("text_encoder_device").and_then(|name| EncoderPlace::from_name(&name)))
            .or(job.text_encoder_device),
        vae_dtype: format_of(matches, "vae_dtype").or(job.vae_dtype),
        max_memory: matches.get_one("max_memory").copied().or(job.max_memory),
        max_host_memory: matches.get_one("max_host_memory").copied().or(job.max_host_memory),
        fit: text("fit").and_then(|name| Fit::from_name(&name)).or(job.fit),
        vae_tiling: switch("vae_tiling").copied().or(job.vae_tiling),
        on_nan: text("on_nan").and_then(|name| OnNan::from_name(&name)).or(job.on_nan),
    }
}

fn format_of(matches: &ArgMatches, flag: &str) -> Option<Format> {
    matches.get_one::<String>(flag).and_then(|name| Format::from_name(name))
}

fn place_of(name: &str) -> Place {
    if name == "host" { Place::Host } else { Place::Device }
}

/// Options that ask for a flag of their own; where several strategies ask for one, it is shared.
fn option_flags(registry: &Registry) -> Vec<Arg> {
    let mut arguments: Vec<Arg> = Vec::new();
    for (kind, _, option, name) in flagged_options(registry) {
        if arguments.iter().any(|a| a.get_id() == name) {
            continue;
        }
        let owners = flagged_options(registry).filter(|other| (other.0, other.3) == (kind, name));
        let owners: Vec<&str> = owners.map(|(_, strategy, ..)| strategy.id.as_str()).collect();
        let heading = format!("Options of the {} {}", kind.word(), owners.join(", "));
        let help = format!("{} [{}; default: {}]", option.doc, option.allowed(), option.default);
        let argument = Arg::new(name.to_string()).long(name.to_string()).help(help);
        let argument = match option.kind {
            // A bare `--causal_attention` means true.
            OptionKind::Bool => argument.num_args(0..=1).default_missing_value("true"),
            _ => argument.value_name(option.name.to_uppercase()),
        };
        arguments.push(argument.help_heading(heading));
    }
    arguments
}

fn flagged_options(
    registry: &Registry,
) -> impl Iterator<Item = (Kind, &Strategy, &OptionSpec, &str)> {
    [Kind::Sampler, Kind::Cache].into_iter().flat_map(move |kind| {
        registry.strategies(kind).flat_map(move |strategy| {
            let flagged = strategy.options.iter().filter_map(|o| Some((o, o.flag.as_deref()?)));
            flagged.map(move |(option, flag)| (kind, strategy, option, flag))
        })
    })
}

/// The options of strategy `id` that the user gave, by `--sampler_option` or a flag of its own.
pub(super) fn given_options(
    registry: &Registry,
    kind: Kind,
    id: &str,
    matches: &ArgMatches,
) -> Result<OptionValues> {
    let chosen = registry.choose(kind, id, &OptionValues::new())?;
    let name = if kind == Kind::Sampler { "sampler_option" } else { "cache_option" };
    let mut options = OptionValues::new();
    for pair in matches.get_many::<String>(name).into_iter().flatten() {
        let wrong = |why: &dyn Display| Error::invalid(format!("`{name}` {pair}: {why}"));
        let (key, value) = pair.split_once('=').ok_or_else(|| wrong(&"expected NAME=VALUE"))?;
        options.extend([chosen.read_option(key, value).map_err(|error| wrong(&error))?]);
    }
    for (flag_kind, strategy, option, flag) in flagged_options(registry) {
        let Some(value) = matches.get_one::<String>(flag) else { continue };
        if flag_kind == kind && strategy.id == id {
            let read = chosen.read_option(&option.name, value);
            options.extend([read.map_err(|e| Error::invalid(format!("--{flag} {value}: {e}")))?]);
        }
    }
    Ok(options)
}

/// Refuses a strategy's own flag where the run uses neither that strategy nor another one with
/// the same flag: an option must never be silently ignored.
pub(super) fn refuse_idle_flags(
    registry: &Registry,
    matches: &ArgMatches,
    chosen: &[(Kind, &str)],
) -> Result<()> {
    let used = |flag: &str| {
        flagged_options(registry)
            .any(|(kind, strategy, _, name)| name == flag && chosen.contains(&(kind, &strategy.id)))
    };
    let idle = flagged_options(registry)
        .find(|(_, _, _, flag)| matches.get_one::<String>(flag).is_some() && !used(flag));
    match idle {
        Some((_, strategy, _, flag)) => Err(Error::invalid(format!(
            "--{flag} is an option of {}, which this run does not use",
            strategy.id
        ))),
        None => Ok(()),
    }
}
