//! The whole transformer on random weights.

use super::*;
use crate::numerics::ResidualStream;
use crate::testing::{any_weights, distance, noise, numbers, transformer};

fn tiny(inject_sample_info: bool) -> WanModel {
    WanModel::load(tiny_config(inject_sample_info), any_weights(1)).unwrap()
}

fn tiny_config(inject_sample_info: bool) -> WanConfig {
    WanConfig {
        num_attention_heads: 2,
        attention_head_dim: 8,
        in_channels: 3,
        out_channels: 2,
        text_dim: 5,
        freq_dim: 6,
        ffn_dim: 12,
        num_layers: 3,
        inject_sample_info,
        ..transformer("t2v-1.3B")
    }
}

/// A model that takes the tokens of an image, or of two with `positions` for them.
fn with_image(positions: Option<usize>) -> WanModel {
    let config = WanConfig {
        image_dim: Some(10),
        added_kv_proj_dim: Some(16),
        pos_embed_seq_len: positions,
        ..tiny_config(false)
    };
    WanModel::load(config, any_weights(1)).unwrap()
}

fn velocity(model: &WanModel, latents: &Tensor, text: &TextContext, t: &Timesteps) -> Tensor {
    let embedded = model.embed(latents, t, None).unwrap();
    let attention = Attention::Bidirectional;
    let hidden = model.blocks(0..3, &embedded.hidden, &embedded, text, attention).unwrap();
    model.head(&hidden, &embedded).unwrap()
}

#[test]
fn equal_timesteps_per_frame_give_the_bits_of_one_per_video() {
    let (model, latents) = (tiny(false), noise(1, &[1, 3, 4, 4, 6]));
    let text = model.text_context(&noise(2, &[1, 7, 5])).unwrap();
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
    let (model, latents) = (tiny(false), noise(1, &[1, 3, 2, 4, 4]));
    let text = model.text_context(&noise(2, &[1, 4, 5])).unwrap();
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
    let (model, latents) = (tiny(false), noise(1, &[1, 3, 4, 4, 4]));
    let text = model.text_context(&noise(2, &[1, 4, 5])).unwrap();
    let timesteps = Timesteps::per_frame(&[vec![0., 0., 500., 999.]]).unwrap();
    let run = |latents: &Tensor| {
        let embedded = model.embed(latents, &timesteps, None).unwrap();
        let causal = Attention::BlockCausal(2);
        let hidden = model.blocks(0..3, &embedded.hidden, &embedded, &text, causal).unwrap();
        numbers(&hidden.narrow(1, 0, 8).unwrap()) // the first two frames of 4 tokens
    };
    let start = latents.narrow(2, 0, 2).unwrap();
    let changed = Tensor::cat(&[&start, &noise(3, &[1, 3, 2, 4, 4])], 2).unwrap();
    assert_eq!(run(&latents), run(&changed));
}

#[test]
fn the_frame_rate_is_asked_for_only_where_the_model_knows_it() {
    let latents = noise(1, &[2, 3, 1, 4, 4]);
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
    let latents = noise(1, &[1, 3, 2, 4, 4]);
    assert!(model.embed(&noise(2, &[1, 4, 2, 4, 4]), &one, None).is_err());
    assert!(model.embed(&noise(3, &[1, 3, 2, 5, 4]), &one, None).is_err());
    assert!(model.embed(&noise(4, &[2, 3, 2, 4, 4]), &one, None).is_err());
    let error = model.embed(&latents, &three, None).err().unwrap().to_string();
    assert!(error.contains("1 x 1, 2 (frames) or 8 (tokens)"), "{error}");
    let embedded = model.embed(&latents, &one, None).unwrap();
    assert!(model.head(&noise(5, &[1, 7, 16]), &embedded).is_err());
    let text = model.text_context(&noise(6, &[1, 4, 5])).unwrap();
    let attention = Attention::Bidirectional;
    assert!(model.blocks(0..4, &embedded.hidden, &embedded, &text, attention).is_err());
    assert!(model.text_context(&noise(7, &[1, 4, 6])).is_err());
}

#[test]
fn image_tokens_are_attended_to_beside_the_text_whatever_their_number() {
    let (model, latents) = (with_image(None), noise(1, &[1, 3, 2, 4, 4]));
    let (text, image) = (noise(2, &[1, 7, 5]), noise(3, &[1, 4, 10]));
    let timesteps = Timesteps::per_video(&[500.]).unwrap();
    let run = |text: &Tensor, image: &Tensor| {
        let context = model.context(text, Some(image)).unwrap();
        numbers(&velocity(&model, &latents, &context, &timesteps))
    };
    let whole = run(&text, &image);
    let context = model.context(&text, Some(&image)).unwrap();
    assert_eq!(context.image().unwrap().dims(), [1, 4, 16]);
    // Tokens twice over weigh the same in each softmax, so neither attention saw the other's.
    for (text, image) in [
        (Tensor::cat(&[&text, &text], 1), image.copy()),
        (text.copy(), Tensor::cat(&[&image; 2], 1)),
    ] {
        let twice = run(&text.unwrap(), &image.unwrap());
        assert!(whole.iter().zip(&twice).all(|(a, b)| (a - b).abs() < 1e-5));
    }
    let other = run(&text, &noise(4, &[1, 4, 10]));
    assert!(whole.iter().zip(&other).any(|(a, b)| (a - b).abs() > 1e-3));
}

#[test]
fn two_images_are_joined_and_told_apart_by_position() {
    let model = with_image(Some(6));
    let (text, images) = (noise(1, &[2, 4, 5]), noise(2, &[4, 3, 10]));
    let context = model.context(&text, Some(&images)).unwrap();
    let joined = context.image().unwrap();
    assert_eq!(joined.dims(), [2, 6, 16]);
    // The second video's images are rows 2 and 3.
    let second =
        model.context(&text.narrow(0, 1, 1).unwrap(), Some(&images.narrow(0, 2, 2).unwrap()));
    let second = second.unwrap();
    assert_eq!(numbers(&joined.narrow(0, 1, 1).unwrap()), numbers(second.image().unwrap()));
    let one = images.narrow(0, 0, 1).unwrap();
    let same = Tensor::cat(&[&one, &one], 0).unwrap();
    let same = model.context(&text.narrow(0, 0, 1).unwrap(), Some(&same)).unwrap();
    let halves = [0, 3].map(|start| numbers(&same.image().unwrap().narrow(1, start, 3).unwrap()));
    assert_ne!(halves[0], halves[1]);
}

#[test]
fn an_image_is_asked_for_only_where_the_model_takes_one() {
    let text = noise(1, &[1, 4, 5]);
    let image = |shape: [usize; 3]| noise(2, &shape);
    let (one, two) = (with_image(None), with_image(Some(6)));
    assert!(one.text_context(&text).unwrap_err().to_string().contains("image_embeds"));
    assert!(tiny(false).context(&text, Some(&image([1, 3, 10]))).is_err());
    assert!(one.context(&text, Some(&image([1, 3, 9]))).is_err());
    assert!(one.context(&text, Some(&image([2, 3, 10]))).is_err());
    let error = two.context(&text, Some(&image([2, 4, 10]))).unwrap_err().to_string();
    assert!(error.contains("[2,3,10]") && error.contains("[2, 4, 10]"), "{error}");
    let odd = WanConfig { added_kv_proj_dim: Some(7), ..one.config().clone() };
    assert!(odd.check().unwrap_err().to_string().contains("added_kv_proj_dim: 16"));
}

/// What a run of 800 tokens shows someone who looks.
#[derive(Default)]
struct Shapes(Vec<(Point, Vec<usize>)>);

impl Observer for Shapes {
    fn see(&mut self, point: Point, tensor: &Tensor) {
        self.0.push((point, tensor.dims().to_vec()));
    }
}

#[test]
fn runs_of_tokens_make_one_video_however_long_they_are() {
    let (model, latents) = (tiny(false), noise(1, &[1, 3, 4, 20, 40]));
    let text = noise(2, &[1, 7, 5]);
    let levels = vec![900., 0., 300., 0.];
    let forward = |latents: &Tensor, text: &Tensor, levels: &[Vec<f64>], see: &mut dyn Observer| {
        let text = model.text_context(text).unwrap();
        let embedded = model.embed(latents, &Timesteps::per_frame(levels).unwrap(), None).unwrap();
        let (hidden, causal) = (&embedded.hidden, Attention::BlockCausal(2));
        let mut observed = model.observed(see);
        let hidden = observed.blocks(0..3, hidden, &embedded, &text, causal).unwrap();
        observed.head(&hidden, &embedded).unwrap()
    };
    // 800 tokens in two runs of 400; two videos of 800 in runs of 200 each.
    let alone = forward(&latents, &text, std::slice::from_ref(&levels), &mut ());
    let twice = |x: &Tensor| Tensor::cat(&[x, x], 0).unwrap();
    let both = forward(&twice(&latents), &twice(&text), &[levels.clone(), levels.clone()], &mut ());
    for video in 0..2 {
        assert!(distance(&both.narrow(0, video, 1).unwrap(), &alone) < 1e-5);
    }
    let mut shapes = Shapes::default();
    let observed = forward(&latents, &text, &[levels], &mut shapes);
    assert_eq!(numbers(&observed), numbers(&alone));
    assert_eq!(shapes.0.len(), 3 * 8 + 2);
    assert!(
        shapes.0.iter().all(|(_, shape)| shape[..2] == [1, 800]),
        "{shapes:?}",
        shapes = shapes.0
    );
    assert_eq!(shapes.0[7].0, Point::Block(0, crate::BlockPoint::Out));
}

#[test]
fn half_precision_hands_on_the_stream_it_was_told_to() {
    let latents = noise(1, &[1, 3, 2, 4, 4]);
    let timesteps = Timesteps::per_video(&[500.]).unwrap();
    for compute in [DType::BF16, DType::F16] {
        for (stream, dtype) in
            [(ResidualStream::F32, DType::F32), (ResidualStream::Compute, compute)]
        {
            let numerics = Numerics { compute, stream };
            let model = WanModel::load_with(tiny_config(false), any_weights(1), numerics).unwrap();
            let text = model.text_context(&noise(2, &[1, 7, 5])).unwrap();
            let embedded = model.embed(&latents, &timesteps, None).unwrap();
            assert_eq!((embedded.hidden.dtype(), embedded.e0.rows().dtype()), (dtype, DType::F32));
            let attention = Attention::Bidirectional;
            let after = model.blocks(0..3, &embedded.hidden, &embedded, &text, attention).unwrap();
            assert_eq!((&after - &embedded.hidden).unwrap().dtype(), dtype);
            assert_eq!(model.head(&after, &embedded).unwrap().dtype(), DType::F32);
        }
    }
    let doubles = Numerics { compute: DType::F64, ..Numerics::default() };
    let error = WanModel::load_with(tiny_config(false), any_weights(1), doubles).err().unwrap();
    assert!(error.to_string().contains("f32, bf16 or f16"), "{error}");
}

/// What the f32 stream is for: a sum over blocks loses digits in half precision.
#[test]
fn with_the_f32_stream_half_precision_is_nearer_to_f32() {
    let config = WanConfig { num_layers: 12, ..tiny_config(false) };
    let (latents, timesteps) = (noise(1, &[1, 3, 2, 4, 4]), Timesteps::per_video(&[500.]).unwrap());
    let run = |compute, stream| {
        let numerics = Numerics { compute, stream };
        let model = WanModel::load_with(config.clone(), any_weights(1), numerics).unwrap();
        let text = model.text_context(&noise(2, &[1, 7, 5])).unwrap();
        let embedded = model.embed(&latents, &timesteps, None).unwrap();
        let hidden = &embedded.hidden;
        let after = model.blocks(0..12, hidden, &embedded, &text, Attention::Bidirectional);
        model.head(&after.unwrap(), &embedded).unwrap()
    };
    let exact = run(DType::F32, ResidualStream::F32);
    let squares = |half: &Tensor| {
        numbers(half).iter().zip(numbers(&exact)).map(|(a, b)| (a - b).powi(2)).sum::<f32>()
    };
    for compute in [DType::BF16, DType::F16] {
        let [wide, narrow] =
            [ResidualStream::F32, ResidualStream::Compute].map(|s| squares(&run(compute, s)));
        assert!(wide > 0. && wide < narrow, "{compute:?}: {wide} and {narrow}");
    }
}
