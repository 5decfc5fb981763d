"""Trains text encoder and transformer together by diffusion forcing on latents of drawn clips.

Flow matching: x = (1 - sigma) x0 + sigma noise, the target is noise - x0, timestep = 1000 sigma,
one sigma per latent frame.
"""

import argparse
import pathlib

import numpy as np
import torch

import architecture
from captions import encode
from muon import Muon
from scenes import Caption, draw_clip

SHIFT = 3.0


@torch.no_grad()
def make_latents(arguments):
    """Draws the clips, encodes them, and normalises the latents (count x 16 x frames x 8 x 8)."""
    rng = np.random.default_rng(7)
    vae = architecture.new_vae().eval()
    vae.load_state_dict(torch.load(arguments.vae))
    latents, ids, masks = [], [], []
    for _ in range(0, arguments.clips, 8):
        captions = [Caption.draw(rng) for _ in range(8)]
        clips = np.stack([draw_clip(c, arguments.frames, 64, 64, rng)[0] for c in captions])
        clips = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float() * 2 - 1
        latents.append(vae.encode(clips).latent_dist.mean)
        for caption in captions:
            tokens, mask = encode(str(caption))
            ids.append(tokens)
            masks.append(mask)
    latents = torch.cat(latents)
    mean, std = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    by_channel = lambda values: values.view(1, -1, 1, 1, 1)
    latents = ((latents - by_channel(mean)) / by_channel(std)).half()
    return dict(
        latents=latents, ids=torch.tensor(ids), masks=torch.tensor(masks), mean=mean, std=std
    )


def draw_sigmas(count, frames):
    """Sigmas (count x frames), and which frames are a clean prefix and not to be learned.

    Half of the clips have one sigma, a quarter one per frame, a quarter a ramp as in asynchronous
    generation. A quarter of all begins with 1 to 5 clean frames, as in extension.
    """
    kind = torch.rand(count, 1)
    same = torch.sigmoid(torch.randn(count, 1)).expand(count, frames)
    independent = torch.sigmoid(torch.randn(count, frames) * 1.2)
    slope = torch.linspace(0, 1, frames)[None] * torch.rand(count, 1) * 1.5
    ramp = (torch.rand(count, 1) * 2 - 0.5 + slope).clamp(0, 1)
    sigmas = torch.where(kind > 0.5, independent, same)
    sigmas = torch.where(kind > 0.75, ramp, sigmas)
    sigmas = SHIFT * sigmas / (1 + (SHIFT - 1) * sigmas)
    prefix = torch.arange(frames)[None] < torch.randint(1, 6, (count, 1))
    prefix &= torch.rand(count, 1) < 0.25
    return sigmas.masked_fill(prefix, 0.0), prefix


def loss_of(batch, text_encoder, transformer):
    """Mean squared error of the velocity over the frames that are not a clean prefix."""
    clean, ids, mask = batch
    sigmas, prefix = (t.to(clean.device) for t in draw_sigmas(clean.shape[0], clean.shape[2]))
    noise = torch.randn_like(clean)
    sigma = sigmas[:, None, :, None, None]
    text = text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
    velocity = transformer(
        hidden_states=(1 - sigma) * clean + sigma * noise,
        timestep=sigmas * 1000,
        encoder_hidden_states=text,
        enable_diffusion_forcing=True,
        return_dict=False,
    )[0]
    counted = (~prefix).float()[:, None, :, None, None]
    per_frame = clean.shape[1] * clean.shape[3] * clean.shape[4]
    return ((velocity - (noise - clean)) ** 2 * counted).sum() / (counted.sum() * per_frame)


def draw_batch(examples, count, device):
    """Latents, token ids and masks; one caption in ten is dropped, for guidance."""
    chosen = torch.randint(0, len(examples["latents"]), (count,))
    ids, masks = examples["ids"][chosen].clone(), examples["masks"][chosen].clone()
    dropped = torch.rand(count) < 0.1
    empty_ids, empty_mask = encode("")
    ids[dropped], masks[dropped] = torch.tensor(empty_ids), torch.tensor(empty_mask)
    return examples["latents"][chosen].float().to(device), ids.to(device), masks.to(device)


def optimizers(text_encoder, transformer, arguments):
    """Muon for the matrices of the blocks, AdamW for all else; each with its learning rate."""
    named = transformer.named_parameters()
    in_blocks = [p for name, p in named if name.startswith("blocks.") and p.ndim == 2]
    taken = set(map(id, in_blocks))
    everything = [*text_encoder.parameters(), *transformer.parameters()]
    rest = [p for p in everything if id(p) not in taken]
    adam = torch.optim.AdamW(
        rest, lr=arguments.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
    )
    muon_rate = arguments.muon_learning_rate
    return [(Muon(in_blocks, muon_rate), muon_rate), (adam, arguments.learning_rate)]


def train(arguments):
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not arguments.latents.exists():
        torch.save(make_latents(arguments), arguments.latents)
    examples = torch.load(arguments.latents)
    text_encoder = architecture.new_text_encoder().to(device)
    transformer = architecture.new_transformer().to(device)
    parameters = [*text_encoder.parameters(), *transformer.parameters()]
    averages = [p.detach().clone() for p in parameters]
    both = optimizers(text_encoder, transformer, arguments)
    running_loss = None
    for step in range(arguments.steps):
        left = 1 - step / arguments.steps
        for optimizer, rate in both:
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (step + 1) / 150) * min(1, left / 0.35)
        # Two steps of full attention, one of attention in causal blocks of three latent frames.
        transformer._set_ar_attention([1, 1, 3][step % 3])
        loss = loss_of(draw_batch(examples, arguments.batch, device), text_encoder, transformer)
        transformer.zero_grad()
        text_encoder.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer, _ in both:
            optimizer.step()
        decay = min(0.9985, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_mul_(averages, decay)
            torch._foreach_add_(averages, [p.detach() for p in parameters], alpha=1 - decay)
        value = loss.item()
        running_loss = value if running_loss is None else 0.98 * running_loss + 0.02 * value
        if step % 50 == 0:
            print(f"{step} loss {running_loss:.4f}", flush=True)
    # What is kept is the moving average of the weights.
    for parameter, average in zip(parameters, averages):
        parameter.data.copy_(average)
    torch.save(
        dict(
            text_encoder=text_encoder.state_dict(), transformer=transformer.state_dict(),
            mean=examples["mean"], std=examples["std"],
        ),
        arguments.out,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", type=pathlib.Path, default="vae.pt")
    parser.add_argument("--latents", type=pathlib.Path, default="latents.pt", help="made if absent")
    parser.add_argument("--out", type=pathlib.Path, default="transformer.pt")
    parser.add_argument("--clips", type=int, default=3200)
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--steps", type=int, default=5500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--muon-learning-rate", type=float, default=0.02)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
