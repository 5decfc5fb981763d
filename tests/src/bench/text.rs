//! The text encoder, UMT5-XXL by its shape: a prompt and a negative one.

use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use wan_model::umt5::{Umt5Config, Umt5Encoder};
use wan_model::weights::Scope;
use wan_model::work;

use crate::random::{Form, Random};
use crate::row::{Goal, Made, Row};

/// Layers, of the 24 that it has.
const LAYERS: usize = 2;
/// Tokens of the prompts.
const TOKENS: [usize; 2] = [28, 53];
/// Their length with padding.
const PADDED: u32 = 512;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("text-f32", ("f32", Form::F32, DType::F32)),
        row("text-bf16", ("bf16", Form::Bf16, DType::BF16)),
    ]
}

/// Ids `[2, 512]` and their mask, as the program gives them: what is padding is not computed.
fn prompts() -> Result<(Tensor, Tensor)> {
    let rows = |of: fn(u32, bool) -> u32| {
        let row = |tokens: usize| (0..PADDED).map(move |n| of(n + 1, (n as usize) < tokens));
        let numbers: Vec<u32> = TOKENS.into_iter().flat_map(row).collect();
        Tensor::from_vec(numbers, (TOKENS.len(), PADDED as usize), &Device::Cpu)
    };
    Ok((rows(|id, is_word| if is_word { id } else { 0 })?, rows(|_, is_word| is_word.into())?))
}

fn row(name: &str, (format, form, compute): (&str, Form, DType)) -> Row {
    // Its table of words is looked up in, and takes no time.
    let config = Umt5Config { num_layers: LAYERS, vocab_size: 1000, ..Umt5Config::xxl() };
    Row {
        name: name.into(),
        what: format!("UMT5-XXL, {LAYERS} of 24 layers, {TOKENS:?} tokens, {format}"),
        unit: "s",
        goal: Goal::None,
        peer: Some(format!("text {format} {LAYERS} {} {}", TOKENS[0], TOKENS[1])),
        make: Box::new(move || {
            let scope = Scope::new(Random::new(form), compute, &Device::Cpu);
            let encoder = Umt5Encoder::load(config.clone(), scope)?;
            let [first, second] = TOKENS.map(|tokens| work::text_encoder(&config, tokens));
            let (ids, mask) = prompts()?;
            let pass = move || {
                let started = Instant::now();
                encoder.prompt_embeds(&ids, &mask)?;
                Ok(started.elapsed().as_secs_f64())
            };
            Ok(Made { pass: Box::new(pass), work: Some(first + second) })
        }),
    }
}
