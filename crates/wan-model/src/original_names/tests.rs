//! The maps against their inverse. (The golden cases hold them against recorded names.)

use super::*;

#[test]
fn names_by_hand() {
    let one = |layout: Layout, name: &str| layout.rename(name)[0].0.clone();
    let wan = Layout::Transformer;
    assert_eq!(one(wan, "blocks.12.cross_attn.norm_k.weight"), "blocks.12.attn2.norm_k.weight");
    assert_eq!(one(wan, "blocks.0.norm3.bias"), "blocks.0.norm2.bias");
    assert_eq!(one(wan, "vace_blocks.0.modulation"), "vace_blocks.0.modulation");
    let vae = Layout::Vae21 { level: 4 };
    let step = "decoder.upsamples.11.resample.1.weight";
    assert_eq!(one(vae, step), "decoder.up_blocks.2.upsamplers.0.resample.1.weight");
    let last = "decoder.upsamples.14.residual.6.bias";
    assert_eq!(one(vae, last), "decoder.up_blocks.3.resnets.2.conv2.bias");
    let nested = "encoder.downsamples.1.downsamples.2.time_conv.bias";
    assert_eq!(one(Layout::Vae22, nested), "encoder.down_blocks.1.downsampler.time_conv.bias");
}

#[test]
fn the_length_of_a_level_is_read_from_its_names() {
    let names = ["decoder.upsamples.2.resample.1.weight", "decoder.upsamples.5.resample.1.weight"];
    assert_eq!(Layout::of(names), Layout::Vae21 { level: 3 });
    assert_eq!(Layout::of(["decoder.middle.0.residual.0.gamma"]), Layout::Vae21 { level: 4 });
    assert_eq!(Layout::of(["blocks.0.attn1.to_q.weight"]), Layout::Diffusers);
}

#[test]
fn parts_have_shapes_of_their_own() {
    assert_eq!(Part::Third(2).shape(&[9, 4]), [3, 4]);
    assert_eq!(Part::Squeezed.shape(&[1, 1, 7]), [7]);
    assert_eq!(Part::Squeezed.shape(&[1, 5, 7]), [5, 7]);
    assert_eq!(Part::Whole.shape(&[1, 5]), [1, 5]);
}
