"""Trains `ordu-tiny-control-edge`: a small control network that steers a finished `ordu-tiny` by the edges of a picture.

    python train_control.py --work DIR --model FOLDER --minutes 25 --export FOLDER

The network is of the class of ControlNet, but as small as the small ones for SDXL: residual blocks that start as copies of the UNet's, no
attention, one residual block at the bottom. UNet, text encoder and autoencoder are left as they are. It sees what OpenCV's Canny finds in the
picture that it is to help to draw; captions mostly tell colours alone, so that what is where can only come from the edges.

Needs opencv-python-headless beside the rest. Resumable: run the same command again.
"""

import argparse
import json
import os
import random
import time

import cv2
import numpy as np
import torch
from diffusers import ControlNetModel

import export
import judge
import networks
import pictures
import sampling
from muon import Muon, split_parameters
from train_autoencoder import log, save_atomically, training_records
from train_diffusion import draw_timesteps

SIZES = {64: 0.7, 96: 0.15, 128: 0.15}  # side -> how often
THRESHOLDS = (100, 200)
STROKES = 0.35  # share of the maps whose lines are made thicker: scribbles


def make_control(unet):
    config = unet.config
    network = ControlNetModel(
        in_channels=networks.LATENT_CHANNELS,
        down_block_types=("DownBlock2D",) * 2,
        mid_block_type="UNetMidBlock2D",
        block_out_channels=tuple(config.block_out_channels),
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_num_groups,
        cross_attention_dim=config.cross_attention_dim,
        attention_head_dim=config.attention_head_dim,
        conditioning_embedding_out_channels=(8, 16, 24, 32),
    )
    own, copied = network.state_dict(), unet.state_dict()
    own |= {k: v for k, v in copied.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict(own)
    return network


def edges(drawn, rng=None):
    """uint8 (n, h, w, 3) -> what the network is shown, float32 (n, 3, h, w) in 0..1. With `rng` a third of them as thick as strokes of a pen."""
    found = np.stack([cv2.Canny(picture, *THRESHOLDS) for picture in drawn])
    for lines in found if rng is not None else ():
        if rng.random() < STROKES:
            lines[:] = cv2.dilate(lines, np.ones((int(rng.integers(1, 4)),) * 2, np.uint8))
    return torch.from_numpy(np.repeat(found[:, None].astype(np.float32) / 255, 3, axis=1))


def colours_alone(record, rnd=random):
    c, b = pictures.COLOURS[record[0]], pictures.COLOURS[record[4]]
    return rnd.choice(["a {} on a {} background", "{} on {}", "{} on a {} background", "{}, {} background", "a picture of {} on {}"]).format(c, b)


def caption(record, rnd=random):
    draw = rnd.random()
    if draw < 0.1:
        return ""
    return colours_alone(record, rnd) if draw < 0.75 else pictures.random_caption(record, rnd)


@torch.no_grad()
def sample(model, network, prompts, maps, noise, steps=25, cfg=5.0):
    """As `sampling.Model.sample`, with DDIM; the network steers what to draw, not what to keep away from."""
    scheduler = sampling.make_scheduler("ddim")
    scheduler.set_timesteps(steps)
    x, count = noise * scheduler.init_noise_sigma, len(noise)
    text = model.embed(list(prompts) + [""])
    wanted, nothing = text[:-1], text[-1:].expand(count, -1, -1)
    for t in scheduler.timesteps:
        down, bottom = network(x, t, wanted, maps, return_dict=False)
        with_it = model.unet(x, t, wanted, down_block_additional_residuals=down, mid_block_additional_residual=bottom).sample
        without = model.unet(x, t, nothing).sample
        x = scheduler.step(without + cfg * (with_it - without), t, x).prev_sample
    return x


def evaluate(model, network, count, seed):
    """Pictures from edges of held-out scenes in other colours, and prompts that tell colours alone."""
    records = sampling.held_out_records(count, seed)
    rng = np.random.default_rng(seed)
    maps = edges(pictures.draw(records, rng))
    asked = records.copy()
    for r in asked:
        r[0], r[4] = rng.choice(8, size=2, replace=False)
    prompts = [f"{pictures.COLOURS[r[0]]} on a {pictures.COLOURS[r[4]]} background" for r in asked]
    return judge.score(model.decode(sample(model, network.eval(), prompts, maps, sampling.noise_for(count, seed))), asked)


def save(network, to):
    os.makedirs(to, exist_ok=True)
    network.half().save_pretrained(to)
    path = os.path.join(to, "config.json")
    config = json.load(open(path))
    config.pop("_name_or_path", None)
    export.write_json(path, config)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--model", required=True, help="the exported model that is steered")
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--export", help="folder of the finished network")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(3)
    model = export.load(args.model)
    for part in (model.unet, model.text, model.vae):
        part.requires_grad_(False)
    network = make_control(model.unet)
    hidden, rest = split_parameters(network, keep_out=("conv_in", "conv_out", "controlnet_down_blocks", "controlnet_mid_block"))
    muon, adam = Muon(hidden, lr=0.01), torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)
    average = {k: v.detach().clone() for k, v in network.named_parameters()}
    path, step, spent = os.path.join(args.work, "control.pt"), 0, 0.0
    if os.path.exists(path):
        saved = torch.load(path)
        network.load_state_dict(saved["model"])
        average, step, spent = saved["average"], saved["step"], saved["spent"]
        muon.load_state_dict(saved["muon"])
        adam.load_state_dict(saved["adam"])
    alphas = sampling.make_scheduler("ddim").alphas_cumprod.float()
    rng = np.random.default_rng([6000, step])
    random.seed(7000 + step)
    records = training_records(20160, seed=21)
    log(args.work, f"control: {networks.parameters_of(network)} parameters, from step {step}")
    budget, running, last_log, last_save = args.minutes * 60, None, time.time(), time.time()

    def averaged():
        copy = make_control(model.unet)
        copy.load_state_dict(average)
        return copy

    while spent < budget:
        started = time.time()
        factor = min(1.0, (step + 1) / 50) * min(1.0, (1 - spent / budget) / 0.6)
        muon.param_groups[0]["lr"], adam.param_groups[0]["lr"] = 0.01 * factor, 1e-3 * factor
        size = int(rng.choice(list(SIZES), p=list(SIZES.values())))
        batch = max(1, round(args.batch * (64 / size) ** 2))
        chosen = records[rng.integers(len(records), size=batch)]
        drawn = pictures.draw(chosen, rng, size)
        with torch.no_grad():
            with torch.autocast("cpu", torch.bfloat16):
                clean = model.vae.encode(torch.from_numpy(pictures.to_signed(drawn))).latent_dist.mode().float() * model.scale
            text = model.embed([caption(r) for r in chosen])
        noise, t = torch.randn_like(clean), draw_timesteps(batch)
        a, s = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        noisy = a * clean + s * noise
        down, bottom = network(noisy, t, text, edges(drawn, rng), return_dict=False)
        out = model.unet(noisy, t, text, down_block_additional_residuals=down, mid_block_additional_residual=bottom).sample
        weight = torch.clamp(5.0 / (1.0 + (a * a / (s * s)).flatten()), max=1.0)
        loss = (weight * (out - (a * noise - s * clean)).square().mean(dim=(1, 2, 3))).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        muon.step()
        adam.step()
        network.zero_grad(set_to_none=True)
        step += 1
        keep = min(0.995, step / (step + 20))
        for k, v in network.named_parameters():
            average[k].lerp_(v.detach(), 1 - keep)
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        now = time.time()
        spent += now - started
        if now - last_log > 60:
            log(args.work, f"control: step {step} spent {spent:.0f}s loss {running:.4f} lr {factor:.3f}")
            last_log = now
        if now - last_save > 240 or spent >= budget:
            save_atomically(dict(model=network.state_dict(), average=average, step=step, spent=spent, muon=muon.state_dict(), adam=adam.state_dict()), path)
            result = evaluate(model, averaged(), 32, seed=step)
            log(args.work, "control: 32 maps: " + " ".join(f"{k} {v:.3f}" for k, v in result.items()))
            network.train()
            last_save = time.time()
    if args.export:
        save(averaged(), args.export)


if __name__ == "__main__":
    main()
