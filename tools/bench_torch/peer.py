"""Runs what `wan-bench` runs, in torch and diffusers: a request a line. See README.md."""

import argparse
import sys
import time

import diffusers
import torch
from diffusers import AutoencoderKLWan, SkyReelsV2Transformer3DModel, WanTransformer3DModel
from torch.nn.functional import scaled_dot_product_attention
from transformers import UMT5Config, UMT5EncoderModel

FORMATS = {"f32": torch.float32, "bf16": torch.bfloat16}
TEXT = 512
HEADS, HEAD = 12, 128
# Numbers that are drawn for a tensor; they are repeated to its length.
DRAWN = 1 << 16


def numbers(shape, dtype, spread=1.0, middle=0.0):
    """Random numbers from the seed 0, the same for every tensor of a length."""
    generator = torch.Generator().manual_seed(0)
    block = (torch.randn(DRAWN, generator=generator) * spread + middle).to(dtype)
    count = shape.numel() if isinstance(shape, torch.Size) else torch.Size(shape).numel()
    return block.repeat(count // DRAWN + 1)[:count].reshape(shape)


def fill(network, dtype):
    """Gives a network on no device weights that keep the size of what passes."""
    network = network.to_empty(device="cpu").to(dtype).eval()
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            weight.copy_(numbers(weight.shape, dtype, weight[0].numel() ** -0.5))
        else:
            is_norm = name.endswith("weight") or name.endswith("gamma")
            weight.copy_(numbers(weight.shape, dtype, 0.1, float(is_norm)))
    return network


def transformer(kind, dtype, layers, frames, height, width):
    is_df = kind == "df"
    with torch.device("meta"):
        network = (SkyReelsV2Transformer3DModel if is_df else WanTransformer3DModel)(
            num_attention_heads=HEADS, attention_head_dim=HEAD, ffn_dim=8960, num_layers=layers,
            in_channels=16, out_channels=16, text_dim=4096, freq_dim=256,
        )  # fmt: skip
    network = fill(network, dtype)
    # Its tables are no parameters.
    network.rope = type(network.rope)(HEAD, (1, 2, 2), 1024)
    latents = numbers((1, 16, frames, height, width), dtype)
    text = numbers((1, TEXT, 4096), dtype)
    if is_df:
        timesteps = torch.linspace(900, 100, frames).round().long()[None]
        own = {"timestep": timesteps, "enable_diffusion_forcing": True}
    else:
        own = {"timestep": torch.tensor([900])}

    def run():
        network(latents, encoder_hidden_states=text, return_dict=False, **own)

    def context():
        hidden = network.condition_embedder.text_embedder(text)
        for block in network.blocks:
            attention = block.attn2
            attention.norm_k(attention.to_k(hidden))
            attention.to_v(hidden)

    return run, context


def attention(dtype, queries, keys):
    query = numbers((1, HEADS, queries, HEAD), dtype)
    key, value = (numbers((1, HEADS, keys, HEAD), dtype) for _ in range(2))
    return lambda: scaled_dot_product_attention(query, key, value), None


def vae(dtype, frames, height, width):
    # On no device its buffers and caches would be lost; what it draws itself is good enough.
    network = AutoencoderKLWan().to(dtype).eval()
    latents = numbers((1, 16, frames, height, width), dtype)
    return lambda: network.decode(latents), None


def text(dtype, layers, *lengths):
    config = UMT5Config(
        vocab_size=1000, d_model=4096, d_kv=64, d_ff=10240, num_layers=layers, num_heads=64,
        relative_attention_num_buckets=32, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    with torch.device("meta"):
        network = UMT5EncoderModel(config)
    network = fill(network, dtype)
    prompts = [torch.arange(length)[None] + 1 for length in lengths]

    def run():
        for ids in prompts:
            network(ids, attention_mask=torch.ones_like(ids))

    return run, None


def load(kind, dtype, sizes):
    dtype, sizes = FORMATS[dtype], [int(size) for size in sizes]
    if kind in ("forward", "df"):
        return transformer(kind, dtype, *sizes)
    return {"attention": attention, "vae": vae, "text": text}[kind](dtype, *sizes)


def seconds(what):
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    torch.set_num_threads(parser.parse_args().threads)
    run = context = None
    with torch.inference_mode():
        for line in sys.stdin:
            match line.split():
                case ["load", kind, dtype, *sizes]:
                    run = context = None
                    run, context = load(kind, dtype, sizes)
                    run()
                    answer = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
                case ["run"]:
                    answer = seconds(run)
                case ["context"]:
                    answer = seconds(context)
                case _:
                    sys.exit(f"not a request: {line}")
            print(answer, flush=True)


main()
