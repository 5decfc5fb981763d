"""Opens what `wan convert` writes in the readers that people use. See README.md."""

import argparse
import hashlib
import json
import pathlib
import struct
import subprocess
import tempfile

import gguf
import ml_dtypes
import numpy as np

BLOCKS = ["Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "Q3_K", "Q2_K"]
FLOATS = ["f32", "f16", "bf16"]
# Largest error of a format that is written, over the largest number of its tensor.
STEPS = {
    "f32": 0, "f16": 2**-11, "bf16": 2**-8, "fp8": 2**-4, "Q8_0": 0.0045, "Q6_K": 2**-5,
    "Q5_K": 2**-4, "Q5_1": 0.034, "Q5_0": 2**-4, "Q4_K": 2**-3, "Q4_1": 0.068, "Q4_0": 2**-3,
    "Q3_K": 2**-2, "Q2_K": 0.6,
}  # fmt: skip
# Products and sums of three f32 numbers in another order.
SAME = 4e-7
FORWARD = 3e-5
NUMPY = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2, "I64": np.int64,
    "I32": np.int32, "I8": np.int8, "U8": np.uint8,
}  # fmt: skip


class Checks:
    def __init__(self):
        self.passed, self.failed = 0, []

    def check(self, is_so, what):
        if is_so:
            self.passed += 1
        else:
            self.failed.append(what)
            print("FAILED", what, flush=True)


def read_safetensors(path):
    """Names, formats, shapes and bytes, as the format's page describes them; no library."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, said in header.items():
        start, end = said["data_offsets"]
        numbers = np.frombuffer(raw[8 + length + start : 8 + length + end], NUMPY[said["dtype"]])
        tensors[name] = numbers.reshape(said["shape"])
    return tensors


def with_factors(tensors):
    """8-bit weights times their factors, in f32."""
    wide = {}
    for name, numbers in tensors.items():
        if name == "scaled_fp8" or name.endswith(".scale_weight"):
            continue
        factor = tensors.get(name.removesuffix("weight") + "scale_weight", np.float32(1))
        wide[name] = numbers.astype(np.float32) * np.asarray(factor, np.float32)
    return wide


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def error(found, expected):
    expected = np.asarray(expected, np.float64)
    difference = np.abs(np.asarray(found, np.float64).reshape(expected.shape) - expected).max()
    return difference / (np.abs(expected).max() or 1)


class Case:
    def __init__(self, folder, wan, checks):
        self.folder, self.wan, self.checks = folder, wan, checks
        self.said = json.loads((folder / "case.json").read_text())
        self.kind = self.said["kind"]

    def convert(self, out, source=None, **flags):
        source = source or self.folder / self.said["model"][0]
        config = self.folder / self.said["config"]
        command = [self.wan, "convert", source, "--part", self.kind, "--config", config]
        command += ["--out", out]
        for name, value in flags.items():
            command += [f"--{name}", value]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr}")
        return out

    def gguf(self, room, numbers, own):
        """Writes a GGUF file, and reads it in the package and with `wan`."""
        what = f"{self.folder.name} as {numbers} in GGUF"
        written = self.convert(room / f"{numbers}.gguf", dtype=numbers)
        again = self.convert(room / f"{numbers}-again.gguf", dtype=numbers)
        self.checks.check(sha256(written) == sha256(again), f"{what}: another file each time")
        ours = self.convert(room / "ours.safetensors", written, dtype="f32", layout="wan")
        ours = read_safetensors(ours)
        for tensor in gguf.GGUFReader(written).tensors:
            theirs = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            shape = tuple(int(axis) for axis in reversed(tensor.shape))
            name = self.wan_name(tensor.name)
            if name not in ours:
                self.checks.check(False, f"{what}: {tensor.name} is not among ours")
                continue
            self.checks.check(ours[name].size == theirs.size, f"{what}: {name} has shape {shape}")
            differs = error(ours[name], theirs)
            self.checks.check(differs <= SAME, f"{what}: {name} differs by {differs:.3g}")
            step = error(theirs, own[name])
            self.checks.check(
                step <= STEPS[numbers], f"{what}: {name} is {step:.3g} from what was read"
            )

    def wan_name(self, name):
        if self.kind != "text_encoder":
            return name
        for theirs, ours in [
            ("token_embd.", "token_embedding."), ("enc.output_norm.", "norm."),
            ("enc.blk.", "blocks."), ("attn_rel_b.", "pos_embedding.embedding."),
            ("attn_norm.", "norm1."), ("ffn_norm.", "norm2."), ("attn_", "attn."),
            ("ffn_gate.", "ffn.gate.0."), ("ffn_up.", "ffn.fc1."), ("ffn_down.", "ffn.fc2."),
        ]:  # fmt: skip
            name = name.replace(theirs, ours)
        return name

    def safetensors(self, room, numbers, layout, own):
        """Writes a safetensors file, and reads it here, in the package and with `wan`."""
        from safetensors import safe_open

        what = f"{self.folder.name} as {numbers} in safetensors, {layout}"
        flags = {"dtype": numbers, "layout": layout}
        written = self.convert(room / f"{numbers}-{layout}.safetensors", **flags)
        again = self.convert(room / f"{numbers}-{layout}-again.safetensors", **flags)
        self.checks.check(sha256(written) == sha256(again), f"{what}: another file each time")
        if numbers != "fp8":
            copy = self.convert(room / "copy.safetensors", written, layout=layout)
            self.checks.check(sha256(written) == sha256(copy), f"{what}: a copy is another file")
        ours = self.convert(room / "ours.safetensors", written, dtype="f32", layout=layout)
        ours, plain = read_safetensors(ours), with_factors(read_safetensors(written))
        self.checks.check(ours.keys() == plain.keys(), f"{what}: {ours.keys() ^ plain.keys()}")
        with safe_open(written, framework="np") as theirs:
            names = set(theirs.keys())
            read = set(read_safetensors(written))
            self.checks.check(names == read, f"{what}: {names ^ read}")
            if numbers in ("f32", "f16"):
                for name in names:
                    same = np.array_equal(theirs.get_tensor(name).astype(np.float32), plain[name])
                    self.checks.check(same, f"{what}: {name} in the package")
        for name in plain:
            differs = error(ours[name], plain[name])
            self.checks.check(differs <= SAME, f"{what}: {name} differs by {differs:.3g}")
            if name in own:
                step = error(plain[name], own[name])
                self.checks.check(
                    step <= STEPS[numbers], f"{what}: {name} is {step:.3g} from what was read"
                )

    def folder_of_diffusers(self, room):
        """Writes a folder, and loads it as its users do."""
        import torch

        what = f"{self.folder.name} as a folder"
        written = self.convert(room / "folder", dtype="f32")
        model, report = load(self.kind, written)
        left = {key: value for key, value in report.items() if value}
        self.checks.check(not left, f"{what}: {left}")
        io = self.folder / self.said.get("forward", "")
        if not self.said.get("forward"):
            return
        io = {name: torch.from_numpy(np.array(x)) for name, x in read_safetensors(io).items()}
        inputs = {name[3:]: x for name, x in io.items() if name.startswith("in.")}
        with torch.no_grad():
            out = model(**inputs)
        for name, expected in io.items():
            if name.startswith("out."):
                found = getattr(out, name[4:]).numpy()
                differs = error(found, expected.numpy())
                self.checks.check(differs < FORWARD, f"{what}: {name} differs by {differs:.3g}")


def load(kind, folder):
    """The model, and what its loader missed or did not expect."""
    import diffusers
    import transformers

    said = json.loads((folder / "config.json").read_text())
    name = said.get("_class_name") or said["architectures"][0]
    library = diffusers if kind in ("transformer", "vae") else transformers
    model, report = getattr(library, name).from_pretrained(folder, output_loading_info=True)
    # The encoder's embedding has two names.
    missing = [key for key in report["missing_keys"] if "embed_tokens" not in key]
    return model.eval(), {"missing": missing, "unexpected": list(report["unexpected_keys"])}


def has_diffusers():
    try:
        import diffusers
        import torch
        import transformers
    except ImportError as error:
        print(f"folders are not checked: {error}")
        return False
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, ", end="")
    print(f"transformers {transformers.__version__}")
    return True


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--wan", required=True, help="the program")
    arguments.add_argument("--cases", type=pathlib.Path, required=True, help="a folder of cases")
    arguments.add_argument("--only", default="", help="cases with this in their names")
    given = arguments.parse_args()
    checks, folders = Checks(), has_diffusers()
    for name in json.loads((given.cases / "index.json").read_text())["cases"]:
        folder = given.cases / name
        said = json.loads((folder / "case.json").read_text())
        if said["kind"] == "tokenizer" or said["must"] != "loads" or said["loras"]:
            continue
        if given.only not in name:
            continue
        case, before = Case(folder, given.wan, checks), checks.passed
        with tempfile.TemporaryDirectory() as room:
            room = pathlib.Path(room)
            own = read_safetensors(case.convert(room / "own.safetensors", dtype="f32", layout="wan"))
            if case.kind in ("transformer", "text_encoder"):
                for numbers in FLOATS + BLOCKS:
                    case.gguf(room, numbers, own)
            for numbers in FLOATS + ["fp8"]:
                for layout in ("wan", "diffusers"):
                    case.safetensors(room, numbers, layout, own)
            if folders:
                case.folder_of_diffusers(room)
        print(f"{name:32}{checks.passed - before} checks", flush=True)
    print(f"{checks.passed} passed, {len(checks.failed)} failed")
    raise SystemExit(bool(checks.failed))


if __name__ == "__main__":
    main()
