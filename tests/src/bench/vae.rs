//! Decoding by the VAE of Wan 2.1.

use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device};
use wan_model::vae::{Vae, VaeConfig};
use wan_model::weights::Scope;

use crate::random::{Form, Random, tensor};
use crate::row::{Goal, Made, Row};

/// Latent frames, rows and columns: 9 frames of 320x240.
const LATENTS: [usize; 3] = [3, 30, 40];

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("vae-f32", ("f32", DType::F32), Goal::OverTorch(0.80, 0.68)),
        row("vae-bf16", ("bf16", DType::BF16), Goal::OverTorch(0.75, 0.65)),
    ]
}

/// Published files are in f32, whatever the products are in.
fn load(compute: DType) -> Result<Vae> {
    let scope = Scope::new(Random::new(Form::F32), compute, &Device::Cpu);
    Ok(Vae::load(VaeConfig::wan_2_1(), scope)?)
}

fn row(name: &str, (format, compute): (&str, DType), goal: Goal) -> Row {
    let [frames, height, width] = LATENTS;
    Row {
        name: name.into(),
        what: format!("VAE decode 1x16x{frames}x{height}x{width}, products in {format}"),
        unit: "s",
        goal,
        peer: Some(format!("vae {format} {frames} {height} {width}")),
        make: Box::new(move || {
            let vae = load(compute)?;
            let latents = tensor(8, &[1, 16, frames, height, width])?;
            let work = Some(vae.decoding((frames, height, width)));
            let pass = move || {
                let started = Instant::now();
                vae.decode(&latents)?;
                Ok(started.elapsed().as_secs_f64())
            };
            Ok(Made { pass: Box::new(pass), work })
        }),
    }
}
