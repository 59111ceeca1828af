"""Trains `ordu-tiny-control-qr`: a small control network with which `ordu-tiny` draws pictures that scan.

    python train_control_qr.py --work DIR --model FOLDER --painter-minutes 3 --minutes 12 --export FOLDER

The autoencoder has never seen modules: what its encoder makes of them, its decoder does not draw. The decoder can draw them, though, from other
latents. So a small network first learns to mend what the encoder makes of such a picture, judged by what the decoder makes of that; it is used
here alone and not published. Then the control network learns: the class and size of `ordu-tiny-control-edge`, everything else frozen, with both
prompts steered, and each map at the strength that the workflow gives it (modules 1, finders 6, the whole 1.5), where in the walk it does.

Minutes are those that the processor spent, however busy the machine is. Needs opencv-python-headless and qrcode beside the rest. Resumable: run
the same command again.
"""

import argparse
import os
import random
import time

import cv2
import numpy as np
import torch

import export
import networks
import pictures
import sampling
import symbols
import train_control
from muon import Muon, split_parameters
from train_autoencoder import log, save_atomically, training_records

SIZES = {128: 0.6, 256: 0.4}
WAYS = {"full": 0.65, "modules": 0.25, "finders": 0.1}
STRENGTH = {"full": 1.5, "modules": 1.0, "finders": 6.0}  # in the workflow
LEARNED = {"full": 1.3, "modules": 1.0, "finders": 6.0}  # in training: what is steered more strongly has more contrast
TIMES = {"full": (0, 850), "modules": (400, 1000), "finders": (400, 960)}  # of the schedule, where the workflow shows each map
TEXT = "https://example.org/abc"
LARGE = 0.02  # weight of the mean square of painted latents


class Scenes:
    """Some scenes of one size, with their latents."""

    def __init__(self, model, size, count, rng):
        self.size = size
        self.records = training_records(20160, seed=23)[rng.integers(20160, size=count)]
        self.drawn = pictures.draw(self.records, rng, size)
        self.latents = torch.cat([seen(model, part) for part in torch.from_numpy(pictures.to_signed(self.drawn)).split(8)])

    def some(self, count, known, way, rng):
        """(records, pictures that scan in -1..1, latents of the scenes, maps). Symbols lie anywhere; small pictures show parts of them."""
        chosen = rng.integers(len(self.records), size=count)
        cells, wanted, maps = self.size // symbols.MODULE, [], []
        for scene in self.drawn[chosen]:
            one = known[int(rng.integers(len(known)))]
            room = cells - len(one[0])
            at = lambda: 0 if rng.random() < 0.3 else int(rng.integers(min(room, 0), max(room, 0) + 1))
            level = symbols.in_place(one, self.size, at(), at(), way)
            wanted.append(symbols.over(scene, level))
            maps.append(level)
        maps = torch.from_numpy(np.stack(maps).astype(np.float32) / 255)[:, None].expand(-1, 3, -1, -1)
        return self.records[chosen], torch.from_numpy(pictures.to_signed(np.stack(wanted))), self.latents[chosen], maps


class Painter(torch.nn.Module):
    """What the encoder makes of a picture that scans, latents of the scene and a map, to latents of which the decoder makes that picture."""

    def __init__(self, width=96):
        super().__init__()
        wide = lambda channels: torch.nn.Conv2d(channels, width, 3, padding=1)
        self.first = wide(2 * networks.LATENT_CHANNELS + 3)
        self.between = torch.nn.ModuleList([wide(width), wide(width)])
        self.norms = torch.nn.ModuleList([torch.nn.GroupNorm(8, width) for _ in range(3)])
        self.last = torch.nn.Conv2d(width, networks.LATENT_CHANNELS, 3, padding=1)
        torch.nn.init.zeros_(self.last.weight)
        torch.nn.init.zeros_(self.last.bias)

    def forward(self, seen, scene, maps):
        level = maps[:, :1, symbols.MODULE // 2::symbols.MODULE, symbols.MODULE // 2::symbols.MODULE]
        kinds = torch.cat([(level > 0.9).float(), (level < 0.1).float(), ((level - 0.5).abs() < 0.1).float()], dim=1)
        h = self.first(torch.cat([seen, scene, kinds], dim=1))
        for norm, layer in zip(self.norms, self.between):
            h = h + layer(torch.nn.functional.silu(norm(h)))
        return seen + self.last(torch.nn.functional.silu(self.norms[-1](h)))


@torch.no_grad()
def seen(model, x):
    with torch.autocast("cpu", torch.bfloat16):
        return model.vae.encode(x).latent_dist.mode().float() * model.scale


def pick(table, rng):
    return list(table)[int(rng.choice(len(table), p=list(table.values())))]


def learn_painter(args, model, scenes, known):
    painter = Painter()
    hidden, rest = split_parameters(painter, keep_out=("last",))
    muon, adam = Muon(hidden, lr=0.05), torch.optim.AdamW(rest, lr=5e-3, betas=(0.9, 0.99), weight_decay=0.0)
    path, step, spent = os.path.join(args.work, "painter.pt"), 0, 0.0
    if os.path.exists(path):
        saved = torch.load(path)
        painter.load_state_dict(saved["model"])
        muon.load_state_dict(saved["muon"])
        adam.load_state_dict(saved["adam"])
        step, spent = saved["step"], saved["spent"]
    rng = np.random.default_rng([8000, step])
    budget, running, last_log = args.painter_minutes * 60, None, time.time()
    while spent < budget:
        started = time.process_time()
        factor = min(1.0, (step + 1) / 10) * min(1.0, (1 - spent / budget) / 0.6)
        muon.param_groups[0]["lr"], adam.param_groups[0]["lr"] = 0.05 * factor, 5e-3 * factor
        _, x, latents, maps = scenes[128].some(4, known, pick(WAYS, rng), rng)
        with torch.autocast("cpu", torch.bfloat16):
            painted = painter(seen(model, x), latents, maps)
            made = model.vae.decode(painted / model.scale).sample.float()
        error = (made - x).square().mean()
        grey = torch.from_numpy(symbols.LUMA).view(1, 3, 1, 1)
        luma = ((made - x) * grey).sum(1).square().mean()  # what scanners look at
        # Latents much larger than those of scenes are none that the UNet could learn to make.
        (error + 2 * luma + 0.3 * (made - x).abs().mean() + LARGE * painted.float().square().mean()).backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        muon.step()
        adam.step()
        painter.zero_grad(set_to_none=True)
        step += 1
        running = error.item() if running is None else 0.95 * running + 0.05 * error.item()
        spent += time.process_time() - started
        if time.time() - last_log > 45 or spent >= budget:
            log(args.work, f"painter: step {step} spent {spent:.0f}s mse {running:.4f} spread {painted.float().std().item():.2f}")
            save_atomically(dict(model=painter.state_dict(), muon=muon.state_dict(), adam=adam.state_dict(), step=step, spent=spent), path)
            last_log = time.time()
    return painter.requires_grad_(False)


@torch.no_grad()
def workflow(model, network, prompts, text, noise, steps=25, cfg=5.0, finish=1.5):
    """Pictures that scan, as the engine draws them, with DDIM."""
    size, count, hand_over = noise.shape[-1] * 8, len(noise), 11 if steps >= 20 else max(1, round(0.44 * steps))
    one = symbols.symbol(text)
    at = (size // symbols.MODULE - len(one[0])) // 2 // 8 * 8
    scheduler = sampling.make_scheduler("ddim")
    scheduler.set_timesteps(steps)
    prompt = model.embed(list(prompts) + [""])
    prompt = torch.cat([prompt[:-1], prompt[-1:].expand(count, -1, -1)])

    def shown(way):
        level = symbols.in_place(one, size, at, at, way)
        return torch.from_numpy(np.repeat(level[None, None].astype(np.float32) / 255, 3, axis=1))

    def walk(x, times, way, strength):
        hint = shown(way).expand(2 * count, -1, -1, -1)
        for t in times:
            both = torch.cat([x, x])
            down, bottom = network(both, t, prompt, hint, conditioning_scale=strength, return_dict=False)
            out = model.unet(both, t, prompt, down_block_additional_residuals=down, mid_block_additional_residual=bottom).sample
            wanted, anything = out.chunk(2)
            x = scheduler.step(anything + cfg * (wanted - anything), t, x).prev_sample
        return x

    def start(way, time):
        clean = model.encode(2 * shown(way) - 1)
        return scheduler.add_noise(clean.expand(count, -1, -1, -1), noise, time[None].repeat(count))

    times = scheduler.timesteps
    first = min(1, hand_over - 1)
    background = walk(start("modules", times[0]), times[:hand_over], "modules", STRENGTH["modules"])
    finders = walk(start("finders", times[first]), times[first:hand_over], "finders", STRENGTH["finders"])
    mask = torch.from_numpy(symbols.finder_mask(one, size, at, at))[None, None]
    mask = torch.nn.functional.interpolate(mask, scale_factor=1 / 8, mode="bilinear")
    merged = background + mask * (finders - background)
    return model.decode(walk(merged, times[hand_over:], "full", finish))


def evaluate(model, network, count, seed, folder, size=256):
    records = sampling.held_out_records(count, seed)
    prompts = [pictures.full_caption(r) for r in records]
    made = np.concatenate([
        workflow(model, network.eval(), prompts[k:k + 4], TEXT, sampling.noise_for(count, seed, size)[k:k + 4], steps=10) for k in range(0, count, 4)
    ])
    cv2.imwrite(os.path.join(folder, "samples.png"), cv2.cvtColor(np.concatenate(list(made[:6]), axis=1), cv2.COLOR_RGB2BGR))
    return sum(symbols.read(one) == TEXT for one in made)


def learn_control(args, model, painter, scenes, known):
    network = train_control.make_control(model.unet)
    hidden, rest = split_parameters(network, keep_out=("conv_in", "conv_out", "controlnet_down_blocks", "controlnet_mid_block"))
    muon, adam = Muon(hidden, lr=0.01), torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)
    average = {k: v.detach().clone() for k, v in network.named_parameters()}
    path, step, spent = os.path.join(args.work, "control-qr.pt"), 0, 0.0
    if os.path.exists(path):
        saved = torch.load(path)
        network.load_state_dict(saved["model"])
        average, step, spent = saved["average"], saved["step"], saved["spent"]
        muon.load_state_dict(saved["muon"])
        adam.load_state_dict(saved["adam"])
    alphas = sampling.make_scheduler("ddim").alphas_cumprod.float()
    rng = np.random.default_rng([9000, step])
    random.seed(9500 + step)
    log(args.work, f"control: {networks.parameters_of(network)} parameters, from step {step}")
    budget, running, last_log, last_save = args.minutes * 60, {}, time.time(), time.time()

    def averaged():
        one = train_control.make_control(model.unet)
        one.load_state_dict(average)
        return one

    while spent < budget:
        started = time.process_time()
        factor = min(1.0, (step + 1) / 50) * min(1.0, (1 - spent / budget) / 0.6)
        muon.param_groups[0]["lr"], adam.param_groups[0]["lr"] = 0.01 * factor, 1e-3 * factor
        way, size = pick(WAYS, rng), pick(SIZES, rng)
        count = max(1, round(args.batch * (64 / size) ** 2))
        chosen, x, latents, maps = scenes[size].some(count, known, way, rng)
        with torch.no_grad():
            clean = painter(seen(model, x), latents, maps)
            text = model.embed([train_control.caption(r) if rng.random() < 0.3 else pictures.random_caption(r) if rng.random() < 0.85 else "" for r in chosen])
        low, high = TIMES[way]
        noise = torch.randn_like(clean)
        t = (low + (high - low) * (torch.arange(count) + torch.rand(count)) / count).long().clamp(0, 999)
        a, s = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        noisy = a * clean + s * noise
        strength = LEARNED[way] * float(rng.uniform(0.9, 1.1))
        down, bottom = network(noisy, t, text, maps, conditioning_scale=strength, return_dict=False)
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
        running[way] = 0.97 * running.get(way, loss.item()) + 0.03 * loss.item()
        now = time.time()
        spent += time.process_time() - started
        if now - last_log > 60:
            log(args.work, f"control: step {step} spent {spent:.0f}s loss " + " ".join(f"{k} {v:.4f}" for k, v in running.items()) + f" lr {factor:.3f}")
            last_log = now
        if now - last_save > 240 or spent >= budget:
            save_atomically(dict(model=network.state_dict(), average=average, step=step, spent=spent, muon=muon.state_dict(), adam=adam.state_dict()), path)
            if args.export:
                train_control.save(averaged(), args.export)
            last_save = time.time()
    log(args.work, f"control: {evaluate(model, averaged(), 4, step, args.work)} of 4 pictures scan")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--model", required=True, help="the exported model that is steered")
    parser.add_argument("--painter-minutes", type=float, default=3)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--export", help="folder of the finished network")
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(5)
    model = export.load(args.model)
    for part in (model.unet, model.text, model.vae):
        part.requires_grad_(False)
    known = symbols.random_symbols(150, np.random.default_rng(77))
    scenes = {128: Scenes(model, 128, 160, np.random.default_rng(78)), 256: Scenes(model, 256, 56, np.random.default_rng(79))}
    learn_control(args, model, learn_painter(args, model, scenes, known), scenes, known)


if __name__ == "__main__":
    main()
