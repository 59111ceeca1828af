"""Makes the trajectories that the samplers of `ordu-engine` are compared with, beyond those of `make.py`: k-diffusion's, UniPC of diffusers, LCM by its
formula. The denoiser is the toy of `make.py`; noise is drawn once and handed out to both sides.

    python samplers.py [folder]

Needs what `make.py` needs, and scipy, torchsde, torchdiffeq. DPM++ SDE asks for increments of a Brownian motion: over the first part of a step and over the
whole of it. Here, as in the engine, two draws of the table make both.
"""

import math

import torch
from diffusers import UniPCMultistepScheduler

from make import OUT, k_diffusion_sampling, normal_sigmas, save, seeded, to_z, toy, training_sigmas

STEPS = 8


class Brownian:
    """Increments over σ, normalised, from draws of a table: one for each part of a step."""

    def __init__(self, draws):
        self.draws, self.first = draws, None

    def __call__(self, sigma, sigma_next):
        if self.first is None:
            self.first, self.middle = next(self.draws), sigma_next
            return self.first
        first, second, self.first = self.first, next(self.draws), None
        whole = sigma - sigma_next
        return first * ((sigma - self.middle) / whole).sqrt() + second * ((self.middle - sigma_next) / whole).sqrt()


def followed(method, x, *args, noise=None):
    """All guesses of the clean picture, and where the walk ends."""
    guesses = []
    options = dict(callback=lambda state: guesses.append(state["denoised"].clone()), disable=True)
    if noise is not None:
        options["noise_sampler"] = noise
    last = method(toy, x, *args, **options)
    return {"guesses": torch.stack(guesses), "end": last}


def unipc(z, sigmas, kind):
    sigmas = torch.cat([sigmas[:-1], torch.tensor([0.001], dtype=sigmas.dtype)])
    order = max(1, min(3, len(sigmas) - 2))
    scheduler = UniPCMultistepScheduler(solver_order=order, solver_type=kind, prediction_type="sample", lower_order_final=True)
    scheduler.set_timesteps(len(sigmas) - 1)
    scheduler.sigmas, scheduler.timesteps = sigmas, torch.arange(len(sigmas) - 1, 0, -1)
    guesses = []
    for t in scheduler.timesteps:
        guesses.append(0.8 * torch.tanh(z))
        z = scheduler.step(guesses[-1], t, z).prev_sample
    return {"guesses": torch.stack(guesses), "end": z * math.sqrt(1 + 0.001 ** 2)}


def lcm(x, sigmas, noise):
    guesses, draws = [], iter(noise)
    for now, after in zip(sigmas, sigmas[1:]):
        guesses.append(toy(x, now[None]))
        x = guesses[-1] + (next(draws) * after if after > 0 else 0)
    return {"guesses": torch.stack(guesses), "end": x}


def main():
    k = k_diffusion_sampling()
    every = training_sigmas()
    schedules = {
        "normal": normal_sigmas(STEPS),
        "karras": k.get_sigmas_karras(STEPS, float(every[0]), float(every[-1])).double(),
        "short": normal_sigmas(3),
    }
    start = torch.randn((1, 2, 3, 3), generator=seeded(60), dtype=torch.float64)
    noise = torch.randn((2 * STEPS, 1, 2, 3, 3), generator=seeded(61), dtype=torch.float64)
    one_by_one = lambda: (lambda draws: lambda *_: next(draws))(iter(noise))
    out = {"start": start, "noise": noise}
    for name, sigmas in schedules.items():
        x = start * (1 + sigmas[0] ** 2) ** 0.5
        ends = (float(sigmas[-2]), float(sigmas[0]))
        found = {
            "k_heun": followed(k.sample_heun, x, sigmas),
            "k_dpm_2": followed(k.sample_dpm_2, x, sigmas),
            "k_dpm_2_a": followed(k.sample_dpm_2_ancestral, x, sigmas, noise=one_by_one()),
            "k_lms": followed(k.sample_lms, x, sigmas),
            "k_dpmpp_2s_a": followed(k.sample_dpmpp_2s_ancestral, x, sigmas, noise=one_by_one()),
            "k_dpmpp_sde": followed(k.sample_dpmpp_sde, x, sigmas, noise=Brownian(iter(noise))),
            "k_dpm_fast": followed(k.sample_dpm_fast, x, *ends, len(sigmas) - 1),
            "k_dpm_adaptive": {"end": k.sample_dpm_adaptive(toy, x, *ends, disable=True)},
            "uni_pc": unipc(start, sigmas, "bh1"),
            "uni_pc_bh2": unipc(start, sigmas, "bh2"),
            "lcm": lcm(x, sigmas, noise),
        }
        out |= {f"{name}.{sampler}.{what}": value for sampler, kept in found.items() for what, value in kept.items()}
    save(OUT / "samplers-more.safetensors", {key: value.float() for key, value in out.items()})


if __name__ == "__main__":
    main()
