//! How much a pass computes, by formula, before anything is loaded.
//!
//! Operations are those of products, attention and convolutions, a multiplication and an addition
//! counted as two. Norms, activations, rotations, softmax and the time embedding are left out: they are
//! less than one in a hundred.

use std::ops::{Add, Mul};

use serde::Serialize;

use crate::config::WanConfig;
use crate::umt5::Umt5Config;

/// Floating-point operations of a pass, by the kind of kernel that does them: a machine has another speed
/// for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Products in the network's format of operands.
    pub products: u64,
    /// Products that are f32 whatever that format is.
    pub wide_products: u64,
    /// Scores and sums of attention, in the network's format of operands.
    pub attention: u64,
    /// Convolutions.
    pub convolutions: u64,
}

impl Work {
    /// All of it.
    pub fn sum(&self) -> u64 {
        let parts = [self.products, self.wide_products, self.attention, self.convolutions];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            products: self.products.saturating_add(other.products),
            wide_products: self.wide_products.saturating_add(other.wide_products),
            attention: self.attention.saturating_add(other.attention),
            convolutions: self.convolutions.saturating_add(other.convolutions),
        }
    }
}

impl Mul<u64> for Work {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self {
            products: self.products.saturating_mul(times),
            wide_products: self.wide_products.saturating_mul(times),
            attention: self.attention.saturating_mul(times),
            convolutions: self.convolutions.saturating_mul(times),
        }
    }
}

/// A product of `rows` rows with a matrix `[outputs, inputs]`.
pub(crate) fn product(rows: usize, inputs: usize, outputs: usize) -> u64 {
    [inputs, outputs].iter().fold(2 * rows as u64, |all, side| all.saturating_mul(*side as u64))
}

/// Scores of `queries` on `keys`, and the sums of their values, of heads of `width` numbers together.
pub(crate) fn attention(queries: usize, keys: usize, width: usize) -> u64 {
    product(queries, width, keys).saturating_mul(2)
}

/// An evaluation of a transformer for one video, whose tokens all see each other: from latents to
/// velocity. Keys and values of text and pictures are there already ([`context`]).
pub fn evaluation(config: &WanConfig, tokens: usize, (text, image): (usize, usize)) -> Work {
    let (dim, ffn) = (config.dim(), config.ffn_dim);
    let patch: usize = config.patch_size.iter().product();
    // Queries, keys, values and output; query and output of the prompt; the feed-forward.
    let products = 6 * product(tokens, dim, dim) + 2 * product(tokens, dim, ffn);
    let block = Work {
        products,
        attention: attention(tokens, tokens + text + image, dim),
        ..Work::default()
    };
    let ends = product(tokens, patch * config.in_channels, dim)
        + product(tokens, dim, patch * config.out_channels);
    block * config.num_layers as u64 + Work { wide_products: ends, ..Work::default() }
}

/// What a prompt of so many tokens costs once, with the tokens of its pictures: their embedding, and the
/// keys and values of every block.
pub fn context(config: &WanConfig, (text, image): (usize, usize)) -> Work {
    let dim = config.dim();
    let mut embedding = product(text, config.text_dim, dim) + product(text, dim, dim);
    if let Some(width) = config.image_dim {
        embedding += product(image, width, width) + product(image, width, dim);
    }
    let block = Work { products: 2 * product(text + image, dim, dim), ..Work::default() };
    block * config.num_layers as u64 + Work { wide_products: embedding, ..Work::default() }
}

/// A pass of the text encoder over one prompt.
pub fn text_encoder(config: &Umt5Config, tokens: usize) -> Work {
    let (width, inner) = (config.d_model, config.num_heads * config.d_kv);
    let layer = Work {
        products: 4 * product(tokens, width, inner) + 3 * product(tokens, width, config.d_ff),
        attention: attention(tokens, tokens, inner),
        ..Work::default()
    };
    layer * config.num_layers as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published::find;

    /// By hand, for 6 of 30 layers of the 1.3B (width 1536, feed-forward 8960) on 1170 tokens and a text
    /// of 512.
    #[test]
    fn the_work_of_an_evaluation_is_that_counted_by_hand() {
        let config = WanConfig { num_layers: 6, ..find("t2v-1.3B").unwrap().transformer.clone() };
        // Matrices of a block: 6 of 1536 x 1536, 2 of 1536 x 8960.
        let numbers = 6 * 2_359_296 + 2 * 13_762_560u64;
        assert_eq!(numbers, 41_680_896);
        let products = 6 * 2 * 1170 * numbers;
        // To 1170 tokens and 512 words, once for scores and once for values.
        let attention = 6 * 2 * 2 * 1170 * 1682 * 1536u64;
        // 64 numbers of a patch in and out.
        let wide_products = 2 * 2 * 1170 * 64 * 1536u64;
        let work = evaluation(&config, 1170, (512, 0));
        assert_eq!(work, Work { products, wide_products, attention, convolutions: 0 });
        assert_eq!(work.sum(), 658_205_982_720);
        let context = context(&config, (512, 0));
        assert_eq!(context.products, 6 * 2 * 2 * 512 * 2_359_296);
        assert_eq!(context.wide_products, 2 * 512 * (4096 * 1536 + 2_359_296));
    }

    #[test]
    fn the_work_of_a_prompt_is_that_counted_by_hand() {
        let config = Umt5Config { num_layers: 2, ..Umt5Config::xxl() };
        let work = text_encoder(&config, 28);
        assert_eq!(work.products, 2 * 2 * 28 * (4 * 4096 * 4096 + 3 * 4096 * 10_240));
        assert_eq!(work.attention, 2 * 2 * 2 * 28 * 28 * 4096);
    }

    #[test]
    fn work_that_no_number_holds_is_the_most_that_one_does() {
        let most = Work { products: u64::MAX, ..Work::default() };
        assert_eq!((most + most * 3).sum(), u64::MAX);
    }
}
