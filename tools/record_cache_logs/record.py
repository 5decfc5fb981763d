"""Records what the references' own cache rules decide, for the tests of crates/cache.

The rule is not written down again here: its lines are cut out of a checkout of the reference at a
named commit and executed, around stand-ins for the transformer blocks. See README.md.
"""

import argparse
import json
import subprocess
import textwrap
import types

import numpy as np
import torch

T2V_13B = {
    "e": [2.39676752e03, -1.31110545e03, 2.01331979e02, -8.29855975e00, 1.37887774e-01],
    "e0": [-5.21862437e04, 9.23041404e03, -5.28275948e02, 1.36987616e01, -4.99875664e-02],
}
# A rule's sum must keep this far from the threshold, or rounding would decide.
MARGIN = 1e-3


def source(checkout, commit, path):
    show = ["git", "-C", checkout, "show", f"{commit}:{path}"]
    return subprocess.run(show, check=True, capture_output=True, text=True).stdout.splitlines()


def cut(lines, first, until, after=0):
    """Lines from the one that begins with `first` to before one that begins with `until`."""
    begins = lambda at, text: (i for i in range(at, len(lines)) if lines[i].startswith(text))
    start = next(begins(after, first))
    end = next(begins(start + 1, until), len(lines))
    return textwrap.dedent("\n".join(lines[start:end]))


def function(arguments, body, names):
    """A function with `body` as its text."""
    text = f"def rule({arguments}):\n" + textwrap.indent(body, "    ") + "\n"
    exec(text, names)
    return names["rule"]


class Embedding:
    """Time signals of a small random model: sinusoid, two layers, and the projection."""

    def __init__(self, dim):
        generator = torch.Generator().manual_seed(3)
        draw = lambda *shape: torch.randn(*shape, generator=generator)
        self.first, self.second = draw(dim, 16) / 4, draw(dim, dim) / dim**0.5
        self.projection = draw(6 * dim, dim) / dim**0.5
        self.bias, self.projection_bias = draw(dim) * 2, draw(6 * dim) * 2

    def row(self, timestep):
        """`e` `[dim]` and `e0` `[6, dim]` of one timestep."""
        angle = timestep * torch.pow(10000.0, -torch.arange(8) / 8)
        features = torch.cat([angle.cos(), angle.sin()])
        silu = torch.nn.functional.silu
        e = self.second @ silu(self.first @ features) + self.bias
        return e, (self.projection @ silu(e) + self.projection_bias).reshape(6, -1)


def tokens(rows, frame_tokens, is_e0):
    """Rows of the frames as the references expand them: `[1, L, D]`, `[1, 6, L, D]`."""
    expanded = torch.stack(rows).repeat_interleave(frame_tokens, 0)
    return expanded.transpose(0, 1)[None].contiguous() if is_e0 else expanded[None]


def sync(steps, prefix, frames):
    shifted = [5 * s / (1 + 4 * s) for s in np.linspace(1, 0, steps, endpoint=False)]
    return [[0.0] * prefix + [float(int(1000 * s))] * (frames - prefix) for s in shifted]


def wave(steps, ar_step, blocks):
    """Asynchronous rounds: block b starts `ar_step` rounds after block b - 1."""
    table = [999.0] + [row[0] for row in sync(steps, 0, 1)] + [0.0]
    rounds = steps + (blocks - 1) * ar_step
    place = lambda r, b: min(max(r + 1 - b * ar_step, 0), steps + 1)
    return [[table[place(r, b)] for b in range(blocks)] for r in range(rounds)]


def case(name, timesteps, options, decisions, sums):
    near = min(abs(s - options["threshold"]) for s in sums if s != 0)
    assert near > MARGIN * options["threshold"], f"{name}: a sum is on the edge"
    return {"name": name, "options": options, "timesteps": timesteps, "decisions": decisions,
            "sums": sums}


def signals(cases):
    """The row of each timestep that a case has, by mode."""
    embedding, rows = Embedding(8), {"e": {}, "e0": {}}
    for timestep in sorted({t for each in cases for row in each["timesteps"] for t in row}):
        for mode, row in zip(("e", "e0"), embedding.row(timestep)):
            rows[mode][f"{timestep:g}"] = [round(float(v), 9) for v in row.flatten()]
    return rows


def skyreels(checkout, commit):
    lines = source(checkout, commit, "skyreels_v2_infer/modules/transformer.py")
    at = next(i for i, line in enumerate(lines) if "modulated_inp = e0" in line) - 1
    rule = function("self, x, e, e0, kwargs", cut(lines, "        if self.enable_teacache",
                    "        x = self.head", at) + "\nreturn x", {"np": np, "torch": torch})
    names = {"np": np}
    exec(cut(lines, "    def initialize_teacache", "    def "), names)
    embedding, cases = Embedding(8), []
    rows = {"sync": sync(20, 0, 3), "prefix": sync(20, 1, 3), "async": wave(12, 4, 3)}
    for mode in ("e", "e0"):
        for form, timesteps in rows.items():
            model = types.SimpleNamespace(blocks=[])
            threshold = {"e": 0.3, "e0": 0.11}[mode]
            names["initialize_teacache"](
                model, True, len(timesteps), threshold, mode == "e0", "T2V-1.3B")
            ran = []
            model.blocks = [lambda x, **_: ran.append(1) or x + 1]
            decisions, sums = {0: "", 1: ""}, {0: [], 1: []}
            for row in timesteps:
                e = tokens([embedding.row(t)[0] for t in row], 2, False)
                e0 = tokens([embedding.row(t)[1] for t in row], 2, True)
                for branch in (0, 1):
                    ran.clear()
                    rule(model, torch.zeros(1, 6, 8), e, e0, {})
                    decisions[branch] += "C" if ran else "s"
                    side = ("even", "odd")[branch]
                    total = getattr(model, f"accumulated_rel_l1_distance_{side}")
                    sums[branch].append(float(total))
            assert decisions[0] == decisions[1] and sums[0] == sums[1]
            options = {"mode": mode, "threshold": threshold, "coefficients": T2V_13B[mode],
                       "preset": "skyreels"}
            cases.append(case(f"skyreels_{mode}_{form}", timesteps, options, decisions[0],
                              sums[0]))
    return cases


def wrapper(checkout, commit, preset):
    lines = source(checkout, commit, "wanvideo/modules/model.py")
    first = "accumulated_rel_l1_distance = torch.tensor"
    at = next(i for i, line in enumerate(lines) if first in line) - 1
    body = cut(lines, "        should_calc = True", "        x = self.head", at)
    arguments = "self, x, e, e0, current_step, pred_id, device"
    for given in ("unianim_data", "vace_data", "seq_lens", "grid_sizes", "freqs", "context",
                  "context_lens", "clip_embed", "rope_func", "camera_embed", "is_uncond",
                  "current_step_percentage", "attn_cond", "seq_len", "nag_params", "nag_context"):
        arguments += f", {given}=None"
    state_text = cut(lines, "class TeaCacheState", "def relative_l1_distance")
    names = {"np": np, "torch": torch, "log": types.SimpleNamespace(info=lambda *_: None)}
    exec(state_text, names)
    exec(cut(lines, "def relative_l1_distance", "def "), names)
    rule = function(arguments, body + "\nreturn pred_id", names)
    dtype = torch.bfloat16 if preset.endswith("half") else torch.float32
    embedding, cases = Embedding(8), []
    rows = {"sync": sync(24, 0, 3), "prefix": sync(24, 1, 3)}
    for mode in ("e", "e0"):
        for form, timesteps in rows.items():
            start, threshold = {"e": (1, 0.3), "e0": (5, 0.11)}[mode]
            ran = []
            model = types.SimpleNamespace(
                enable_teacache=True, teacache_start_step=start,
                teacache_end_step=len(timesteps) - 1, teacache_cache_device="cpu",
                teacache_state=names["TeaCacheState"]("cpu"), rel_l1_thresh=threshold,
                teacache_use_coefficients=True, teacache_coefficients=T2V_13B, teacache_mode=mode,
                use_non_blocking=False, slg_blocks=None, blocks_to_swap=-1, offload_device="cpu",
                video_attention_split_steps=[], main_device="cpu",
                blocks=[lambda x, **_: ran.append(1) or x + 1])
            decisions, sums, pred_id = "", [], None
            for step, row in enumerate(timesteps):
                e = tokens([embedding.row(t)[0] for t in row], 2, False).to(dtype)
                e0 = tokens([embedding.row(t)[1] for t in row], 2, True).to(dtype)
                ran.clear()
                pred_id = rule(model, torch.zeros(1, 6, 8), e, e0, step, pred_id, "cpu")
                decisions += "C" if ran else "s"
                state = model.teacache_state.get(pred_id)
                sums.append(float(state.get("accumulated_rel_l1_distance", 0)))
            options = {"mode": mode, "threshold": threshold, "coefficients": T2V_13B[mode],
                       "preset": preset, "retention": start + 1}
            name = f"{preset}_{mode}_{form}"
            cases.append(case(name, timesteps, options, decisions, sums))
    return cases


def magcache(checkout, commit):
    old = source(checkout, commit, "MagCache4Wan2.1/magcache_generate.py")
    new = source(checkout, commit, "MagCache4Wan2.2/magcache_generate.py")
    names = {"np": np}
    exec(cut(old, "def nearest_interp", "def save_json"), names)
    rules = {}
    for key, lines in (("2.1", old), ("2.2", new)):
        at = next(i for i, line in enumerate(lines) if line.startswith("def magcache_forward"))
        first = "    skip_forward = False" if key == "2.1" else "    use_magcache = True"
        body = cut(lines, first, "    x = self.head", at) + "\n"
        tail = cut(lines, "    self.cnt += 1", "    return", at)
        rules[key] = function("self, x, kwargs, ori_x", body + tail + "\nreturn skip_forward",
                              {"np": np, "torch": torch})
    tables = json.load(open(TABLES))["tables"]
    table = {t["name"]: t for t in tables}
    cases = []
    for name, steps, high, mode in (
        ("t2v-1.3b", 50, None, None), ("t2v-1.3b", 25, None, None), ("t2v-14b", 30, None, None),
        ("i2v-480p", 33, None, None), ("ti2v-5b-i2v", 50, None, None),
        ("t2v-a14b", 40, 14, "t2v"), ("i2v-a14b", 40, 15, "i2v"),
    ):
        of = table[name]
        columns = [np.array(of["cond"]), np.array(of["uncond"])]
        if len(columns[0]) != steps:
            columns = [names["nearest_interp"](c, steps) for c in columns]
        model = types.SimpleNamespace(
            cnt=0, num_steps=2 * steps, retention_ratio=of["retention_ratio"], K=of["max_skips"],
            magcache_thresh=of["threshold"], mag_ratios=np.stack(columns, 1).reshape(-1),
            accumulated_err=[0.0, 0.0], accumulated_steps=[0, 0], accumulated_ratio=[1.0, 1.0],
            residual_cache=[None, None], blocks=[], mode=mode,
            split_step=None if high is None else 2 * high)
        decisions = {"cond": "", "uncond": ""}
        for call in range(2 * steps):
            if high is not None and call in (2 * high, 2 * high + 1):
                # Each expert begins with error 0 here; the reference carries the sum over.
                branch = call % 2
                model.accumulated_err[branch] = model.accumulated_steps[branch] = 0
                model.accumulated_ratio[branch] = 1.0
            x = torch.zeros(1)
            skipped = rules["2.1" if high is None else "2.2"](model, x, {}, x)
            decisions[("cond", "uncond")[call % 2]] += "s" if skipped else "C"
        cases.append({"table": name, "steps": steps, "high": high or 0, **decisions})
    return cases


def easycache(checkout, commit):
    lines = source(checkout, commit, "EasyCache4Wan2.1/easycache_generate.py")
    at = next(i for i, line in enumerate(lines) if line.startswith("def easycache_forward"))
    decide = cut(lines, "    # Track which type of step", "    # Continue with normal", at)
    update = cut(lines, "    # Update cache and calculate", "def ", at)
    rule = function("self, raw_input, model", f"{decide}\noutput = model(raw_input)\n{update}",
                    {"torch": torch})
    cases = []
    for threshold, steps in ((0.05, 30), (0.1, 40)):
        generator = torch.Generator().manual_seed(5)
        x = torch.randn(3, 4, generator=generator)
        mix = torch.randn(4, 4, generator=generator) / 3
        model = types.SimpleNamespace(
            cnt=0, num_steps=2 * steps, thresh=threshold, accumulated_error_even=0,
            should_calc_current_pair=True, k=None, previous_raw_input_even=None,
            previous_raw_output_even=None, previous_raw_output_odd=None,
            prev_prev_raw_input_even=None, cache_even=None, cache_odd=None, ret_steps=20,
            cutoff_steps=2 * steps - 2)
        sigmas = [3 * s / (1 + 2 * s) for s in np.linspace(1, 0, steps + 1)]
        ran, log = [], []
        for now, after in zip(sigmas, sigmas[1:]):
            def velocity(shift):
                def call(given):
                    ran.append(1)
                    return [torch.tanh(given[0] @ mix) + (1 - now) * 0.3 * given[0] + shift]
                return call
            ran.clear()
            cond = rule(model, [x], velocity(0.1))[0]
            computed = bool(ran)
            uncond = rule(model, [x], velocity(-0.1))[0]
            flat = lambda t: [round(float(v), 9) for v in t.flatten()]
            log.append({"x": flat(x), "v": flat(cond) if computed else [], "computed": computed,
                        "k": float(model.k or 0), "sum": float(model.accumulated_error_even)})
            x = x + (after - now) * (uncond + 3 * (cond - uncond))
        near = min(abs(m["sum"] - threshold) for m in log if m["sum"])
        assert near > MARGIN * threshold, "a sum is on the edge"
        cases.append({"threshold": threshold, "steps": log})
    return cases


def write(path, about, cases, **more):
    """One case a line, so that a change shows as one."""
    lines = ",\n".join("    " + json.dumps(c) for c in cases)
    head = "".join(f'  "{key}": {json.dumps(value)},\n' for key, value in more.items())
    with open(path, "w") as file:
        file.write(f'{{\n  "about": {json.dumps(about)},\n{head}  "cases": [\n{lines}\n  ]\n}}\n')
    for each in cases:
        shown = {k: v for k, v in each.items() if k not in ("timesteps", "sums")}
        print(json.dumps(shown)[:300])


CRATE = "crates/cache/src"
TABLES = f"{CRATE}/calibration/magcache.json"


def main():
    parser = argparse.ArgumentParser()
    for name in ("skyreels", "wrapper", "magcache", "easycache"):
        parser.add_argument(f"--{name}", required=True, help="checkout with that history")
    args = parser.parse_args()
    tea = skyreels(args.skyreels, "abed76f")
    tea += wrapper(args.wrapper, "a623f87", "wanvideowrapper")
    tea += wrapper(args.wrapper, "6fadcbd", "wanvideowrapper-half")
    write(f"{CRATE}/tea_cache/logs.json",
          "tools/record_cache_logs: SkyworkAI/SkyReels-V2 at abed76f; "
          "kijai/ComfyUI-WanVideoWrapper at a623f87 and 6fadcbd", tea, rows=signals(tea))
    write(f"{CRATE}/mag_cache/logs.json", "tools/record_cache_logs: Zehong-Ma/MagCache at df81cb1",
          magcache(args.magcache, "df81cb1"))
    write(f"{CRATE}/easy_cache/logs.json",
          "tools/record_cache_logs: H-EmbodVis/EasyCache at 5127804",
          easycache(args.easycache, "5127804"))


if __name__ == "__main__":
    main()
