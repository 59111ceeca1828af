"""Trains `ordu-tiny-cascade`: stage A, the encoder and the vision tower first, then stages C and B by turns on what those make of pictures.

    python train_cascade.py --work DIR --model MODELS/ordu-tiny --finish HH:MM [--a-minutes 4] [--encoder-minutes 8] [--vision-minutes 6]

Resumable: parts that are finished are kept, C and B go on where they stopped. The learning rate falls to zero at `--finish`, by the clock.

What stage C learns of pictures: of one, to draw it again; of two, to draw the shape of the stronger on the ground of the other, of equally strong
ones either way round. A text that comes with them wins where they disagree. A tenth of the texts is empty, for guidance.
"""

import argparse
import datetime
import os
import random
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import cascade
import judge
import pictures
from muon import Muon, split_parameters

KEEP_OUT = ("embedding", "clf", "mapper_", "position", "clip_")
PER_RECORD = 6
VAGUE = ["", "", "a picture", "a picture", "picture", "one picture", "a", "the picture of one"]  # what is said of pictures that say it all


class Optimizers:
    def __init__(self, module, lr, adam):
        hidden, rest = split_parameters(module, KEEP_OUT)
        self.both = [Muon(hidden, lr=lr), torch.optim.AdamW(rest, lr=adam, weight_decay=0.0)]
        self.module, self.rates = module, [lr, adam]

    def step(self, share):
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        for optimizer, rate in zip(self.both, self.rates):
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def until(minutes):
    """Counts steps; yields (step, share of the learning rate) until the minutes are over."""
    begin, step = time.time(), 0
    while (gone := (time.time() - begin) / 60 / minutes) < 1:
        yield step, min(1.0, (step + 1) / 30, (1 - gone) / 0.5)
        step += 1


class Log:
    def __init__(self, work):
        self.file = open(os.path.join(work, "log.txt"), "a", buffering=1)

    def __call__(self, *words):
        line = " ".join([datetime.datetime.now().strftime("%H:%M:%S"), *map(str, words)])
        print(line, flush=True)
        self.file.write(line + "\n")


def drawings(records, work):
    """(records, pictures): some of each record at the size that stage A sees, drawn once and kept."""
    repeated, path = np.repeat(records, PER_RECORD, axis=0), os.path.join(work, "drawings.npy")
    if not os.path.exists(path):
        rng = np.random.default_rng(4)
        drawn = [pictures.draw(part, rng, cascade.NATIVE) for part in np.array_split(repeated, 200)]
        np.save(path, np.concatenate(drawn))
    return repeated, np.load(path, mmap_mode="r")


def some(drawn, count, rng):
    return drawn[np.sort(rng.integers(len(drawn), size=count))]


def train_stage_a(a, drawn, minutes, log):
    a.down_blocks[-1][1].weight.data.fill_(cascade.SCALE_B).requires_grad_(False)
    a.down_blocks[-1][1].bias.data.zero_().requires_grad_(False)
    a.vquantizer.requires_grad_(False)
    rng, optimizers = np.random.default_rng(1), Optimizers(a, 0.01, 3e-3)
    for step, share in until(minutes):
        size = 48 if step % 8 else cascade.NATIVE
        x = some(drawn, 4 if size == cascade.NATIVE else 32, rng)
        top, left = rng.integers(cascade.NATIVE - size + 1, size=2)
        x = torch.from_numpy(np.ascontiguousarray(x[:, top:top + size, left:left + size].transpose(0, 3, 1, 2))).float() / 255
        latents = a.encode(x).latents
        made = a.decode(latents + 0.06 * torch.randn_like(latents)).sample
        loss = F.mse_loss(made, x) + 0.3 * F.l1_loss(made, x)
        loss.backward()
        optimizers.step(share)
        if step % 200 == 0:
            log("stage a", step, f"{loss.item():.5f}")
    log("stage a", step, f"{loss.item():.5f}")


def aux_decoder():
    conv = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.GELU())
    up = lambda: nn.Upsample(scale_factor=2, mode="bilinear")
    return nn.Sequential(
        nn.Conv2d(16, 96, 1), nn.GELU(), nn.Conv2d(96, 96, 3, padding=1), nn.GELU(), nn.Upsample(size=(8, 8), mode="bilinear", align_corners=True),
        conv(96, 64), up(), conv(64, 48), nn.Conv2d(48, 12, 1), nn.PixelShuffle(2),
    )


def train_encoder(encoder, drawn, minutes, log):
    decoder = aux_decoder()
    rng, optimizers, others = np.random.default_rng(2), Optimizers(encoder, 0.01, 3e-3), Optimizers(decoder, 0.01, 3e-3)
    sides = [96, 96, 128]
    for step, share in until(minutes):
        x = some(drawn, 48, rng)
        wanted = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).float() / 255
        wanted = F.interpolate(wanted, size=(32, 32), mode="area")
        latents = encoder(cascade.normalised(x, cascade.IMAGENET, sides[step % 3]).contiguous(memory_format=torch.channels_last))
        made = decoder(latents + 0.15 * torch.randn_like(latents))
        loss = F.mse_loss(made, wanted) + 0.3 * F.l1_loss(made, wanted)
        loss.backward()
        optimizers.step(share)
        others.step(share)
        if step % 100 == 0:
            log("encoder", step, f"{loss.item():.5f}")
    log("encoder", step, f"{loss.item():.5f}")


def train_vision(vision, records, drawn, minutes, log):
    heads = nn.Linear(64, 8 + 4 + 5 + 2 + 8)
    rng, optimizers, others = np.random.default_rng(3), Optimizers(vision, 0.01, 2e-3), Optimizers(heads, 0.01, 2e-3)
    for step, share in until(minutes):
        places = np.sort(rng.integers(len(records), size=64))
        picked = records[places]
        seen = vision(cascade.normalised(drawn[places], cascade.CLIP, cascade.SIGHT)).image_embeds
        told = heads(seen + 0.1 * torch.randn_like(seen)).split([8, 4, 5, 2, 8], dim=1)
        wanted = torch.from_numpy(picked).long()
        losses = [F.cross_entropy(part, wanted[:, i]) for i, part in enumerate(told)]
        (sum(losses) + 0.02 * (seen.pow(2).mean() - 1).pow(2)).backward()
        optimizers.step(share)
        others.step(share)
        if step % 100 == 0:
            right = [(part.argmax(1) == wanted[:, i]).float().mean().item() for i, part in enumerate(told)]
            log("vision", step, [f"{l.item():.3f}" for l in losses], [f"{r:.2f}" for r in right], f"{seen.std().item():.2f}")


class Pool:
    """Pictures of all trained records, as what the finished parts make of them."""

    def __init__(self, parts, records, drawn, work):
        path = os.path.join(work, "pool.pt")
        if os.path.exists(path):
            self.__dict__.update(torch.load(path, weights_only=False))
        else:
            self.records, self.latents = records, {3: [], 4: []}
            self.sights, self.pixels = [], []
            for part in np.array_split(drawn, 200):
                with torch.no_grad():
                    for grid, rows in self.latents.items():
                        rows.append(parts["encoder"](cascade.normalised(part, cascade.IMAGENET, 32 * grid)).half())
                    self.sights.append(parts["vision"](cascade.normalised(part, cascade.CLIP, cascade.SIGHT)).image_embeds)
                    large = torch.from_numpy(np.ascontiguousarray(part.transpose(0, 3, 1, 2))).float() / 255
                    self.pixels.append((parts["a"].encode(large).latents / cascade.SCALE_B).half())
            self.latents = {grid: torch.cat(rows) for grid, rows in self.latents.items()}
            self.sights, self.pixels = torch.cat(self.sights), torch.cat(self.pixels)
            torch.save(self.__dict__, path)
        self.place = {tuple(int(v) for v in r): i for i, r in enumerate(self.records[::PER_RECORD])}

    def like(self, record, rng):
        """Index of a picture of a record, if it is among the trained ones."""
        place = self.place.get(tuple(int(v) for v in record))
        return None if place is None else place * PER_RECORD + rng.integers(PER_RECORD)

    def changed(self, record, columns, rng):
        """A picture of a record with some attributes drawn anew."""
        limits = (8, 4, 5, 2, 8)
        while True:
            other = np.array(record)
            for column in columns:
                other[column] = rng.integers(limits[column])
            found = self.like(other, rng) if other[0] != other[4] else None
            if found is not None:
                return found


def question(pool, record, rng):
    """(caption, [(index of a picture, strength)]) that ask for a record."""
    kind = rng.random()
    if kind < 0.45:
        return pictures.random_caption(record), []
    if kind < 0.6:  # a picture and nothing else
        return VAGUE[rng.integers(len(VAGUE))], [(pool.changed(record, (), rng), 1.0)]
    if kind < 0.75:  # a text that wins where they disagree
        column = int(rng.integers(5))
        return pictures.full_caption(record), [(pool.changed(record, (column,), rng), 1.0)]
    caption = VAGUE[rng.integers(len(VAGUE))] if rng.random() < 0.8 else pictures.full_caption(record)
    strong, weak = (1.0, 1.0) if rng.random() < 0.6 else (rng.uniform(0.8, 1.4), rng.uniform(0.3, 0.7))
    shape, ground = pool.changed(record, (4,), rng), pool.changed(record, (0, 1, 2, 3), rng)
    images = [(shape, strong), (ground, weak)]
    rng.shuffle(images)
    return caption, [(int(i), s) for i, s in images]


def times(count):
    """Times 0..1, evenly spread, a quarter of them where runs begin: a small error there is a large one in what is drawn."""
    t = (torch.arange(count) + torch.rand(count))[torch.randperm(count)] / count
    high = count // 4
    t[:high] = 1 - 0.03 * torch.rand(high) ** 3
    return t[torch.randperm(count)]


def weighed(errors, t):
    """The mean of errors, those near the beginning of runs several times."""
    return (errors * (1 + 30 * (t > 0.97))).mean()


def c_loss(c, pool, texts, rng, batch, grid):
    picked = rng.integers(len(pool.records), size=batch)
    asked = [question(pool, pool.records[i], rng) for i in picked]
    for i in range(batch):
        if rng.random() < 0.1:
            asked[i] = ("", [])
    asked_with = sorted(range(batch), key=lambda i: len(asked[i][1]))
    picked, asked = picked[asked_with], [asked[i] for i in asked_with]
    text, pooled = texts([a[0] for a in asked])
    x = pool.latents[grid][torch.from_numpy(picked)].float()
    t = times(batch)
    noise = torch.randn_like(x)
    z, losses, begin = cascade.noised(x, t, noise), [], 0
    for count in (0, 1, 2):
        end = begin + sum(len(a[1]) == count for a in asked)
        if end > begin:
            images = torch.zeros(end - begin, 1, 64) if count == 0 else torch.stack(
                [torch.stack([pool.sights[i] * s for i, s in a[1]]) for a in asked[begin:end]])
            part = slice(begin, end)
            made = c(z[part], t[part], pooled[part, None], text[part], images).sample
            losses.append((made - noise[part]).pow(2).mean((1, 2, 3)))
        begin = end
    return weighed(torch.cat(losses), t)


def b_loss(b, pool, rng, batch):
    picked = torch.from_numpy(rng.integers(len(pool.records), size=batch))
    x = pool.pixels[picked].float()
    latents = pool.latents[3 if rng.random() < 0.6 else 4][picked].float()
    latents = latents + 0.1 * torch.rand(batch, 1, 1, 1) * torch.randn_like(latents)
    t = times(batch)
    noise = torch.randn_like(x)
    made = b(cascade.noised(x, t, noise), t, torch.zeros(batch, 1, 96), effnet=latents).sample
    return weighed((made - noise).pow(2).mean((1, 2, 3)), t)


def remixes(model, count, seed):
    """How many pictures made of two carry colours of both: the shape's colour of one, the ground's of the other."""
    rng = np.random.default_rng(seed)
    every, pairs = pictures.combinations(), []
    while len(pairs) < count:
        one, two = every[rng.integers(len(every), size=2)]
        if len({one[0], one[4], two[0], two[4]}) == 4:
            pairs.append((one, two))
    sights = [model.sight(pictures.draw([pair[k] for pair in pairs], rng, cascade.NATIVE)) for k in (0, 1)]
    drawn = model.draw(["a picture"] * count, seed, images=torch.stack(sights, dim=1))
    verdicts = [judge.judge(picture) for picture in drawn]
    crossed = lambda v, one, two: v["colour"] == one[0] and v["background"] == two[4]
    both = np.mean([crossed(v, *pair) or crossed(v, *pair[::-1]) for v, pair in zip(verdicts, pairs)])
    return drawn, float(both)


def evaluate(model, held_out, log, count=32):
    rng = np.random.default_rng(9)
    records = held_out[rng.permutation(len(held_out))[:count]]
    texts = [pictures.full_caption(r) for r in records]
    obedient = judge.score(model.draw(texts, 5), records)
    log("obeys", {k: round(v, 2) for k, v in obedient.items()})
    sights = model.sight(pictures.draw(records, rng, cascade.NATIVE))[:, None]
    log("again", {k: round(v, 2) for k, v in judge.score(model.draw([""] * count, 6, images=sights), records).items()})
    log("remix", round(remixes(model, count, 7)[1], 2))


def export(parts, work):
    torch.save({name: module.state_dict() for name, module in parts.items()}, os.path.join(work, "parts.tmp"))
    os.replace(os.path.join(work, "parts.tmp"), os.path.join(work, "parts.pt"))


def stages(parts, texts, pool, finish, work, log, held_out):
    path = os.path.join(work, "stages.pt")
    averages = {name: cascade.Average(parts[name], 0.998) for name in "cb"}
    optimizers = {"c": Optimizers(parts["c"], 0.01, 2e-3), "b": Optimizers(parts["b"], 0.001, 5e-4)}
    steps = {"c": 0, "b": 0}
    if os.path.exists(path):
        kept = torch.load(path, weights_only=False)
        steps = kept["steps"]
        for name in "cb":
            parts[name].load_state_dict(kept[name])
            averages[name].module.load_state_dict(kept["average " + name])
            for optimizer, state in zip(optimizers[name].both, kept["optimizers " + name]):
                optimizer.load_state_dict(state)
    rng = np.random.default_rng(int(time.time()))
    begin, losses, saved, judged = time.time(), {"c": [], "b": []}, time.time(), time.time()
    length = max(1.0, finish - begin)
    while time.time() < finish:
        left = (finish - time.time()) / length
        for name in "cbbb":  # what C draws is soon learned; B has to be exact
            share = min(1.0, (steps[name] + 1) / 30, left / 0.5)
            loss = c_loss(parts["c"], pool, texts, rng, 96, 3 if rng.random() < 0.7 else 4) if name == "c" else b_loss(parts["b"], pool, rng, 24)
            loss.backward()
            optimizers[name].step(share)
            averages[name].rate = min(0.998, 1 - 1 / (steps[name] / 5 + 2))
            averages[name].update(parts[name])
            losses[name].append(loss.item())
            steps[name] += 1
        if len(losses["b"]) >= 60:
            log("steps", steps, {n: f"{np.mean(v):.4f}" for n, v in losses.items()}, f"{time.time() - begin:.0f} s")
            losses = {"c": [], "b": []}
        if time.time() - saved > 120 or time.time() >= finish:
            kept = {"steps": steps}
            for name in "cb":
                kept |= {name: parts[name].state_dict(), "average " + name: averages[name].module.state_dict(),
                         "optimizers " + name: [o.state_dict() for o in optimizers[name].both]}
            torch.save(kept, path + ".tmp")
            os.replace(path + ".tmp", path)
            export(parts | {name: averages[name].module for name in "cb"}, work)
            saved = time.time()
        if time.time() - judged > 480:
            evaluate(cascade.Cascade(texts, parts["vision"], parts["encoder"], averages["c"].module, averages["b"].module, parts["a"]), held_out, log)
            judged = time.time()
    export(parts | {name: averages[name].module for name in "cb"}, work)
    return averages


def finish_time(text):
    now = datetime.datetime.now()
    hour, minute = map(int, text.split(":"))
    return now.replace(hour=hour, minute=minute, second=0).timestamp()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--finish", required=True)
    parser.add_argument("--a-minutes", type=float, default=4)
    parser.add_argument("--encoder-minutes", type=float, default=8)
    parser.add_argument("--vision-minutes", type=float, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    os.makedirs(options.work, exist_ok=True)
    log = Log(options.work)
    trained, held_out = pictures.split()
    parts = dict(a=cascade.make_stage_a(), encoder=cascade.Encoder(), vision=cascade.make_vision(), c=cascade.make_stage_c(), b=cascade.make_stage_b())
    log({name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()})
    records, drawn = drawings(trained, options.work)
    see = lambda vision, drawn, minutes, log: train_vision(vision, records, drawn, minutes, log)
    for name, train, minutes in (
        ("a", train_stage_a, options.a_minutes), ("vision", see, options.vision_minutes), ("encoder", train_encoder, options.encoder_minutes),
    ):
        path = os.path.join(options.work, name + ".pt")
        if os.path.exists(path):
            parts[name].load_state_dict(torch.load(path))
        else:
            train(parts[name].train(), drawn, minutes, log)
            torch.save(parts[name].state_dict(), path)
        parts[name].eval().requires_grad_(False)
    pool = Pool(parts, records, drawn, options.work)
    log("pool", len(pool.records), {grid: f"{rows.float().std():.3f}" for grid, rows in pool.latents.items()}, f"{pool.pixels.float().std():.3f}")
    texts = cascade.Texts(options.model)
    averages = stages(parts, texts, pool, finish_time(options.finish), options.work, log, held_out)
    model = cascade.Cascade(texts, parts["vision"], parts["encoder"], averages["c"].module, averages["b"].module, parts["a"])
    evaluate(model, held_out, log, 64)


if __name__ == "__main__":
    main()
