//! Decoders that begin in the middle of a video.

use proptest::prelude::*;

use super::*;
use crate::observer::{Observer, Point};
use crate::weights::{Source, Weight};

/// Latent frames that pixels of the tiny VAEs depend on, by hand. At the rate of the pixels four
/// residual blocks of two convolutions, and one convolution out: 18 frames, which are made of 9. Before
/// that the convolution that doubles, four blocks, and one convolution in: 2 + 16 + 2.
const TINY: usize = 29;

/// Both kinds.
fn tiny_of(kind: usize) -> Vae {
    [tiny, tiny_residual][kind]()
}

/// A stream over all latents, in tiles of 2x2 latents or not.
fn stream(vae: &Vae, is_tiled: bool) -> VaeDecoder<'_> {
    let factor = vae.config().scale_factor_spatial;
    let tiling = Tiling { min: 2 * factor, stride: factor };
    if is_tiled { vae.decoder_tiled(tiling) } else { vae.decoder() }
}

/// The pixels of each latent frame from this one on, and how many frames were only seen.
fn from(decoder: VaeDecoder, latents: &Tensor, first: usize) -> (Vec<Vec<f32>>, usize) {
    let mut decoder = decoder.starting_at(first);
    let (mut pixels, mut seen) = (Vec::new(), 0);
    for frame in decoder.next_frame()..latents.dim(2).unwrap() {
        let latent = latents.narrow(2, frame, 1).unwrap();
        if decoder.only_sees() {
            decoder.see(&latent).unwrap();
            seen += 1;
        } else {
            assert!(frame >= first);
            pixels.push(numbers(&decoder.next(&latent).unwrap()));
        }
    }
    (pixels, seen)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_decoder_that_begins_in_the_middle_gives_the_bits_of_one_that_came_from_the_start(
        (kind, is_tiled) in (0..2usize, any::<bool>()),
        first in prop_oneof![0..TINY + 4, Just(1), Just(TINY), Just(TINY + 1)],
        (seed, height, width) in (0..1000u64, 1..4usize, 1..4usize),
    ) {
        let vae = tiny_of(kind);
        let latents = noise(seed, &[1, 2, first + 3, height, width]);
        let (all, _) = from(stream(&vae, is_tiled), &latents, 0);
        let (pixels, seen) = from(stream(&vae, is_tiled), &latents, first);
        prop_assert_eq!(seen, first.min(TINY));
        prop_assert!(pixels == all[first..]);
    }
}

/// Convolutions over time of which only the oldest frame counts, and residual blocks beside whose
/// convolutions their input hardly counts.
struct OldestFrame;

impl Source for OldestFrame {
    fn get(&self, name: &str, shape: &[usize]) -> crate::Result<Weight> {
        let weight = any_weights(2).get(shape, name)?;
        let scale = if name.ends_with("conv2.weight") { 32. } else { 1. };
        Ok(Weight::Dense(match *shape {
            [_, _, taps, _, _] if taps > 1 => {
                let oldest = (weight.narrow(2, 0, 1)? * scale)?;
                oldest.pad_with_zeros(2, 0, taps - 1)?.contiguous()?
            }
            _ => weight,
        }))
    }

    fn has(&self, _: &str) -> bool {
        true
    }
}

#[test]
fn pixels_depend_on_as_many_latent_frames_as_said_and_on_no_others() {
    for kind in 0..2 {
        let config = tiny_of(kind).config().clone();
        let weights = Scope::new(OldestFrame, DType::F32, &Device::Cpu);
        let vae = Vae::load(config, weights).unwrap();
        assert_eq!(vae.receptive_frames(), TINY);
        let latents = noise(1, &[1, 2, TINY + 5, 2, 2]);
        // Another frame 2, of all.
        let parts = [latents.narrow(2, 0, 2), Ok(noise(9, &[1, 2, 1, 2, 2]))];
        let parts = parts.into_iter().chain([latents.narrow(2, 3, TINY + 2)]);
        let other = Tensor::cat(&parts.map(|part| part.unwrap()).collect::<Vec<_>>(), 2).unwrap();
        let [(ours, _), (theirs, _)] = [&latents, &other].map(|x| from(vae.decoder(), x, 0));
        let last = (0..ours.len()).rev().find(|n| ours[*n] != theirs[*n]);
        assert_eq!(last, Some(2 + TINY));
    }
}

/// A published VAE with other numbers of channels, which have no part in it.
fn narrow(config: VaeConfig) -> Vae {
    let channels = config.decoder_base_dim.map(|_| 2);
    let config = VaeConfig { base_dim: 2, decoder_base_dim: channels, ..config };
    Vae::load(config, any_weights(2)).unwrap()
}

#[test]
fn the_published_vaes_look_back_as_far_as_the_documents_say() {
    for config in [VaeConfig::wan_2_1(), VaeConfig::wan_2_2()] {
        assert_eq!(narrow(config).receptive_frames(), 38);
    }
    // The VAE of the demo has a residual block less on each level.
    let demo = VaeConfig { num_res_blocks: 1, ..VaeConfig::wan_2_1() };
    assert_eq!(narrow(demo).receptive_frames(), 30);
}

/// How often each layer was run.
#[derive(Default)]
struct Counts(Vec<usize>);

impl Observer for Counts {
    fn see(&mut self, point: Point, _: &Tensor) {
        if let Point::VaeHidden(layer) = point {
            self.0.resize(self.0.len().max(layer + 1), 0);
            self.0[layer] += 1;
        }
    }
}

#[test]
fn layers_near_the_pixels_see_the_last_frames_alone() {
    let (vae, latent) = (narrow(VaeConfig::wan_2_1()), noise(1, &[1, 16, 1, 1, 1]));
    let (mut decoder, mut counts) = (vae.decoder().starting_at(50), Counts::default());
    assert_eq!(decoder.next_frame(), 50 - 38);
    while decoder.only_sees() {
        decoder.see_observed(&latent, &mut counts).unwrap();
    }
    let middle = [36, 32, 32];
    // Residual blocks, and what doubles size or frames.
    let levels = [[28, 24, 20, 16], [14, 12, 10, 8], [7, 6, 5, 4], [4, 3, 2, 0]];
    assert_eq!(counts.0, [&middle[..], &levels.concat()[..15]].concat());
}

#[test]
fn what_a_decoder_remembers_is_as_large_as_the_documents_say() {
    // Wan 2.1, 832x480: 104x60 latent pixels. All but the frames of latents grow with the channels.
    let (vae, latent) = (narrow(VaeConfig::wan_2_1()), noise(1, &[1, 16, 1, 1, 1]));
    let mut decoder = vae.decoder();
    (0..3).for_each(|_| drop(decoder.next(&latent).unwrap()));
    let latents = 2 * 16 * size_of::<f32>();
    let bytes = (decoder.held_bytes() - latents) * 96 / 2 + latents;
    assert_eq!(bytes * 104 * 60, 3_777_146_880);
}

#[test]
fn frames_that_have_to_be_seen_are_not_left_out() {
    let (vae, latent) = (tiny(), noise(1, &[1, 2, 1, 2, 2]));
    let mut decoder = vae.decoder().starting_at(3);
    let error = decoder.next(&latent).unwrap_err().to_string();
    assert!(error.contains("latent frames 0 to 2"), "{error}");
    (0..3).for_each(|_| decoder.see(&latent).unwrap());
    let error = decoder.see(&latent).unwrap_err().to_string();
    assert!(error.contains("latent frame 3"), "{error}");
    assert_eq!(decoder.next(&latent).unwrap().dim(2).unwrap(), 2);
}
