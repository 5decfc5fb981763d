"""Records what the references' schedulers make of given samples and velocities. See README.md."""

import argparse
import copy
import json
import pathlib
import subprocess
import sys
import types
from unittest import mock

import diffusers
import numpy as np
import scipy
import torch
from diffusers import (
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    LTXEulerAncestralRFScheduler,
    SASolverScheduler,
)

# The end of a flow schedule that DEIS and SA-Solver leave at the last level but one: what is next
# to 0 where a logarithm of it is still taken.
NEXT_TO_ZERO = 1e-12
# Commit of ykk648/ComfyUI-WanVideoWrapper, a copy of kijai's repository.
WRAPPER = "069ebf757abb9e11cb5b5ba6fbee04fdc914dbd2"


def model(x, sigma):
    """Any smooth field will do."""
    a = torch.tensor([[0.4, -0.3, 0.1], [0.2, 0.5, -0.2], [-0.1, 0.3, 0.6]], dtype=torch.float64)
    b = torch.tensor([0.3, -0.4, 0.2], dtype=torch.float64)
    return (1 + float(sigma)) * torch.tanh(x @ a.T + b) - 0.2 * x


def start():
    rng = np.random.default_rng(7)
    return torch.from_numpy(rng.standard_normal((2, 3)))


def as_f32(x):
    """Rounded to f32, as the numbers are written down."""
    return x.to(torch.float32).to(torch.float64)


def listed(x):
    return [float(v) for v in x.flatten().to(torch.float32)]


def drawing(value):
    """Lets a scheduler draw this number for every element of its noise."""
    def draw(shape, generator=None, device=None, dtype=None, layout=None):
        return torch.full(tuple(shape), float(value), dtype=torch.float64)
    names = [n for n in sys.modules if n.startswith("diffusers.schedulers.scheduling_")]
    return [mock.patch.object(sys.modules[n], "randn_tensor", draw)
            for n in names if hasattr(sys.modules[n], "randn_tensor")]


def stepped(scheduler, velocity, timestep, x, noise):
    """The scheduler after the step, and the sample; noise is the same number everywhere."""
    scheduler = copy.deepcopy(scheduler)
    patches = drawing(noise)
    for patch in patches:
        patch.start()
    try:
        moved = scheduler.step(velocity, timestep, x, return_dict=False)[0]
    finally:
        for patch in patches:
            patch.stop()
    return scheduler, moved


def one_evaluation(scheduler, last=None):
    """Steps of one evaluation: sample, velocity, where it goes without noise, factor of the noise."""
    scheduler.sigmas = scheduler.sigmas.double()
    if last is not None:
        scheduler.sigmas[-1] = last
    steps, x = [], as_f32(start())
    for i, t in enumerate(scheduler.timesteps[: len(scheduler.sigmas) - 1]):
        v = as_f32(model(x, scheduler.sigmas[i]))
        after, still = stepped(scheduler, v, t, x, 0.0)
        _, noisy = stepped(scheduler, v, t, x, 1.0)
        steps.append({
            "sample": listed(x), "velocity": listed(v), "moved": listed(still),
            "noise": float((noisy - still).mean()),
        })
        scheduler = after
        # On with noise of one half, so that what remembers it is caught out.
        x = as_f32(still + 0.5 * (noisy - still))
    return steps


def two_evaluations(scheduler):
    """Heun's steps: as above, with the sample and the velocity in the middle."""
    steps, x, i = [], as_f32(start()), 0
    while i < len(scheduler.timesteps):
        v = as_f32(model(x, scheduler.sigmas[i]))
        middle = scheduler.step(v, scheduler.timesteps[i], x, return_dict=False)[0]
        step = {"sample": listed(x), "velocity": listed(v), "moved": listed(middle), "noise": 0.0}
        x, i = as_f32(middle), i + 1
        if not scheduler.state_in_first_order and i < len(scheduler.timesteps):
            v = as_f32(model(x, scheduler.sigmas[i]))
            x = scheduler.step(v, scheduler.timesteps[i], x, return_dict=False)[0]
            step |= {"second_velocity": listed(v), "corrected": listed(x)}
            x, i = as_f32(x), i + 1
        steps.append(step)
    return steps


def case(options, steps, shift, scheduler, record, sigmas=None, timesteps=None):
    recorded = record(scheduler)
    sigmas = scheduler.sigmas if sigmas is None else sigmas
    timesteps = scheduler.timesteps if timesteps is None else timesteps
    return {
        "options": options, "steps": steps, "shift": shift,
        "sigmas": [float(s) for s in sigmas[:steps]],
        "timesteps": [float(t) for t in timesteps[:steps]],
        "trajectory": recorded,
    }


def of_diffusers():
    flow = dict(use_flow_sigmas=True, prediction_type="flow_prediction")
    for order, steps, shift in [(2, 10, 3.0), (3, 10, 5.0), (3, 16, 8.0), (1, 5, 3.0)]:
        scheduler = DEISMultistepScheduler(solver_order=order, flow_shift=shift, **flow)
        scheduler.set_timesteps(steps)
        yield case({"solver": "deis", "order": order}, steps, shift, scheduler,
                   lambda s: one_evaluation(s, last=NEXT_TO_ZERO))
    for order, steps, shift in [(2, 10, 3.0), (3, 12, 5.0), (1, 5, 8.0)]:
        scheduler = SASolverScheduler(predictor_order=order, corrector_order=order,
                                      tau_func=lambda t: 0, flow_shift=shift, **flow)
        scheduler.set_timesteps(steps)
        yield case({"solver": "sa-ode", "order": order, "sa_weights": "authors"}, steps, shift,
                   scheduler, lambda s: one_evaluation(s, last=NEXT_TO_ZERO))
    for order, form, steps, shift in [(2, "midpoint", 8, 3.0), (2, "heun", 8, 5.0),
                                      (2, "midpoint", 16, 8.0), (1, "midpoint", 5, 3.0)]:
        scheduler = DPMSolverMultistepScheduler(
            algorithm_type="sde-dpmsolver++", solver_order=order, solver_type=form,
            flow_shift=shift, final_sigmas_type="zero", **flow)
        scheduler.set_timesteps(steps)
        yield case({"solver": "dpm++-sde", "order": order, "solver_type": form}, steps, shift,
                   scheduler, one_evaluation)
    for steps, shift in [(4, 1.0), (8, 3.0)]:
        scheduler = FlowMatchHeunDiscreteScheduler(shift=shift)
        scheduler.set_timesteps(steps)
        once = [0] + list(range(1, 2 * steps - 1, 2))
        yield case({"solver": "heun"}, steps, shift, scheduler, two_evaluations,
                   scheduler.sigmas[once], scheduler.timesteps[once])
    for spacing, steps, shift in [("uniform", 4, 3.0), ("beta", 8, 5.0)]:
        scheduler = FlowMatchLCMScheduler(shift=shift, use_beta_sigmas=spacing == "beta")
        scheduler.set_timesteps(steps)
        yield case({"solver": "lcm", "spacing": spacing}, steps, shift, scheduler, one_evaluation)
    for steps, shift in [(1, 3.0), (8, 3.0), (13, 8.0)]:
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift, use_beta_sigmas=True)
        scheduler.set_timesteps(steps)
        yield case({"solver": "euler", "spacing": "beta"}, steps, shift, scheduler, one_evaluation)
    for eta, steps, shift in [(1.0, 8, 3.0), (0.5, 6, 5.0), (0.0, 4, 3.0)]:
        levels = FlowMatchEulerDiscreteScheduler(shift=shift)
        levels.set_timesteps(steps)
        scheduler = LTXEulerAncestralRFScheduler(eta=eta)
        scheduler.set_timesteps(sigmas=levels.sigmas)
        yield case({"solver": "euler-ancestral", "eta": eta}, steps, shift, scheduler,
                   one_evaluation)


def of_wrapper(checkout):
    """The file is executed as it stands in the checkout; it imports nothing but torch."""
    show = ["git", "-C", checkout, "show", f"{WRAPPER}:wanvideo/schedulers/flowmatch_res_multistep.py"]
    text = subprocess.run(show, check=True, capture_output=True, text=True).stdout
    module = types.ModuleType("flowmatch_res_multistep")
    exec(text, module.__dict__)
    sigmas = [1.0, 0.95, 0.83, 0.7, 0.52, 0.31, 0.1, 0.0]

    class Adapted(module.FlowMatchSchedulerResMultistep):
        def step(self, velocity, timestep, x, return_dict=False):
            moved = super().step(velocity[None, :, None, :], timestep, x[None, :, None, :])
            return [moved.reshape(x.shape)]

    scheduler = Adapted()
    scheduler.sigmas = torch.tensor(sigmas, dtype=torch.float32)
    scheduler.timesteps = scheduler.sigmas[:-1] * 1000

    steps = len(sigmas) - 1
    yield case({"solver": "res-multistep", "sigmas": sigmas}, steps, 1.0, scheduler,
               one_evaluation, timesteps=(scheduler.sigmas[:-1] * 1000).to(torch.int64))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wrapper", required=True, help="checkout of ComfyUI-WanVideoWrapper")
    parser.add_argument("--out", default="crates/samplers/src/golden/trajectories.json")
    args = parser.parse_args()
    cases = list(of_diffusers()) + list(of_wrapper(args.wrapper))
    source = (f"tools/record_sampler_logs: diffusers {diffusers.__version__}, "
              f"torch {torch.__version__}, numpy {np.__version__}, scipy {scipy.__version__}")
    lines = ",\n".join(json.dumps(entry) for entry in cases)
    pathlib.Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(args.out).write_text(f'{{"source": {json.dumps(source)}, "cases": [\n{lines}\n]}}\n')
    print(f"{len(cases)} cases in {args.out}")


if __name__ == "__main__":
    main()
