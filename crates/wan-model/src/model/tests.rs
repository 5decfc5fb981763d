//! The whole transformer on random weights.

use super::*;
use crate::testing::{any_weights, noise, numbers};

fn tiny(inject_sample_info: bool) -> WanModel {
    let config = WanConfig {
        num_attention_heads: 2,
        attention_head_dim: 8,
        in_channels: 3,
        out_channels: 2,
        text_dim: 5,
        freq_dim: 6,
        ffn_dim: 12,
        num_layers: 3,
        inject_sample_info,
        ..WanConfig::t2v_1_3b()
    };
    WanModel::load(config, any_weights()).unwrap()
}

fn velocity(model: &WanModel, latents: &Tensor, text: &TextContext, t: &Timesteps) -> Tensor {
    let embedded = model.embed(latents, t, None).unwrap();
    let attention = Attention::Bidirectional;
    let hidden = model.blocks(0..3, &embedded.hidden, &embedded, text, attention).unwrap();
    model.head(&hidden, &embedded).unwrap()
}

#[test]
fn equal_timesteps_per_frame_give_the_bits_of_one_per_video() {
    let (model, latents) = (tiny(false), noise(&[1, 3, 4, 4, 6]));
    let text = model.text_context(&noise(&[1, 7, 5])).unwrap();
    let per_video = Timesteps::per_video(&[321.]).unwrap();
    let per_frame = Timesteps::per_frame(&[vec![321.; 4]]).unwrap();
    let whole = velocity(&model, &latents, &text, &per_video);
    assert_eq!(whole.dims(), [1, 2, 4, 4, 6]);
    assert_eq!(numbers(&whole), numbers(&velocity(&model, &latents, &text, &per_frame)));
    let other = Timesteps::per_frame(&[vec![321., 321., 321., 0.]]).unwrap();
    assert_ne!(numbers(&whole), numbers(&velocity(&model, &latents, &text, &other)));
}

#[test]
fn blocks_in_two_ranges_are_the_blocks_in_one() {
    let (model, latents) = (tiny(false), noise(&[1, 3, 2, 4, 4]));
    let text = model.text_context(&noise(&[1, 4, 5])).unwrap();
    let timesteps = Timesteps::per_frame(&[vec![900., 0.]]).unwrap();
    let embedded = model.embed(&latents, &timesteps, None).unwrap();
    let run = |range, hidden: &Tensor| {
        model.blocks(range, hidden, &embedded, &text, Attention::BlockCausal(2)).unwrap()
    };
    let whole = run(0..3, &embedded.hidden);
    let parts = run(1..3, &run(0..1, &embedded.hidden));
    assert_eq!(numbers(&whole), numbers(&parts));
    assert_eq!(numbers(&run(2..2, &whole)), numbers(&whole));
    assert_eq!((embedded.e0.distinct(), embedded.e0.bytes()), (2, 2 * 6 * 16 * 4));
}

#[test]
fn block_causal_frames_do_not_see_later_blocks() {
    let (model, latents) = (tiny(false), noise(&[1, 3, 4, 4, 4]));
    let text = model.text_context(&noise(&[1, 4, 5])).unwrap();
    let timesteps = Timesteps::per_frame(&[vec![0., 0., 500., 999.]]).unwrap();
    let run = |latents: &Tensor| {
        let embedded = model.embed(latents, &timesteps, None).unwrap();
        let causal = Attention::BlockCausal(2);
        let hidden = model.blocks(0..3, &embedded.hidden, &embedded, &text, causal).unwrap();
        numbers(&hidden.narrow(1, 0, 8).unwrap()) // the first two frames of 4 tokens
    };
    let start = latents.narrow(2, 0, 2).unwrap();
    let changed = Tensor::cat(&[&start, &noise(&[1, 3, 2, 4, 4])], 2).unwrap();
    assert_eq!(run(&latents), run(&changed));
}

#[test]
fn the_frame_rate_is_asked_for_only_where_the_model_knows_it() {
    let latents = noise(&[2, 3, 1, 4, 4]);
    let timesteps = Timesteps::per_video(&[1., 2.]).unwrap();
    let (with, without) = (tiny(true), tiny(false));
    assert!(with.embed(&latents, &timesteps, Some(&[0, 1])).is_ok());
    for classes in [None, Some([0].as_slice()), Some([0, 2].as_slice())] {
        assert!(with.embed(&latents, &timesteps, classes).is_err(), "{classes:?}");
    }
    assert!(without.embed(&latents, &timesteps, Some(&[0, 1])).is_err());
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let model = tiny(false);
    let one = Timesteps::per_video(&[1.]).unwrap();
    let three = Timesteps::per_frame(&[vec![1.; 3]]).unwrap();
    let latents = noise(&[1, 3, 2, 4, 4]);
    assert!(model.embed(&noise(&[1, 4, 2, 4, 4]), &one, None).is_err());
    assert!(model.embed(&noise(&[1, 3, 2, 5, 4]), &one, None).is_err());
    assert!(model.embed(&noise(&[2, 3, 2, 4, 4]), &one, None).is_err());
    let error = model.embed(&latents, &three, None).err().unwrap().to_string();
    assert!(error.contains("1 x 1, 2 (frames) or 8 (tokens)"), "{error}");
    let embedded = model.embed(&latents, &one, None).unwrap();
    assert!(model.head(&noise(&[1, 7, 16]), &embedded).is_err());
    let text = model.text_context(&noise(&[1, 4, 5])).unwrap();
    let attention = Attention::Bidirectional;
    assert!(model.blocks(0..4, &embedded.hidden, &embedded, &text, attention).is_err());
    assert!(model.text_context(&noise(&[1, 4, 6])).is_err());
}
