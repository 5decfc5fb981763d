"""Makes a VAE of pictures a VAE of clips that starts by repeating what it knows.

After the image stage only the last tap in time of a convolution has learned; the earlier taps are
made small. The convolutions that halve or double time begin as "keep the frame" plus a little
noise.
"""

import argparse
import pathlib

import torch

import architecture


@torch.no_grad()
def inflate(vae):
    for name, module in vae.named_modules():
        if type(module).__name__ != "WanCausalConv3d":
            continue
        weight = module.weight  # out x in x time x height x width
        if "time_conv" in name:
            start_time_convolution(module)
        elif weight.shape[2] == 3:
            weight[:, :, :2].mul_(0.02)


def start_time_convolution(module):
    weight = module.weight
    out_channels, in_channels = weight.shape[:2]
    keep = torch.eye(in_channels)
    weight.zero_()
    module.bias.zero_()
    if out_channels == 2 * in_channels:  # doubles time: both frames are the one that came in
        weight[:in_channels, :, -1, 0, 0] = keep
        weight[in_channels:, :, -1, 0, 0] = keep
    else:  # halves time: the mean of two frames
        weight[:, :, 1, 0, 0] = 0.5 * keep
        weight[:, :, 2, 0, 0] = 0.5 * keep
    weight.add_(torch.randn_like(weight) * 0.01)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image_weights", type=pathlib.Path, help="from the image stage")
    parser.add_argument("video_weights", type=pathlib.Path, help="to be written")
    arguments = parser.parse_args()
    vae = architecture.new_vae()
    vae.load_state_dict(torch.load(arguments.image_weights))
    inflate(vae)
    torch.save(vae.state_dict(), arguments.video_weights)


if __name__ == "__main__":
    main()
