"""Trains the VAE in two stages: on single pictures, then (after `inflate_vae.py`) on clips.

Loss: L1 + L2 weighted around the object, + differences of neighbours (edges), + 2e-3 KL.
"""

import argparse
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

import architecture
from scenes import Caption, draw_clip


def batch(frames, count, rng):
    """Clips in -1..1 (count x 3 x frames x 64 x 64) and object masks (count x 1 x ...)."""
    clips, masks = zip(*(draw_clip(Caption.draw(rng), frames, 64, 64, rng) for _ in range(count)))
    clips = torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3).float() * 2 - 1
    return clips, torch.from_numpy(np.stack(masks))[:, None]


def reconstruction_loss(vae, clips, masks, object_weight):
    """The loss, and the mean squared error on a scale of 0..1."""
    near_object = F.max_pool3d(masks, (1, 9, 9), 1, (0, 4, 4))
    weight = 1 + object_weight * near_object
    weight = weight / weight.mean()
    mean, log_variance = vae._encode(clips).chunk(2, 1)
    log_variance = log_variance.clamp(-12, 4)
    latents = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
    error = vae._decode(latents, return_dict=False)[0] - clips
    weighted = error * weight
    edges = (weighted[..., 1:] - weighted[..., :-1]).abs().mean()
    edges = edges + (weighted[..., 1:, :] - weighted[..., :-1, :]).abs().mean()
    kl = 0.5 * (mean.pow(2) + log_variance.exp() - 1 - log_variance).mean()
    loss = weighted.abs().mean() + (error.pow(2) * weight).mean() + 0.5 * edges + 2e-3 * kl
    return loss, error.detach().clamp(-2, 2).pow(2).mean().item() / 4


def clips_per_step(arguments, frames):
    """About the same work in every step, however long the clips are."""
    if arguments.stage == "image":
        return arguments.batch
    return 8 if frames == 1 else max(1, arguments.batch * 9 // (2 * frames))


def train(arguments):
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    vae = architecture.new_vae()
    if arguments.weights.exists():
        vae.load_state_dict(torch.load(arguments.weights))
    optimizer = torch.optim.AdamW(
        vae.parameters(), lr=arguments.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
    )
    mean_square = None
    for step in range(arguments.steps):
        cosine = 0.5 * (1 + math.cos(math.pi * step / arguments.steps)) * 0.95 + 0.05
        for group in optimizer.param_groups:
            group["lr"] = arguments.learning_rate * min(1, (step + 1) / 50) * cosine
        lengths = [1] if arguments.stage == "image" else arguments.frames
        frames = lengths[step % len(lengths)]
        clips, masks = batch(frames, clips_per_step(arguments, frames), rng)
        loss, square = reconstruction_loss(vae, clips, masks, arguments.object_weight)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        mean_square = square if mean_square is None else 0.95 * mean_square + 0.05 * square
        if step % 20 == 0:
            print(f"{step} loss {loss.item():.4f} psnr {-10 * math.log10(mean_square):.2f} dB")
        if step % 100 == 99 or step == arguments.steps - 1:
            torch.save(vae.state_dict(), arguments.weights)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["image", "video"])
    parser.add_argument("--weights", type=pathlib.Path, default="vae.pt", help="read and written")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="pictures, or clips of 4.5 frames")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--object-weight", type=float, default=5.0)
    parser.add_argument(
        "--frames", type=int, nargs="+", default=[5, 9, 13, 17, 1], help="clip lengths in turn"
    )
    train(parser.parse_args())


if __name__ == "__main__":
    main()
