"""Loads the folders that `wan convert` writes in diffusers and transformers. See README.md."""

import argparse
import pathlib
import subprocess
import tempfile

import diffusers
import numpy as np
import torch
import transformers
from check import FORWARD, Checks, error, load, read_safetensors
from safetensors.torch import save_file

PARTS = ["transformer", "transformer_2", "vae", "text_encoder", "image_encoder"]
# Ways to a folder: what is written on the way, by flags of `wan convert`.
WAYS = {
    "at once": None,
    "by Wan's names": ("wan.safetensors", ["--layout", "wan"]),
    "by GGUF": ("x.gguf", ["--dtype", "f32"]),
}


def tiny_models():
    """Models of every kind that diffusers and transformers make themselves, a few numbers wide."""
    wan = {
        "num_attention_heads": 2, "attention_head_dim": 12, "text_dim": 32, "freq_dim": 16,
        "ffn_dim": 40, "num_layers": 2, "patch_size": (1, 2, 2),
    }  # fmt: skip
    image = {"in_channels": 36, "image_dim": 48, "added_kv_proj_dim": 24}
    vae = {"base_dim": 8, "num_res_blocks": 1, "z_dim": 16}
    vae_22 = {
        "base_dim": 8, "decoder_base_dim": 12, "num_res_blocks": 1, "z_dim": 48, "in_channels": 12,
        "out_channels": 12, "patch_size": 2, "is_residual": True, "scale_factor_spatial": 16,
        "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
    }  # fmt: skip
    umt5 = {
        "vocab_size": 300, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4,
    }  # fmt: skip
    clip = {
        "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "image_size": 28, "patch_size": 14, "hidden_act": "gelu",
    }  # fmt: skip
    torch.manual_seed(1)
    return {
        "wan-t2v": ("transformer", diffusers.WanTransformer3DModel(**wan)),
        "wan-i2v": ("transformer", diffusers.WanTransformer3DModel(**wan, **image)),
        "vae-2.1": ("vae", diffusers.AutoencoderKLWan(**vae)),
        "vae-2.2": ("vae", diffusers.AutoencoderKLWan(**vae_22)),
        "umt5": ("text_encoder", transformers.UMT5EncoderModel(transformers.UMT5Config(**umt5))),
        "clip": (
            "image_encoder",
            transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**clip)),
        ),
    }


def with_other_numbers(model):
    """Fresh models have zeros and ones, with which a mistake may not be seen."""
    generator = torch.Generator().manual_seed(2)
    for weight in model.parameters():
        noise = torch.randn(weight.shape, generator=generator)
        weight.data = (weight.data + 0.05 * noise).contiguous()
    return model.eval()


def inputs_of(kind, model):
    """Inputs of a pass, by the names that diffusers and transformers give them."""
    generator = torch.Generator().manual_seed(3)

    def noise(*shape):
        return torch.randn(shape, generator=generator)

    config = model.config
    if kind == "transformer":
        inputs = {
            "hidden_states": noise(1, config.in_channels, 3, 8, 8),
            "timestep": torch.tensor([501.0]),
            # Beside a picture, diffusers takes 512 of them for words, whatever comes.
            "encoder_hidden_states": noise(1, 512, config.text_dim),
        }
        if config.image_dim:
            inputs["encoder_hidden_states_image"] = noise(1, 257, config.image_dim)
        return [inputs]
    if kind == "vae":
        side, frames = 4 * config.scale_factor_spatial, 5
        return [{"sample": noise(1, 3, frames, side, side)}, {"latents": noise(1, config.z_dim, 2, 4, 4)}]
    if kind == "text_encoder":
        ids = torch.randint(1, min(config.vocab_size, 300), (1, 12), generator=generator)
        mask = torch.ones_like(ids)
        mask[:, 9:] = 0
        return [{"input_ids": ids, "attention_mask": mask}]
    side = config.image_size
    return [{"pixel_values": noise(1, 3, side, side)}]


def passed(kind, model, inputs):
    """What comes out, by the name that `wan inspect --forward` gives it."""
    with torch.no_grad():
        if kind == "vae":
            if "latents" in inputs:
                return "out.sample", model.decode(inputs["latents"]).sample
            return "out.latents", model.encode(inputs["sample"]).latent_dist.mean
        out = model(**inputs)
        name = "sample" if kind == "transformer" else "last_hidden_state"
        return f"out.{name}", getattr(out, name)


class Folder:
    def __init__(self, name, kind, source, wan, checks):
        self.name, self.kind, self.source, self.wan, self.checks = name, kind, source, wan, checks
        self.part = ["--part", kind, "--config", source / "config.json"]

    def run(self, *words):
        command = [str(word) for word in [self.wan, *words]]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")

    def check(self, room, way):
        """Writes the folder by a way, loads it, and compares tensors and passes."""
        what = f"{self.name}, {way}"
        source, written = self.source, room / "folder"
        if WAYS[way] is not None:
            name, flags = WAYS[way]
            self.run("convert", source, *self.part, "--out", room / name, *flags)
            source = room / name
        self.run("convert", source, *self.part, "--dtype", "f32", "--out", written)
        model, report = load(self.kind, written)
        left = {key: value for key, value in report.items() if value}
        self.checks.check(not left, f"{what}: {left}")
        self.tensors(what, model)
        for number, inputs in enumerate(inputs_of(self.kind, model)):
            self.forward(f"{what}, pass {number}", room, (model, written), inputs)

    def tensors(self, what, model):
        """What is loaded has the numbers of the files that were read."""
        files = self.source.glob("*.safetensors")
        own = {name: x for file in files for name, x in read_safetensors(file).items()}
        loaded = model.state_dict()
        for name, numbers in own.items():
            # Encoders have their table under two names.
            other = {"shared.weight": "encoder.embed_tokens.weight"}.get(name)
            found = loaded.get(name, loaded.get(other))
            if found is None:
                if "position_ids" not in name:
                    self.checks.check(False, f"{what}: {name} is not loaded")
                continue
            same = np.array_equal(found.numpy(), numbers.astype(np.float32))
            self.checks.check(same, f"{what}: {name} has other numbers")

    def forward(self, what, room, models, inputs):
        """The same comes out of it there and here."""
        model, written = models
        given, out = room / "in.safetensors", room / "out.safetensors"
        save_file({f"in.{name}": x.contiguous() for name, x in inputs.items()}, given)
        self.run("inspect", written, "--part", self.kind, "--forward", given, "--out", out)
        name, expected = passed(self.kind, model, inputs)
        differs = error(read_safetensors(out)[name], expected.numpy())
        self.checks.worst = max(self.checks.worst, differs)
        self.checks.check(differs < FORWARD, f"{what}: {name} differs by {differs:.3g}")
        out.unlink()


def folders(room, models):
    """Name, kind and folder of what is checked: tiny models, and parts of whole ones."""
    for name, (kind, model) in tiny_models().items():
        folder = room / name
        with_other_numbers(model).save_pretrained(folder)
        yield name, kind, folder
    for model in models:
        for part in PARTS:
            if (model / part / "config.json").is_file():
                yield f"{model.name}/{part}", part.removesuffix("_2"), model / part


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--wan", required=True, help="the program")
    arguments.add_argument(
        "--model", type=pathlib.Path, action="append", default=[], help="a model folder too"
    )
    given = arguments.parse_args()
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, ", end="")
    print(f"transformers {transformers.__version__}")
    checks = Checks()
    checks.worst = 0.0
    with tempfile.TemporaryDirectory() as models:
        for name, kind, source in folders(pathlib.Path(models), given.model):
            before = checks.passed
            has_gguf = kind in ("transformer", "text_encoder")
            for way in [way for way in WAYS if has_gguf or way != "by GGUF"]:
                with tempfile.TemporaryDirectory() as room:
                    Folder(name, kind, source, given.wan, checks).check(pathlib.Path(room), way)
            print(f"{name:32}{checks.passed - before} checks", flush=True)
    print(f"{checks.passed} passed, {len(checks.failed)} failed; ", end="")
    print(f"passes differ by {checks.worst:.2g} at most")
    raise SystemExit(bool(checks.failed))


if __name__ == "__main__":
    main()
