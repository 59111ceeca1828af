"""Trains `ordu-tiny-cutout`: a small U²-Net that tells a drawn thing from what is behind it.

    python train_cutout.py --work DIR --minutes 60 --export FOLDER

Of the class of U²-Net's small sibling (every stage equally wide), with fewer channels, under the original names. It sees shapes of all colours,
sharp and soft, over plain, shaded, striped and noisy grounds, drawn at 64 to 256 pixels and brought to the side that the network works at.

Needs backgroundremover (for the blocks of U²-Net; `pip install --no-deps backgroundremover`) beside torch and numpy. One thread. Resumable: run the
same command again.
"""

import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from backgroundremover.u2net.u2net import RSU4, RSU4F, RSU5, RSU6, RSU7
from safetensors.torch import save_file
from torch import nn

import pictures

SIDE = 128  # what the network works at: a note in its file
EARLY = 0.3  # share of the time that is spent at half that side, where a step takes a third of the time
WIDE, NARROW = 24, 8
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = {64: 0.4, 96: 0.15, 128: 0.2, 192: 0.15, 256: 0.1}  # side drawn -> how often


class Cutout(nn.Module):
    def __init__(self, wide=WIDE, narrow=NARROW):
        super().__init__()
        self.stage1 = RSU7(3, narrow, wide)
        for number, block in ((2, RSU6), (3, RSU5), (4, RSU4), (5, RSU4F), (6, RSU4F)):
            setattr(self, f"stage{number}", block(wide, narrow, wide))
        for number, block in ((5, RSU4F), (4, RSU4), (3, RSU5), (2, RSU6), (1, RSU7)):
            setattr(self, f"stage{number}d", block(2 * wide, narrow, wide))
        for number in range(1, 7):
            setattr(self, f"side{number}", nn.Conv2d(wide, 1, 3, padding=1))
        self.outconv = nn.Conv2d(6, 1, 1)

    def forward(self, x):
        """Logits: of all scales together, then of each."""
        like = lambda small, large: F.interpolate(small, size=large.shape[2:], mode="bilinear", align_corners=False)
        down = []
        for number in range(1, 7):
            x = getattr(self, f"stage{number}")(x)
            down.append(x)
            x = F.max_pool2d(x, 2, stride=2, ceil_mode=True)
        up = down[5]
        sides = [self.side6(up)]
        for number in range(5, 0, -1):
            up = getattr(self, f"stage{number}d")(torch.cat((like(up, down[number - 1]), down[number - 1]), 1))
            sides.insert(0, getattr(self, f"side{number}")(up))
        sides = [like(side, sides[0]) for side in sides]
        return [self.outconv(torch.cat(sides, 1)), *sides]


def cover(rng, size):
    """How much of each pixel a random thing covers."""
    kind = rng.choice([*pictures.SHAPES, "polygon", "ellipse"], p=[0.18, 0.18, 0.18, 0.22, 0.12, 0.12])
    centre = rng.uniform(0.25, 0.75, 2) * size
    radius = rng.uniform(0.11, 0.3) * size
    if kind in pictures.SHAPES:
        return pictures.coverage(kind, *([value] for value in (*centre, radius)), size=size)[0]
    points = (np.arange(size * 4, dtype=np.float32) + 0.5) / 4
    dx, dy = points[None, :] - centre[0], points[:, None] - centre[1]
    angle = rng.uniform(0, 2 * np.pi)
    u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    if kind == "ellipse":
        hits = (u / radius) ** 2 + (v / (radius * rng.uniform(0.5, 1))) ** 2 <= 1
    else:
        corners = rng.integers(3, 9)
        lobes = 1 + rng.uniform(0, 0.35) * np.cos(corners * np.arctan2(v, u))
        hits = u * u + v * v <= (radius * lobes) ** 2
    return hits.reshape(size, 4, size, 4).mean(axis=(1, 3), dtype=np.float32)


def colour(rng):
    if rng.random() < 0.6:
        return pictures.RGB[rng.integers(len(pictures.RGB))] + rng.normal(0, 8, 3)
    return rng.uniform(0, 255, 3)


def ground(rng, size):
    """What is behind the thing, (size, size, 3), and the colour that it mostly has."""
    base, kind = colour(rng), rng.random()
    plain = np.broadcast_to(base, (size, size, 3)).astype(np.float32)
    if kind < 0.55:
        return plain, base
    ys, xs = np.mgrid[0:size, 0:size].astype(np.float32) / size
    if kind < 0.7:  # shaded
        along = (xs * rng.normal() + ys * rng.normal())[..., None]
        return plain + along * rng.uniform(-60, 60, 3), base
    if kind < 0.8:  # striped
        wave = np.sin((xs * rng.normal() + ys * rng.normal()) * rng.uniform(10, 60))[..., None]
        return plain + wave * rng.uniform(-25, 25, 3), base
    grains = rng.normal(0, rng.uniform(5, 30), (size // int(rng.choice([1, 2, 4])),) * 2 + (3,)).astype(np.float32)
    return plain + np.kron(grains, np.ones((size // len(grains),) * 2 + (1,), np.float32)), base


def blurred(picture, rng):
    """As soft as an autoencoder draws."""
    kernel = np.exp(-0.5 * (np.arange(-2, 3) / rng.uniform(0.3, 0.9)) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(picture, [(2, 2) if side == axis else (0, 0) for side in range(3)], mode="edge")
        parts = [weight * np.take(padded, range(shift, shift + picture.shape[axis]), axis) for shift, weight in enumerate(kernel)]
        picture = sum(parts)
    return picture


def example(rng):
    """A picture, uint8 (size, size, 3), and what of it is the thing, float32 (size, size)."""
    size = int(rng.choice(list(SIZES), p=list(SIZES.values())))
    behind, base = ground(rng, size)
    thing = colour(rng)
    while np.abs(thing - base).sum() < 90:
        thing = colour(rng)
    shape = cover(rng, size)
    picture = behind + (thing - behind) * shape[..., None]
    if rng.random() < 0.6:
        picture = blurred(picture, rng)
    if rng.random() < 0.5:  # what is drawn by a network is never quite even
        bumps = torch.from_numpy(rng.normal(0, rng.uniform(2, 12), (1, 3, 9, 9)).astype(np.float32))
        picture = picture + F.interpolate(bumps, size=(size, size), mode="bicubic")[0].permute(1, 2, 0).numpy()
    picture = picture + rng.normal(0, rng.uniform(0, 6), picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), shape


def shown(picture, side=SIDE):
    """What the network is shown of a picture, (1, 3, side, side): the brightest number is 1, then as for photographs."""
    x = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
    x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
    x = x / x.max().clamp(min=1e-6)
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(DEVIATION).view(1, 3, 1, 1)


def batch_of(rng, count, side):
    xs, ys = [], []
    for _ in range(count):
        picture, shape = example(rng)
        xs.append(shown(picture, side))
        whole = torch.from_numpy(shape)[None, None]
        ys.append(F.interpolate(whole, size=(side, side), mode="bilinear", align_corners=False, antialias=True))
    return torch.cat(xs).to(memory_format=torch.channels_last), torch.cat(ys)


@torch.no_grad()
def evaluate(network, count, seed):
    """Mean and worst intersection over union, at the size of each picture."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        picture, shape = example(rng)
        out = torch.sigmoid(network(shown(picture))[0])
        out = (out - out.min()) / (out.max() - out.min())
        out = F.interpolate(out, size=shape.shape, mode="bilinear", align_corners=False, antialias=True)[0, 0].numpy() > 0.5
        both, either = (out & (shape > 0.5)).sum(), (out | (shape > 0.5)).sum()
        found.append(both / max(either, 1))
    return float(np.mean(found)), float(np.min(found)), float(np.mean(np.array(found) >= 0.9))


def log(work, text):
    line = f"{time.strftime('%H:%M:%S')} {text}"
    print(line, flush=True)
    with open(os.path.join(work, "log.txt"), "a") as file:
        file.write(line + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--export", help="folder of the finished network")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    os.makedirs(args.work, exist_ok=True)
    network = Cutout().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    path, step, spent = os.path.join(args.work, "cutout.pt"), 0, 0.0
    if os.path.exists(path):
        saved = torch.load(path)
        network.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        step, spent = saved["step"], saved["spent"]
    rng = np.random.default_rng([4000, step])
    log(args.work, f"{sum(p.numel() for p in network.parameters())} parameters, from step {step}")
    budget, running, last_log, last_save = args.minutes * 60, None, time.time(), time.time()
    while spent < budget:
        started = time.time()
        optimiser.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * min(1.0, (1 - spent / budget) / 0.6)
        side = SIDE // 2 if spent < EARLY * budget else SIDE
        x, y = batch_of(rng, args.batch, side)
        loss = sum(F.binary_cross_entropy_with_logits(out, y) for out in network(x))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        step += 1
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        now = time.time()
        spent += now - started
        if now - last_log > 60:
            log(args.work, f"step {step} spent {spent:.0f}s loss {running:.4f} at {side}")
            last_log = now
        if now - last_save > 240 or spent >= budget:
            torch.save(dict(model=network.state_dict(), optimiser=optimiser.state_dict(), step=step, spent=spent), path + ".new")
            os.replace(path + ".new", path)
            mean, worst, good = evaluate(network.eval(), 60, seed=77)
            log(args.work, f"60 pictures: mean {mean:.3f} worst {worst:.3f} at least 0.9: {100 * good:.0f} %")
            network.train()
            last_save = time.time()
    if args.export:
        os.makedirs(args.export, exist_ok=True)
        state = {name: value.half().contiguous() for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
        save_file(state, os.path.join(args.export, "model.safetensors"), metadata={"side": str(SIDE)})


if __name__ == "__main__":
    main()
