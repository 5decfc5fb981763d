"""The three networks of the demo model, and a faster causal convolution for training on a CPU."""

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, SkyReelsV2Transformer3DModel
from diffusers.models.autoencoders import autoencoder_kl_wan
from transformers import UMT5Config, UMT5EncoderModel

VAE = dict(
    base_dim=16, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, attn_scales=[],
    temperal_downsample=[False, True, True],  # the library's spelling
)
TEXT_ENCODER = dict(
    vocab_size=64, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0,
    feed_forward_proj="gated-gelu", is_gated_act=True, tie_word_embeddings=False,
)
TRANSFORMER = dict(
    patch_size=(1, 2, 2), num_attention_heads=6, attention_head_dim=32, in_channels=16,
    out_channels=16, text_dim=64, freq_dim=64, ffn_dim=768, num_layers=8, cross_attn_norm=True,
    qk_norm="rms_norm_across_heads", eps=1e-6, inject_sample_info=False,
)


def new_vae():
    use_fast_convolution()
    return AutoencoderKLWan(**VAE)


def new_text_encoder():
    return UMT5EncoderModel(UMT5Config(**TEXT_ENCODER))


def new_transformer():
    return SkyReelsV2Transformer3DModel(**TRANSFORMER)


def use_fast_convolution():
    """Replaces the forward of Wan's causal convolution; the results are the same."""
    autoencoder_kl_wan.WanCausalConv3d.forward = causal_convolution


def causal_convolution(self, x, cache_x=None):
    """A causal 3-D convolution as one 2-D convolution: the taps in time become channels.

    Several times faster than `conv3d` on a CPU. `x` is batch x channels x frames x height x width.
    """
    taps = self.kernel_size[0]
    pad_width, pad_height, past = self._padding[0], self._padding[2], self._padding[4]
    if cache_x is not None and past > 0:
        x = torch.cat([cache_x.to(x.device), x], 2)
        past -= cache_x.shape[2]
    if self.stride[0] != 1:
        x = F.pad(x, (pad_width, pad_width, pad_height, pad_height, max(past, 0), 0))
        return F.conv3d(x, self.weight, self.bias, self.stride)
    stride, padding = self.stride[1:], (pad_height, pad_width)
    batch, channels, frames, height, width = x.shape
    if frames == 1 and past == taps - 1:
        # All that lies before the only frame is zero: the last tap does it.
        last_tap = self.weight[:, :, -1]
        return F.conv2d(x[:, :, 0], last_tap, self.bias, stride, padding).unsqueeze(2)
    if past > 0:
        x = torch.cat([x.new_zeros(batch, channels, past, height, width), x], 2)
    out_frames = x.shape[2] - taps + 1
    shifted = torch.cat([x[:, :, tap : tap + out_frames] for tap in range(taps)], 1)
    pictures = shifted.permute(0, 2, 1, 3, 4).reshape(-1, channels * taps, height, width)
    weight = self.weight.permute(0, 2, 1, 3, 4).reshape(-1, taps * channels, *self.kernel_size[1:])
    y = F.conv2d(pictures, weight, self.bias, stride, padding)
    return y.view(batch, out_frames, *y.shape[1:]).permute(0, 2, 1, 3, 4)
