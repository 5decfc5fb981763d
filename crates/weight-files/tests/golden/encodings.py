"""Writes encodings.safetensors: random blocks of every type of ggml, and their numbers.

python3 -m venv V && V/bin/pip install gguf==0.19.0 numpy safetensors && V/bin/python encodings.py

NAME.bytes holds the blocks (U8), NAME.numbers what gguf.quants.dequantize makes of them (F32). Bits
are random but for the first blocks' scales, which are zero, the smallest subnormal, negative, and
infinite.
"""
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize
from safetensors.numpy import save_file

SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_XS": [0],
}
SPECIAL = [0x0000, 0x0001, 0xB123, 0x7C00]

rng = np.random.default_rng(20)
tensors = {}
for name, places in SCALES.items():
    block, size = GGML_QUANT_SIZES[Type[name]]
    count = 24 if block == 32 else 8
    rows = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for place in places:
        for row in rows:  # Finite, unless meant: an exponent of all ones loses its highest bit.
            if row[place + 1] & 0x7C == 0x7C:
                row[place + 1] &= 0xBF
        for row, bits in zip(rows, SPECIAL):
            row[place : place + 2] = np.frombuffer(np.uint16(bits).tobytes(), np.uint8)
    tensors[f"{name}.bytes"] = rows
    tensors[f"{name}.numbers"] = dequantize(rows, Type[name]).astype(np.float32)
save_file(tensors, Path(__file__).with_name("encodings.safetensors"))
