"""Writes what the Rust engine must reproduce on the exported model: f16 weights computed in f32, by torch and diffusers.

    python reference.py --model FOLDER --to FILE.safetensors

Tensors, for the two prompts in PROMPTS (n = 2):

    token_ids         (n, 24) i64      text_embeddings      (n, 24, 96)       empty_token_ids, empty_embeddings: the same of "" (1, ...)
    initial_latents   (n, 8, 8, 8)     standard normal; DDIM starts from them as they are, Euler from them times euler_sigmas[0]
    unet_input, unet_timestep, unet_output    one forward pass on the initial latents at t = 479 with the text embeddings
    ddim_timesteps (25,), ddim_latents (n, 8, 8, 8), ddim_steps (25, n, 8, 8, 8), ddim_images (n, 64, 64, 3) u8; the same for euler
    euler_sigmas      (26,)
    vae_input         (1, 3, 64, 64) in -1..1     vae_mean (1, 8, 8, 8), not scaled     vae_output: decoded from vae_mean
"""

import argparse

import numpy as np
import torch
from safetensors.torch import save_file

import export
import pictures
import sampling

PROMPTS = ["a large red circle at the center on a blue background", "a small yellow triangle at the top left on a black background"]
CFG, STEPS, SEED = 5.0, 25, 4242


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--to", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = export.load(args.model)
    noise = sampling.noise_for(len(PROMPTS), SEED)
    out = dict(
        token_ids=model.tokens(PROMPTS), text_embeddings=model.embed(PROMPTS),
        empty_token_ids=model.tokens([""]), empty_embeddings=model.embed([""]),
        initial_latents=noise, unet_input=noise.clone(), unet_timestep=torch.tensor([479]),
    )
    out["unet_output"] = model.unet(noise, 479, out["text_embeddings"]).sample
    for sampler in ("ddim", "euler"):
        trace = []
        out[f"{sampler}_latents"] = model.sample(PROMPTS, noise, STEPS, CFG, sampler, trace=trace)
        out[f"{sampler}_steps"] = torch.stack(trace)
        out[f"{sampler}_images"] = torch.from_numpy(model.decode(out[f"{sampler}_latents"]))
        scheduler = sampling.make_scheduler(sampler)
        scheduler.set_timesteps(STEPS)
        out[f"{sampler}_timesteps"] = scheduler.timesteps.float()
        if sampler == "euler":
            out["euler_sigmas"] = scheduler.sigmas.float()
    records = sampling.held_out_records(1, SEED)
    out["vae_input"] = torch.from_numpy(pictures.to_signed(pictures.draw(records, np.random.default_rng(SEED))))
    out["vae_mean"] = model.vae.encode(out["vae_input"]).latent_dist.mean
    out["vae_output"] = model.vae.decode(out["vae_mean"]).sample
    metadata = dict(prompts="\n".join(PROMPTS), cfg=str(CFG), steps=str(STEPS), scaling_factor=str(model.scale))
    save_file({k: v.contiguous() for k, v in out.items()}, args.to, metadata=metadata)
    for name, value in out.items():
        print(name, tuple(value.shape), value.dtype)


if __name__ == "__main__":
    main()
