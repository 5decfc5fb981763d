//! Names as they were published, against the names that the loaders ask for, by hand.

use wan_model::original_names::{Layout, Part};

#[track_caller]
fn check(layout: Layout, names: &[(&str, &str)]) {
    for (original, ours) in names {
        assert_eq!(layout.rename(original), [(ours.to_string(), Part::Whole)], "{original}");
    }
}

#[test]
fn of_the_transformer() {
    check(
        Layout::Transformer,
        &[
            ("patch_embedding.weight", "patch_embedding.weight"),
            ("text_embedding.0.weight", "condition_embedder.text_embedder.linear_1.weight"),
            ("text_embedding.2.bias", "condition_embedder.text_embedder.linear_2.bias"),
            ("time_embedding.0.bias", "condition_embedder.time_embedder.linear_1.bias"),
            ("time_embedding.2.weight", "condition_embedder.time_embedder.linear_2.weight"),
            ("time_projection.1.weight", "condition_embedder.time_proj.weight"),
            ("img_emb.proj.0.weight", "condition_embedder.image_embedder.norm1.weight"),
            ("img_emb.proj.1.bias", "condition_embedder.image_embedder.ff.net.0.proj.bias"),
            ("img_emb.proj.3.weight", "condition_embedder.image_embedder.ff.net.2.weight"),
            ("img_emb.proj.4.bias", "condition_embedder.image_embedder.norm2.bias"),
            ("img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"),
            ("fps_embedding.weight", "fps_embedding.weight"),
            ("fps_projection.0.weight", "fps_projection.net.0.proj.weight"),
            ("fps_projection.2.bias", "fps_projection.net.2.bias"),
            ("head.head.weight", "proj_out.weight"),
            ("head.modulation", "scale_shift_table"),
            ("blocks.39.modulation", "blocks.39.scale_shift_table"),
            ("blocks.0.norm3.weight", "blocks.0.norm2.weight"),
            ("blocks.3.self_attn.q.weight", "blocks.3.attn1.to_q.weight"),
            ("blocks.3.self_attn.k.bias", "blocks.3.attn1.to_k.bias"),
            ("blocks.3.self_attn.v.weight", "blocks.3.attn1.to_v.weight"),
            ("blocks.3.self_attn.o.bias", "blocks.3.attn1.to_out.0.bias"),
            ("blocks.3.self_attn.norm_q.weight", "blocks.3.attn1.norm_q.weight"),
            ("blocks.3.self_attn.norm_k.weight", "blocks.3.attn1.norm_k.weight"),
            ("blocks.10.cross_attn.q.weight", "blocks.10.attn2.to_q.weight"),
            ("blocks.10.cross_attn.k.bias", "blocks.10.attn2.to_k.bias"),
            ("blocks.10.cross_attn.v.weight", "blocks.10.attn2.to_v.weight"),
            ("blocks.10.cross_attn.o.bias", "blocks.10.attn2.to_out.0.bias"),
            ("blocks.10.cross_attn.norm_q.weight", "blocks.10.attn2.norm_q.weight"),
            ("blocks.10.cross_attn.k_img.weight", "blocks.10.attn2.add_k_proj.weight"),
            ("blocks.10.cross_attn.v_img.bias", "blocks.10.attn2.add_v_proj.bias"),
            ("blocks.10.cross_attn.norm_k_img.weight", "blocks.10.attn2.norm_added_k.weight"),
            ("blocks.1.ffn.0.weight", "blocks.1.ffn.net.0.proj.weight"),
            ("blocks.1.ffn.2.bias", "blocks.1.ffn.net.2.bias"),
            ("blocks.x.ffn.2.bias", "blocks.x.ffn.2.bias"),
        ],
    );
}

#[test]
fn of_both_vaes() {
    let coders = [
        ("conv1.weight", "quant_conv.weight"),
        ("conv2.bias", "post_quant_conv.bias"),
        ("encoder.conv1.weight", "encoder.conv_in.weight"),
        ("encoder.head.0.gamma", "encoder.norm_out.gamma"),
        ("decoder.head.2.bias", "decoder.conv_out.bias"),
        ("encoder.middle.0.residual.0.gamma", "encoder.mid_block.resnets.0.norm1.gamma"),
        ("encoder.middle.1.to_qkv.weight", "encoder.mid_block.attentions.0.to_qkv.weight"),
        ("decoder.middle.1.norm.gamma", "decoder.mid_block.attentions.0.norm.gamma"),
        ("decoder.middle.2.residual.3.gamma", "decoder.mid_block.resnets.1.norm2.gamma"),
        ("other.conv1.weight", "other.conv1.weight"),
    ];
    let flat = Layout::Vae21 { level: 4 };
    check(flat, &coders);
    check(Layout::Vae22, &coders);
    check(
        flat,
        &[
            ("encoder.downsamples.0.residual.2.weight", "encoder.down_blocks.0.conv1.weight"),
            ("encoder.downsamples.3.shortcut.bias", "encoder.down_blocks.3.conv_shortcut.bias"),
            ("encoder.downsamples.5.time_conv.bias", "encoder.down_blocks.5.time_conv.bias"),
            ("encoder.downsamples.2.resample.1.bias", "encoder.down_blocks.2.resample.1.bias"),
            ("decoder.upsamples.0.residual.0.gamma", "decoder.up_blocks.0.resnets.0.norm1.gamma"),
            ("decoder.upsamples.2.residual.6.bias", "decoder.up_blocks.0.resnets.2.conv2.bias"),
            (
                "decoder.upsamples.3.resample.1.weight",
                "decoder.up_blocks.0.upsamplers.0.resample.1.weight",
            ),
            (
                "decoder.upsamples.3.time_conv.bias",
                "decoder.up_blocks.0.upsamplers.0.time_conv.bias",
            ),
            (
                "decoder.upsamples.4.shortcut.weight",
                "decoder.up_blocks.1.resnets.0.conv_shortcut.weight",
            ),
        ],
    );
    check(
        Layout::Vae22,
        &[
            (
                "encoder.downsamples.2.downsamples.1.residual.2.bias",
                "encoder.down_blocks.2.resnets.1.conv1.bias",
            ),
            (
                "encoder.downsamples.0.downsamples.2.resample.1.weight",
                "encoder.down_blocks.0.downsampler.resample.1.weight",
            ),
            (
                "decoder.upsamples.1.upsamples.3.time_conv.weight",
                "decoder.up_blocks.1.upsampler.time_conv.weight",
            ),
            (
                "decoder.upsamples.3.upsamples.0.shortcut.bias",
                "decoder.up_blocks.3.resnets.0.conv_shortcut.bias",
            ),
        ],
    );
}

#[test]
fn of_the_text_encoder() {
    let attention = "encoder.block.23.layer.0.SelfAttention";
    let fed = "encoder.block.23.layer.1.DenseReluDense";
    let ours = |layer: &str, rest: &str| format!("{layer}.{rest}");
    for (original, expected) in [
        ("token_embedding.weight", "shared.weight".to_owned()),
        ("norm.weight", "encoder.final_layer_norm.weight".to_owned()),
        ("blocks.23.attn.q.weight", ours(attention, "q.weight")),
        ("blocks.23.attn.k.weight", ours(attention, "k.weight")),
        ("blocks.23.attn.v.weight", ours(attention, "v.weight")),
        ("blocks.23.attn.o.weight", ours(attention, "o.weight")),
        (
            "blocks.23.pos_embedding.embedding.weight",
            ours(attention, "relative_attention_bias.weight"),
        ),
        ("blocks.23.norm1.weight", "encoder.block.23.layer.0.layer_norm.weight".to_owned()),
        ("blocks.23.norm2.weight", "encoder.block.23.layer.1.layer_norm.weight".to_owned()),
        ("blocks.23.ffn.gate.0.weight", ours(fed, "wi_0.weight")),
        ("blocks.23.ffn.fc1.weight", ours(fed, "wi_1.weight")),
        ("blocks.23.ffn.fc2.weight", ours(fed, "wo.weight")),
    ] {
        check(Layout::TextEncoder, &[(original, &expected)]);
    }
}

#[test]
fn of_the_image_encoder() {
    let layer = "vision_model.encoder.layers.31";
    for (original, ours) in [
        ("visual.patch_embedding.weight", "vision_model.embeddings.patch_embedding.weight".into()),
        ("visual.pre_norm.bias", "vision_model.pre_layrnorm.bias".to_owned()),
        ("visual.post_norm.weight", "vision_model.post_layernorm.weight".to_owned()),
        ("visual.transformer.31.attn.proj.bias", format!("{layer}.self_attn.out_proj.bias")),
        ("visual.transformer.31.norm1.weight", format!("{layer}.layer_norm1.weight")),
        ("visual.transformer.31.norm2.bias", format!("{layer}.layer_norm2.bias")),
        ("visual.transformer.31.mlp.0.weight", format!("{layer}.mlp.fc1.weight")),
        ("visual.transformer.31.mlp.2.bias", format!("{layer}.mlp.fc2.bias")),
        ("textual.token_embedding.weight", "textual.token_embedding.weight".to_owned()),
    ] {
        check(Layout::ImageEncoder, &[(original, &ours)]);
    }
    let squeezed = |original: &str| Layout::ImageEncoder.rename(original);
    let class = "vision_model.embeddings.class_embedding".to_owned();
    assert_eq!(squeezed("visual.cls_embedding"), [(class, Part::Squeezed)]);
    let places = "vision_model.embeddings.position_embedding.weight".to_owned();
    assert_eq!(squeezed("visual.pos_embedding"), [(places, Part::Squeezed)]);
    let thirds = Layout::ImageEncoder.rename("visual.transformer.31.attn.to_qkv.bias");
    let third = |letter: &str, part| (format!("{layer}.self_attn.{letter}_proj.bias"), part);
    let expected =
        [third("q", Part::Third(0)), third("k", Part::Third(1)), third("v", Part::Third(2))];
    assert_eq!(thirds, expected);
}

#[test]
fn of_the_image_encoder_of_transformers_5() {
    for name in [
        "embeddings.class_embedding",
        "embeddings.patch_embedding.weight",
        "pre_layrnorm.bias",
        "post_layernorm.weight",
        "encoder.layers.31.self_attn.q_proj.weight",
    ] {
        check(Layout::VisionModel, &[(name, &format!("vision_model.{name}"))]);
    }
    check(Layout::VisionModel, &[("visual_projection.weight", "visual_projection.weight")]);
}

#[test]
fn one_name_of_a_layout_tells_it() {
    for (name, layout) in [
        ("head.modulation", Layout::Transformer),
        ("blocks.0.self_attn.q.weight", Layout::Transformer),
        ("decoder.upsamples.0.upsamples.0.residual.0.gamma", Layout::Vae22),
        ("encoder.downsamples.0.downsamples.0.residual.0.gamma", Layout::Vae22),
        ("decoder.upsamples.3.resample.1.weight", Layout::Vae21 { level: 4 }),
        ("decoder.middle.0.residual.0.gamma", Layout::Vae21 { level: 4 }),
        ("token_embedding.weight", Layout::TextEncoder),
        ("blocks.0.attn.q.weight", Layout::TextEncoder),
        ("visual.transformer.0.norm1.weight", Layout::ImageEncoder),
        ("visual.cls_embedding", Layout::ImageEncoder),
        ("embeddings.class_embedding", Layout::VisionModel),
        ("blocks.0.attn1.to_q.weight", Layout::Diffusers),
        ("encoder.block.0.layer.0.layer_norm.weight", Layout::Diffusers),
    ] {
        assert_eq!(Layout::of(["unknown", name]), layout, "{name}");
    }
    assert_eq!(Layout::recognised(["unknown"]), None);
    let llama = Layout::recognised(["enc.blk.0.attn_q.weight"]);
    assert_eq!(llama, Some(Layout::LlamaTextEncoder));
}

#[test]
fn of_a_text_encoder_in_gguf() {
    let layer = "encoder.block.3.layer.";
    let q = format!("{layer}0.SelfAttention.q.weight");
    let bias = format!("{layer}0.SelfAttention.relative_attention_bias.weight");
    let norm = format!("{layer}0.layer_norm.weight");
    let down = format!("{layer}1.DenseReluDense.wo.weight");
    check(
        Layout::LlamaTextEncoder,
        &[
            ("token_embd.weight", "shared.weight"),
            ("enc.output_norm.weight", "encoder.final_layer_norm.weight"),
            ("enc.blk.3.attn_q.weight", &q),
            ("enc.blk.3.attn_rel_b.weight", &bias),
            ("enc.blk.3.attn_norm.weight", &norm),
            ("enc.blk.3.ffn_down.weight", &down),
        ],
    );
}
