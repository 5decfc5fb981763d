//! Checks a model folder against its own `reference.safetensors`, and times it.
#![allow(missing_docs)]
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use wan_model::tokenizer::PromptTokenizer;
use wan_model::umt5::Umt5Encoder;
use wan_model::vae::Vae;
use wan_model::{Attention, Timesteps, WanModel, weights};

type Any = Box<dyn std::error::Error>;

fn json<T: serde::de::DeserializeOwned>(path: PathBuf) -> Result<T, Any> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn diff(a: &Tensor, b: &Tensor) -> Result<f32, Any> {
    Ok((a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?)
}

fn main() -> Result<(), Any> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("which folder?")?);
    let device = Device::Cpu;
    let open = |file: &str| weights::open(&[folder.join(file)], DType::F32, &device);
    let start = Instant::now();
    let model = WanModel::load(
        json(folder.join("transformer/config.json"))?,
        open("transformer/diffusion_pytorch_model.safetensors")?,
    )?;
    let vae = Vae::load(
        json(folder.join("vae/config.json"))?,
        open("vae/diffusion_pytorch_model.safetensors")?,
    )?;
    let text = Umt5Encoder::load(
        json(folder.join("text_encoder/config.json"))?,
        open("text_encoder/model.safetensors")?,
    )?;
    println!("load {:?}", start.elapsed());
    let tokenizer = PromptTokenizer::from_file(&folder.join("tokenizer/tokenizer.json"))?;
    println!("{:?} unknown {:?}", tokenizer.known_words(), tokenizer.unknown_words("a big car"));
    let reference =
        candle_core::safetensors::load(Path::new(&folder).join("reference.safetensors"), &device)?;
    let mut embeds = Vec::new();
    for (name, prompt) in [
        ("prompt_embeds", "a big red ball moving right over a meadow"),
        ("negative_prompt_embeds", ""),
    ] {
        let (ids, mask) = tokenizer.encode(prompt, 16)?.tensors(&device)?;
        let ours = text.prompt_embeds(&ids, &mask)?;
        println!("{name}: max diff {:e}", diff(&ours, &reference[name])?);
        embeds.push(ours);
    }
    let start = Instant::now();
    let context = model.text_context(&embeds[0])?;
    println!("text_context {:?}", start.elapsed());
    let contexts = [context, model.text_context(&embeds[1])?];
    for (label, t) in [
        ("sync", vec![vec![500.; 9]]),
        ("async", vec![(0..9).map(|i| 100. * f64::from(i)).collect()]),
    ] {
        for attention in [Attention::Bidirectional, Attention::BlockCausal(3)] {
            let timesteps = Timesteps::per_frame(&t)?;
            let mut times = Vec::new();
            for _ in 0..12 {
                let start = Instant::now();
                let e = model.embed(&reference["noise"], &timesteps, None)?;
                let h = model.blocks(0..8, &e.hidden, &e, &contexts[0], attention)?;
                model.head(&h, &e)?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            println!(
                "forward {label} {attention:?}: best {:.1} median {:.1} ms",
                times[0], times[6]
            );
        }
    }
    // 25 Euler steps, guidance 3, shift 3.
    let start = Instant::now();
    let mut x = reference["noise"].clone();
    let sigma = |i: usize| {
        let s = 1. - i as f64 / 25.;
        3. * s / (1. + 2. * s)
    };
    for i in 0..25 {
        let timesteps = Timesteps::per_frame(&[vec![1000. * sigma(i); 9]])?;
        let mut v = Vec::new();
        for context in &contexts {
            let e = model.embed(&x, &timesteps, None)?;
            let h = model.blocks(0..8, &e.hidden, &e, context, Attention::Bidirectional)?;
            v.push(model.head(&h, &e)?);
        }
        let v = ((&v[0] * 3.)? - (&v[1] * 2.)?)?;
        x = (x + (v * (sigma(i + 1) - sigma(i)))?)?;
    }
    println!(
        "50 forwards {:?}; latents max diff {:e}",
        start.elapsed(),
        diff(&x, &reference["latents"])?
    );
    for _ in 0..3 {
        let start = Instant::now();
        let video = vae.decode(&vae.denormalise(&reference["latents"])?)?;
        let took = start.elapsed();
        let ours = ((video.squeeze(0)? + 1.)? * 127.5)?;
        let theirs = reference["video"].to_dtype(DType::F32)?;
        println!("decode {took:?}; max diff of 255 {:.3}", diff(&ours, &theirs)?);
        let start = Instant::now();
        vae.encode(&video)?;
        println!("encode {:?}", start.elapsed());
    }
    Ok(())
}
