"""Writes small.gguf with the gguf package, and the numbers of its tensors as small.safetensors.

python3 -m venv V && V/bin/pip install gguf==0.19.0 numpy safetensors && V/bin/python small_gguf.py
"""
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFValueType, GGUFWriter
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

here = Path(__file__)
writer = GGUFWriter(here.with_name("small.gguf"), "wan")
writer.add_quantization_version(2)
writer.add_file_type(7)
writer.add_array("tokenizer.ggml.tokens", [f"token {i}" for i in range(300)])
writer.add_array("tokenizer.ggml.scores", [0.5] * 300)
writer.add_float32("scale", 0.25)
writer.add_bool("flag", True)
writer.add_int8("minus", -3)
writer.add_string("words", "größer than 1024 bytes: " + "é" * 1000)
writer.add_key_value(
    "comfy.gguf.orig_shape.folded.weight", [2, 1, 16], GGUFValueType.ARRAY, GGUFValueType.INT32
)

rng = np.random.default_rng(21)
numbers = {}


def add(name, shape, kind):
    tensor = rng.standard_normal(shape).astype(np.float32)
    if kind == Type.F32:
        writer.add_tensor(name, tensor)
    elif kind == Type.F16:
        tensor = tensor.astype(np.float16).astype(np.float32)
        writer.add_tensor(name, tensor.astype(np.float16))
    else:
        stored = quantize(tensor, kind)
        tensor = dequantize(stored, kind)
        writer.add_tensor(name, stored, raw_dtype=kind)
    numbers[name] = tensor


add("patch_embedding.weight", (3, 2, 1, 2, 2), Type.F32)
add("folded.weight", (4, 8), Type.F16)
add("blocks.0.q.weight", (3, 64), Type.Q8_0)
add("blocks.0.k.weight", (2, 64), Type.BF16)
add("norm.weight", (5,), Type.F32)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
numbers["folded.weight"] = numbers["folded.weight"].reshape(2, 1, 16)
save_file(numbers, here.with_name("small.safetensors"))
