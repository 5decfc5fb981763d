"""Writes the trained weights as a diffusers folder in half precision."""

import argparse
import json
import pathlib

import torch

import architecture
from captions import LENGTH, tokenizer_json
from train_transformer import SHIFT


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


def export(arguments):
    trained = torch.load(arguments.transformer)
    vae = architecture.new_vae()
    vae.load_state_dict(torch.load(arguments.vae))
    statistics = {
        "latents_mean": [round(value, 6) for value in trained["mean"].tolist()],
        "latents_std": [round(value, 6) for value in trained["std"].tolist()],
    }
    vae.register_to_config(**statistics)
    text_encoder = architecture.new_text_encoder()
    text_encoder.load_state_dict(trained["text_encoder"])
    transformer = architecture.new_transformer()
    transformer.load_state_dict(trained["transformer"])
    folder = arguments.folder
    for name, model in (("vae", vae), ("text_encoder", text_encoder), ("transformer", transformer)):
        model.half().save_pretrained(folder / name, safe_serialization=True)
    write_json(folder / "tokenizer" / "tokenizer.json", tokenizer_json())
    scheduler = {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "shift": SHIFT,
    }
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    index = {
        "_class_name": "SkyReelsV2DiffusionForcingPipeline",
        "transformer": ["diffusers", "SkyReelsV2Transformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["tokenizers", "Tokenizer"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "max_sequence_length": LENGTH,
    }
    write_json(folder / "model_index.json", index)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="to be written")
    parser.add_argument("--vae", type=pathlib.Path, default="vae.pt")
    parser.add_argument("--transformer", type=pathlib.Path, default="transformer.pt")
    export(parser.parse_args())


if __name__ == "__main__":
    main()
