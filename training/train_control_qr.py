"""Trains `ordu-tiny-control-qr`: a small control network with which `ordu-tiny` draws pictures that scan.

    python train_control_qr.py --work DIR --model FOLDER --painter-minutes 1 --minutes 6 --device cuda --export FOLDER

The autoencoder has never seen modules: what its encoder makes of them, its decoder does not draw. The decoder can draw them, though, from other
latents. So a small network first learns to mend what the encoder makes of such a picture, judged by what the decoder makes of that; it is used
here alone and not published. Then the control network learns: the class and size of `ordu-tiny-control-edge`, everything else frozen. Each step
has two parts:

- pictures that scan, painted into latents and noised, are to be told from the noise, with the map and the strength of the workflow;
- the workflow itself is walked (`walks.py`: its three stretches, maps and strengths, with samplers, steps, guidance and prompts as people ask for
  them), and wherever a walk is, the clean picture that the network sees there is to have its modules light and dark. Walks go on from what the
  network made itself, so that it learns from its own mistakes.

On a processor it needs hours; it was trained on a GPU. Needs opencv-python-headless and qrcode beside the rest. Resumable: run the same command again.
"""

import argparse
import os
import random
import time

import cv2
import numpy as np
import torch

import canvas
import export
import networks
import pictures
import sampling
import symbols
import train_control
import walks
from muon import Muon, split_parameters
from train_autoencoder import log, save_atomically, training_records

SIZES = {128: 0.35, 256: 0.65}
WAYS = {"full": 0.6, "modules": 0.25, "finders": 0.15}
TIMES = {"full": (0, 850), "modules": (400, 1000), "finders": (400, 960)}  # of the schedule, where the workflow shows each map
TEXT = "https://example.org/abc"
LARGE = 0.02  # weight of the mean square of painted latents
SCAN = 12.0  # weight of what scanners see


class Scenes:
    """Some scenes of one size, with their latents."""

    def __init__(self, model, size, count):
        self.size, self.records = size, training_records(20160, seed=23)[np.random.randint(20160, size=count)]
        self.drawn, _ = canvas.draw(canvas.to_numbers(self.records, model.device), size)
        self.latents = torch.cat([seen(model, 2 * part - 1) for part in self.drawn.split(16)])

    def some(self, count, known, way):
        """(records, pictures that scan in -1..1, latents of the scenes, maps). Symbols lie anywhere; small pictures show parts of them."""
        chosen = np.random.randint(len(self.records), size=count)
        here = torch.from_numpy(chosen).to(self.drawn.device)
        maps = walks.in_pixels([placed(known, self.size // symbols.MODULE, way) for _ in range(count)], self.drawn.device)
        return self.records[chosen], 2 * symbols.over_all(self.drawn[here], maps) - 1, self.latents[here], maps.expand(-1, 3, -1, -1)


def placed(known, side, way):
    one = known[np.random.randint(len(known))]
    room = side - len(one[0])
    at = lambda: 0 if random.random() < 0.3 else random.randint(min(room, 0), max(room, 0))
    return symbols.cells(one, side, at(), at(), way)


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
    return model.vae.encode(x).latent_dist.mode() * model.scale


def pick(table):
    return random.choices(list(table), list(table.values()))[0]


def wrong(luma, level, margin):
    """By how much luma misses what its map asks for, where that is black or white: half, and so much of a margin."""
    return torch.where(level > 0.9, (0.5 + margin - luma).relu(), torch.where(level < 0.1, (luma - 0.5 + margin).relu(), 0 * luma))


def misread(made, maps, near=None):
    """What a scanner minds in pictures (n, 3, h, w) in -1..1: (of pixels, of whole modules), both (n, 1, ., .). Where `near` says that finders are, which
    it looks for along lines of pixels, each pixel counts more."""
    luma, level = symbols.luma_of(made * 0.5 + 0.5), maps[:, :1]
    mean = lambda x: torch.nn.functional.avg_pool2d(x, symbols.MODULE)
    pixels = wrong(luma, level, 0.15).square()
    if near is not None:
        pixels = pixels + 8 * near * wrong(luma, level, 0.3).square()
    return pixels, wrong(mean(luma), mean(level), 0.26).square()


def learn_painter(args, model, scenes, known):
    painter = Painter().to(model.device)
    hidden, rest = split_parameters(painter, keep_out=("last",))
    muon, adam = Muon(hidden, lr=0.05), torch.optim.AdamW(rest, lr=5e-3, betas=(0.9, 0.99), weight_decay=0.0)
    path, step, spent = os.path.join(args.work, "painter.pt"), 0, 0.0
    if os.path.exists(path):
        saved = torch.load(path, map_location=model.device)
        painter.load_state_dict(saved["model"])
        step, spent = saved["step"], saved["spent"]
    budget, running, last_log = args.painter_minutes * 60, None, time.time()
    while spent < budget:
        started = time.time()
        factor = min(1.0, (spent + 0.2) / 3) * min(1.0, (1 - spent / budget) / 0.7)
        muon.param_groups[0]["lr"], adam.param_groups[0]["lr"] = 0.04 * factor, 4e-3 * factor
        size = pick(SIZES)
        _, x, latents, maps = scenes[size].some(max(1, round(args.batch * (64 / size) ** 2)), known, pick(WAYS))
        painted = painter(seen(model, x), latents, maps)
        made = model.vae.decode(painted / model.scale).sample
        error = (made - x).square().mean()
        luma = symbols.luma_of(made - x).square().mean()  # what scanners look at
        # Latents much larger than those of scenes are none that the UNet could learn to make.
        (error + 2 * luma + 0.3 * (made - x).abs().mean() + LARGE * painted.square().mean()).backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        muon.step()
        adam.step()
        painter.zero_grad(set_to_none=True)
        step += 1
        running = error.detach() if running is None else running.lerp(error.detach(), 0.05)
        spent += time.time() - started
        if time.time() - last_log > args.every or spent >= budget:
            pixels, modules = misread(made, maps)
            log(args.work, f"painter: step {step} spent {spent:.0f}s mse {running:.4f} spread {painted.std():.2f} misread {pixels.mean():.5f} {modules.mean():.5f}")
            save_atomically(dict(model=painter.state_dict(), step=step, spent=spent), path)
            last_log = time.time()
    return painter.requires_grad_(False)


def evaluate(model, network, count, seed, folder, settings):
    """How many pictures of held-out scenes OpenCV reads at twice their size, as the engine delivers them."""
    records = sampling.held_out_records(count, seed)
    known = [symbols.symbol(TEXT)]
    made = []
    for k in range(0, count, 10):
        prompts = [pictures.full_caption(r) for r in records[k:k + 10]]
        walk = walks.Walk(model, prompts, known * len(prompts), 32, settings, seed + k)
        made.append(model.decode(walk.run(network)))
    made = np.concatenate(made)
    larger = [cv2.resize(one, None, fx=2, fy=2, interpolation=cv2.INTER_LANCZOS4) for one in made]
    cv2.imwrite(os.path.join(folder, "samples.png"), cv2.cvtColor(np.concatenate(list(made[:6]), axis=1), cv2.COLOR_RGB2BGR))
    return sum(symbols.read(one) == TEXT for one in larger)


def averaged(model, average):
    one = train_control.make_control(model.unet).to(model.device)
    one.load_state_dict(average)
    return one.eval().requires_grad_(False)


def painted_loss(args, model, painter, scenes, known, network, alphas):
    way, size = pick(WAYS), pick(SIZES)
    count = max(1, round(args.batch * (64 / size) ** 2))
    chosen, x, latents, maps = scenes[size].some(count, known, way)
    with torch.no_grad():
        clean = painter(seen(model, x), latents, maps)
        text = model.embed([train_control.caption(r) if random.random() < 0.3 else pictures.random_caption(r) if random.random() < 0.85 else "" for r in chosen])
    low, high = TIMES[way]
    noise = torch.randn_like(clean)
    t = (low + (high - low) * (torch.arange(count) + torch.rand(count)) / count).long().clamp(0, 999).to(model.device)
    a, s = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
    noisy = a * clean + s * noise
    strength = walks.STRENGTH[way] * random.uniform(*((0.75, 1.25) if way == "full" else (0.9, 1.1)))
    out = walks.velocity(model, network, noisy, t, text, maps, strength)
    weight = torch.clamp(5.0 / (1.0 + (a * a / (s * s)).flatten()), max=1.0)
    return way, (weight * (out - (a * noise - s * clean)).square().mean(dim=(1, 2, 3))).mean()


def learn_control(args, model, painter, scenes, known):
    network = train_control.make_control(model.unet).to(model.device)
    hidden, rest = split_parameters(network, keep_out=("conv_in", "conv_out", "controlnet_down_blocks", "controlnet_mid_block"))
    muon, adam = Muon(hidden, lr=0.01), torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)
    average = {k: v.detach().clone() for k, v in network.named_parameters()}
    path, step, spent = os.path.join(args.work, "control-qr.pt"), 0, 0.0
    if os.path.exists(path):
        saved = torch.load(path, map_location=model.device)
        network.load_state_dict(saved["model"])
        average, step, spent = saved["average"], saved["step"], saved["spent"]
        if "muon" in saved:
            muon.load_state_dict(saved["muon"])
            adam.load_state_dict(saved["adam"])
    alphas = sampling.make_scheduler("ddim").alphas_cumprod.float().to(model.device)
    long = symbols.random_symbols(max(4, len(known) // 6), np.random.default_rng(80), (26, 45))
    log(args.work, f"control: {networks.parameters_of(network)} parameters, from step {step}")
    budget, running, last_log, last_save, walk = args.minutes * 60, {}, time.time(), time.time(), None
    while spent < budget:
        started = time.time()
        factor = min(1.0, (spent + 0.5) / 5) * min(1.0, (1 - spent / budget) / 0.6)
        muon.param_groups[0]["lr"], adam.param_groups[0]["lr"] = args.rate * factor, 0.1 * args.rate * factor
        way, loss = painted_loss(args, model, painter, scenes, known, network, alphas)
        loss.backward()
        if walk is None or walk.is_over():
            walk = walks.random_walk(model, args.walks, known, long)
        clean, maps, weight, stretch = walk.step(network)
        pixels, modules = misread(model.vae.decode(clean / model.scale).sample, maps, None if stretch == "modules" else walk.near)
        inside = weight.expand(len(maps), -1, -1, -1)
        smaller = torch.nn.functional.avg_pool2d(inside, symbols.MODULE)
        scan = (pixels * inside).sum() / inside.sum() + 2 * (modules * smaller).sum() / smaller.sum()
        (SCAN * scan).backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        muon.step()
        adam.step()
        network.zero_grad(set_to_none=True)
        step += 1
        keep = min(0.998, step / (step + 20))
        torch._foreach_lerp_(list(average.values()), [v.detach() for v in network.parameters()], 1 - keep)
        for name, value in ((way, loss), ("scan " + stretch, scan)):
            running[name] = value.detach() if name not in running else running[name].lerp(value.detach(), 0.03)
        spent += time.time() - started
        if time.time() - last_log > args.every:
            log(args.work, f"control: step {step} spent {spent:.0f}s " + " ".join(f"{k} {v:.4f}" for k, v in sorted(running.items())) + f" lr {factor:.3f}")
            last_log = time.time()
        if time.time() - last_save > 3 * args.every or spent >= budget:
            save_atomically(dict(model=network.state_dict(), average=average, step=step, spent=spent, muon=muon.state_dict(), adam=adam.state_dict()), path)
            if args.export:
                train_control.save(averaged(model, average), args.export)
            with torch.no_grad():
                found = evaluate(model, averaged(model, average), args.looks, step, args.work, walks.USUAL)
            log(args.work, f"control: {found} of {args.looks} pictures scan")
            last_save = time.time()
    return averaged(model, average)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--model", required=True, help="the exported model that is steered")
    parser.add_argument("--painter-minutes", type=float, default=3)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--batch", type=int, default=32, help="pictures of 64 pixels, or as much work in larger ones")
    parser.add_argument("--walks", type=int, default=2)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--scenes", type=int, default=160)
    parser.add_argument("--looks", type=int, default=4)
    parser.add_argument("--every", type=float, default=60, help="seconds between lines of the log")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--export", help="folder of the finished network")
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(int(time.time()))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    model = export.load(args.model).to(args.device)
    known = symbols.random_symbols(4 * args.scenes, np.random.default_rng(77))
    scenes = {128: Scenes(model, 128, args.scenes), 256: Scenes(model, 256, max(4, args.scenes // 2))}
    log(args.work, "scenes are drawn")
    network = learn_control(args, model, learn_painter(args, model, scenes, known), scenes, known)
    if args.looks >= 8:
        with torch.no_grad():
            for settings in walks.TRIED:
                found = evaluate(model, network, 20, 1, args.work, settings)
                log(args.work, f"control: {settings}: {found} of 20 pictures scan")


if __name__ == "__main__":
    main()
