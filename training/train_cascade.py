"""Trains `ordu-tiny-cascade`: stage A, the encoder and the vision tower first, then stages C and B on what those make of pictures.

    python train_cascade.py --work DIR --model MODELS/ordu-tiny --only a --minutes 0.6 [--start DIR]      # so, too, `vision` and `encoder`
    python train_cascade.py --work DIR --model MODELS/ordu-tiny --only c --minutes 6     # these two side by side
    python train_cascade.py --work DIR --model MODELS/ordu-tiny --only b --minutes 6
    python train_cascade.py --work DIR --model MODELS/ordu-tiny --only judge

Add `--device cuda` and larger batches where there is a GPU; on a processor the stages need hours. Resumable: parts that are finished are kept, stages
go on where they stopped, or with `--afresh` from the weights they had there. The learning rate falls to zero at the end of the minutes.

What stage C learns of pictures: of one, to draw it again; of two, to draw the shape of the stronger on the ground of the other, of equally strong
ones the shape whose colour has the higher number: asked for either of the two, it drew neither every third time. A text that comes with them wins where they disagree. A tenth of the texts is empty, for guidance.
"""

import argparse
import datetime
import os
import random
import time

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import canvas
import cascade
import judge
import pictures
from muon import Muon, split_parameters

KEEP_OUT = ("embedding", "clf", "mapper_", "position", "clip_")
PER_RECORD = 24
CAPTIONS = 16  # of each record; the first tells everything
VAGUE = ["a picture", "a picture", "picture", "one picture", "a", "the picture of one", "", ""]  # what is said of pictures that say it all
LIMITS = (8, 4, 5, 2, 8)
SIDES = {3: 128, 4: 176}  # pixels a side of pictures whose smallest latents have so many
SHARE_OF_LARGE = 0.65  # of steps


class Optimizers:
    def __init__(self, module, lr, adam):
        hidden, rest = split_parameters(module, KEEP_OUT)
        is_cuda = next(module.parameters()).is_cuda
        number = lambda rate: torch.tensor(rate, device="cuda") if is_cuda else rate  # a recorded step reads it anew
        self.both = [Muon(hidden, lr=number(lr)), torch.optim.AdamW(rest, lr=number(adam), weight_decay=0.0, capturable=is_cuda)]
        self.module, self.rates = module, [lr, adam]

    def set(self, share):
        for optimizer, rate in zip(self.both, self.rates):
            for group in optimizer.param_groups:
                if torch.is_tensor(group["lr"]):
                    group["lr"].fill_(rate * share)
                else:
                    group["lr"] = rate * share

    def go(self):
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        for optimizer in self.both:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def step(self, share):
        self.set(share)
        self.go()


def worked(device):
    """Seconds of work so far: on a processor what was computed, so that others beside it do not shorten a training."""
    return time.process_time() if device == "cpu" else time.time()


def until(options):
    """Counts steps; yields (step, share of the learning rate) until the minutes are over."""
    begin, step = worked(options.device), 0
    while (gone := (worked(options.device) - begin) / 60 / max(options.minutes, 1e-9)) < 1:
        yield step, min(1.0, (step + 1) / 30, (1 - gone) / 0.6)
        step += 1


class Log:
    def __init__(self, work):
        self.file = open(os.path.join(work, "log.txt"), "a", buffering=1)

    def __call__(self, *words):
        line = " ".join([datetime.datetime.now().strftime("%H:%M:%S"), *map(str, words)])
        print(line, flush=True)
        self.file.write(line + "\n")


def some(records, count):
    return records[torch.randint(len(records), (count,), device=records.device)]


def roughened(x):
    """Pictures as they come from elsewhere: scaled, a little noisy, in other tints."""
    if random.random() < 0.5:
        side = x.shape[-1]
        x = F.interpolate(F.interpolate(x, size=(64, 64), mode="bicubic", antialias=True), size=(side, side), mode="bicubic")
    n, shift = len(x), lambda size: size * (2 * torch.rand(len(x), 3, 1, 1, device=x.device) - 1)
    noise = 0.04 * torch.rand(n, 1, 1, 1, device=x.device) * torch.randn_like(x)
    return (x * (1 + shift(0.05)) + shift(0.03) + noise).clamp(0, 1)


# ---------------------------------------------------------------------------------------------------------------- the parts


def train_stage_a(a, records, options, log):
    a.down_blocks[-1][1].weight.data.fill_(cascade.SCALE_B).requires_grad_(False)
    a.down_blocks[-1][1].bias.data.zero_().requires_grad_(False)
    a.vquantizer.requires_grad_(False)
    optimizers = Optimizers(a, 0.01, 3e-3)
    for step, share in until(options):
        x, _ = canvas.draw(some(records, options.batch // 4), cascade.NATIVE)
        latents = a.encode(x).latents
        made = a.decode(latents + 0.04 * torch.randn_like(latents)).sample
        loss = F.mse_loss(made, x) + 0.3 * F.l1_loss(made, x)
        loss.backward()
        optimizers.step(share)
        if step % 300 == 0:
            log("stage a", step, f"{loss.item():.5f}")
    log("stage a", step, f"{loss.item():.5f}")


class Reader(nn.Module):
    """Tells from latents of one size what they show, and draws it small: what the encoder is judged by."""

    def __init__(self, grid):
        super().__init__()
        conv = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.GELU())
        up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.drawn = nn.Sequential(
            nn.Conv2d(16, 96, 1), nn.GELU(), nn.Conv2d(96, 96, 3, padding=1), nn.GELU(), nn.Upsample(size=(8, 8), mode="bilinear", align_corners=True),
            conv(96, 64), up, conv(64, 48), nn.Conv2d(48, 27, 1), nn.PixelShuffle(3),
        )
        self.told = nn.Sequential(nn.Flatten(), nn.Linear(16 * grid * grid, 256), nn.GELU(), nn.Linear(256, sum(LIMITS)))

    def forward(self, latents):
        return self.drawn(latents), self.told(latents).split(LIMITS, dim=1)


def train_encoder(encoder, records, options, log):
    readers = nn.ModuleDict({str(grid): Reader(grid) for grid in (3, 4)}).to(options.device)
    optimizers, others = Optimizers(encoder, 0.01, 3e-3), Optimizers(readers, 0.01, 3e-3)
    kept = records.repeat_interleave(max(1, options.per_record // 4), 0)
    drawn = torch.cat([canvas.draw(part, cascade.NATIVE)[0].half() for part in kept.split(256)])
    for step, share in until(options):
        places = torch.randint(len(kept), (options.batch,), device=options.device)
        picked, x, grid = kept[places], drawn[places].float(), 3 if step % 3 else 4
        latents = encoder(cascade.prepared(x if step % 2 else roughened(x), cascade.IMAGENET, 32 * grid))
        made, told = readers[str(grid)](latents + 0.12 * torch.randn_like(latents))
        wanted = F.interpolate(x, size=(48, 48), mode="area")
        named = sum(F.cross_entropy(part, picked[:, i]) for i, part in enumerate(told))
        loss = F.mse_loss(made, wanted) + 0.3 * F.l1_loss(made, wanted)
        (loss + 0.01 * named).backward()
        optimizers.step(share)
        others.step(share)
        if step % 300 == 0:
            right = [(part.argmax(1) == picked[:, i]).float().mean().item() for i, part in enumerate(told)]
            log("encoder", step, f"{loss.item():.5f} {named.item():.4f}", [f"{r:.2f}" for r in right])
    log("encoder", step, f"{loss.item():.5f} {named.item():.4f}")


def train_vision(vision, records, options, log):
    heads = nn.Linear(64, sum(LIMITS)).to(options.device)
    optimizers, others = Optimizers(vision, 0.01, 2e-3), Optimizers(heads, 0.01, 2e-3)
    for step, share in until(options):
        picked = some(records, options.batch)
        seen = vision(cascade.prepared(roughened(canvas.draw(picked, cascade.NATIVE)[0]), cascade.CLIP, cascade.SIGHT)).image_embeds
        told = heads(seen + 0.1 * torch.randn_like(seen)).split(LIMITS, dim=1)
        losses = [F.cross_entropy(part, picked[:, i]) for i, part in enumerate(told)]
        (sum(losses) + 0.02 * (seen.pow(2).mean() - 1).pow(2)).backward()
        optimizers.step(share)
        others.step(share)
        if step % 300 == 0:
            right = [(part.argmax(1) == picked[:, i]).float().mean().item() for i, part in enumerate(told)]
            log("vision", step, [f"{l.item():.3f}" for l in losses], [f"{r:.2f}" for r in right], f"{seen.std().item():.2f}")
    log("vision", step, [f"{l.item():.3f}" for l in losses], f"{seen.std().item():.2f}")


TRAIN = {"a": train_stage_a, "vision": train_vision, "encoder": train_encoder}


def learn_part(name, part, records, options, log):
    path = os.path.join(options.work, name + ".pt")
    if options.start:
        part.load_state_dict(torch.load(os.path.join(options.start, name + ".pt"), map_location=options.device))
    TRAIN[name](part.train(), records, options, log)
    torch.save(part.state_dict(), path + ".part")
    os.replace(path + ".part", path)


# --------------------------------------------------------------------------------------------------------------- the stages


class Pool:
    """Pictures of all trained records, as what the finished parts make of them, and what is said of them."""

    @torch.no_grad()
    def __init__(self, parts, texts, records, options):
        self.records, self.device, self.per = records, options.device, options.per_record
        self.latents, self.pixels, self.sights = {grid: [] for grid in SIDES}, {grid: [] for grid in SIDES}, []
        for part in records.repeat_interleave(self.per, 0).split(256):
            whole, _ = canvas.draw(part, max(SIDES.values()))
            for grid, side in SIDES.items():
                x = whole if side == whole.shape[-1] else F.interpolate(whole, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1)
                self.latents[grid].append(parts["encoder"](cascade.prepared(x, cascade.IMAGENET, 32 * grid)).half())
                self.pixels[grid].append((parts["a"].encode(x).latents / cascade.SCALE_B).half())
            self.sights.append(parts["vision"](cascade.prepared(roughened(x) if random.random() < 0.5 else x, cascade.CLIP, cascade.SIGHT)).image_embeds)
        self.latents, self.pixels = ({grid: torch.cat(rows) for grid, rows in kept.items()} for kept in (self.latents, self.pixels))
        self.sights = torch.cat(self.sights)
        self.place = torch.full(LIMITS, -1, device=self.device)
        self.place[tuple(records.T)] = torch.arange(len(records), device=self.device)
        told = [[pictures.full_caption(r)] + [pictures.random_caption(r) for _ in range(CAPTIONS - 1)] for r in records.cpu().numpy()]
        both = [texts(part) for part in np.array_split(np.concatenate(told), 100)]
        self.texts, self.pooled = (torch.cat(rows).half() for rows in zip(*both))
        self.vague, self.vague_pooled = texts(VAGUE)
        self.columns = {changed: torch.tensor([c in changed for c in range(5)], device=self.device) for changed in ((4,), (0, 1, 2, 3))}

    def pictures_of(self, places):
        """Indices of a picture of each of some records."""
        return places * self.per + torch.randint(self.per, places.shape, device=self.device)

    def changed(self, places, columns):
        """Indices of pictures of records with some attributes drawn anew; columns (5,) or (n, 5): which."""
        found = places.clone()
        open_ = torch.ones_like(found, dtype=torch.bool)
        own = self.records[places]
        for _ in range(8):
            drawn = torch.stack([torch.randint(limit, places.shape, device=self.device) for limit in LIMITS], dim=1)
            other = torch.where(columns, drawn, own)
            place = self.place[tuple(other.T)]
            good = open_ & (other[:, 0] != other[:, 4]) & (place >= 0)
            found, open_ = torch.where(good, place, found), open_ & ~good
        return self.pictures_of(found)

    def caption(self, places, full):
        """(rows, summary) of a caption of each record; full (n,): of those that tell everything."""
        which = torch.where(full, 0, torch.randint(CAPTIONS, places.shape, device=self.device))
        return self.texts[places * CAPTIONS + which].float(), self.pooled[places * CAPTIONS + which].float()

    def nothing_said(self, count, empty):
        which = torch.where(empty, len(VAGUE) - 1, torch.randint(len(VAGUE), (count,), device=self.device))
        return self.vague[which], self.vague_pooled[which]


def times(count, device):
    """Times 0..1, half of them evenly spread, half where runs begin: a small error there is a large one in what is drawn."""
    shuffled = torch.rand(count, device=device).argsort()
    t = (torch.arange(count, device=device) + torch.rand(count, device=device))[shuffled] / count
    high = count // 4
    t[:high] = 1 - 0.03 * torch.rand(high, device=device) ** 3
    t[high:2 * high] = 1 - 0.2 * torch.rand(high, device=device)
    return t


def weighed(errors, t):
    """The mean of errors in the noise, where there is much of it as errors in the picture: what is told decides there, and a run takes long steps."""
    share = cascade.signal(t)
    return (errors * ((1 - share) / share / cascade.SPREAD ** 2).clamp(1, 600)).mean()


def noised_loss(network, x, **told):
    t, noise = times(len(x), x.device), torch.randn_like(x)
    made = network(cascade.noised(x, t, noise), t, **told).sample
    return weighed((made - noise).pow(2).mean((1, 2, 3)), t)


def with_one_or_none(pool, places):
    """(rows, summary, what is seen (n, 1, 64)): a text, or a text and a picture, or nothing."""
    n, kind = len(places), torch.rand(len(places), device=pool.device)
    only_text, only_picture, both, nothing = kind < 0.5, (kind >= 0.5) & (kind < 0.7), (kind >= 0.7) & (kind < 0.87), kind >= 0.87
    text, vague = pool.caption(places, both), pool.nothing_said(n, nothing)
    said = (only_text | both)
    rows, summary = (torch.where(said.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(text, vague))
    column = (torch.randint(5, (n, 1), device=pool.device) == torch.arange(5, device=pool.device)) & both[:, None]
    seen = pool.sights[pool.changed(places, column)] * (only_picture | both)[:, None]
    return rows, summary, seen[:, None]


def with_two(pool, places):
    n, dice = len(places), lambda: torch.rand(len(places), device=pool.device)
    text, vague = pool.caption(places, dice() < 2), pool.nothing_said(n, dice() < 0.1)
    said = dice() < 0.15
    rows, summary = (torch.where(said.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(text, vague))
    colour = lambda places: pool.records[places, 0]
    shape, *grounds = (pool.changed(places, pool.columns[changed]) for changed in ((4,), (0, 1, 2, 3), (0, 1, 2, 3)))
    first, second = (colour(places) > colour(ground // pool.per) for ground in grounds)
    ground, equal = torch.where(first, *grounds), (first | second) & (dice() < 0.85)
    strong, weak = torch.where(equal, 1.0, 0.8 + 0.6 * dice()), torch.where(equal, 1.0, 0.3 + 0.4 * dice())
    return rows, summary, torch.stack([pool.sights[shape] * strong[:, None], pool.sights[ground] * weak[:, None]], dim=1)


def c_loss(c, pool, batch, grid):
    losses = 0.0
    for told, share in ((with_one_or_none, 0.6), (with_two, 0.4)):
        places = torch.randint(len(pool.records), (max(4, round(batch * share)),), device=pool.device)
        rows, summary, seen = told(pool, places)
        x = pool.latents[grid][pool.pictures_of(places)].float()
        losses = losses + share * noised_loss(c, x, clip_text_pooled=summary[:, None], clip_text=rows, clip_img=seen)
    return losses


def b_loss(b, pool, batch, grid):
    places = torch.randint(len(pool.records), (batch,), device=pool.device)
    picked, dice = pool.pictures_of(places), lambda *shape: torch.rand(batch, *shape, device=pool.device)
    latents = pool.latents[grid][picked].float()
    latents = latents + 0.35 * cascade.SPREAD * dice(1, 1, 1) ** 2 * torch.randn_like(latents)
    latents = latents * (dice(1, 1, 1) > 0.04)
    summary = torch.where(dice(1) < 0.6, 0.0, torch.where(dice(1) < 0.5, pool.nothing_said(batch, dice() < 0.2)[1], pool.caption(places, dice() < 0.3)[1]))
    return noised_loss(b, pool.pixels[grid][picked].float(), clip_text_pooled=summary[:, None], effnet=latents)


class Recorded:
    """Steps on a GPU, each kind recorded once and played again: they are thousands of kernels too small for it, and starting them is most of the time."""

    def __init__(self, take):
        self.take, self.kinds = take, {}

    def __call__(self, kind):
        if kind not in self.kinds:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(3):
                    self.take(kind)
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                loss = self.take(kind)
            self.kinds[kind] = graph, loss
        graph, loss = self.kinds[kind]
        graph.replay()
        return loss


def learn_stage(name, parts, texts, pool, options, log):
    network, path = parts[name], os.path.join(options.work, name + ".pt")
    average, optimizers, begun, spent = cascade.Average(network, 0.999), Optimizers(network, options.rate, 0.2 * options.rate), 0, 0.0
    if os.path.exists(path):
        kept = torch.load(path, map_location=options.device)
        network.load_state_dict(kept["model"])
        average.module.load_state_dict(kept["average"])
        begun, spent = kept["steps"], 0.0 if options.afresh else kept["spent"]
        for optimizer, state in zip(optimizers.both, [] if options.afresh else kept["optimizers"]):
            optimizer.load_state_dict(state)
    loss_of = {"c": c_loss, "b": b_loss}[name]

    def take(grid):
        loss = loss_of(network, pool, options.batch, grid)
        loss.backward()
        optimizers.go()
        return loss.detach()

    take = Recorded(take) if options.device == "cuda" else take
    step, running, told, saved, length = begun, None, time.time(), time.time(), 60 * options.minutes
    while spent < length:
        started = worked(options.device)
        share = min(1.0, (spent + 0.3) / 5, (1 - spent / length) / 0.6)
        optimizers.set(share)
        loss = take(4 if random.random() < SHARE_OF_LARGE else 3)
        step += 1
        average.rate = min(0.999, 1 - 1 / (step / 5 + 2))
        average.update(network)
        running = loss.clone() if running is None else running.lerp(loss, 0.02)
        spent += worked(options.device) - started
        if time.time() - told > options.every:
            log("stage", name, step, f"{running:.5f} rate {share:.3f} {spent:.0f} s")
            told = time.time()
        if time.time() - saved > 3 * options.every or spent >= length:
            kept = {"model": network.state_dict(), "average": average.module.state_dict(), "steps": step, "spent": spent,
                    "optimizers": [o.state_dict() for o in optimizers.both]}
            torch.save(kept, path + ".part")
            os.replace(path + ".part", path)
            saved = time.time()


# ------------------------------------------------------------------------------------------------------------- what it can


def remixes(model, count, seed, **how):
    """How many pictures made of two carry colours of both: the shape's colour of one, the ground's of the other."""
    rng = np.random.default_rng(seed)
    every, pairs = pictures.combinations(), []
    while len(pairs) < count:
        one, two = every[rng.integers(len(every), size=2)]
        if len({one[0], one[4], two[0], two[4]}) == 4:
            pairs.append((one, two))
    drawn = [canvas.draw(canvas.to_numbers(np.stack([pair[k] for pair in pairs]), model.device), cascade.NATIVE)[0] for k in (0, 1)]
    made = model.draw(["a picture"] * count, seed, images=torch.stack([model.sight(x) for x in drawn], dim=1), **how)
    verdicts = [judge.judge(picture) for picture in made]
    crossed = lambda v, one, two: v["colour"] == one[0] and v["background"] == two[4]
    both = np.mean([crossed(v, *pair) or crossed(v, *pair[::-1]) for v, pair in zip(verdicts, pairs)])
    return [*(canvas.to_uint8(x) for x in drawn), made], float(both)


def evaluate(model, held_out, log, count=64, work=None):
    rng = np.random.default_rng(9)
    records = held_out[rng.permutation(len(held_out))[:count]]
    texts = [pictures.full_caption(r) for r in records]
    rounded = lambda scores: {k: round(v, 2) for k, v in scores.items()}
    for how in (dict(), dict(is_noisy=False, steps=25), dict(is_noisy=False, steps=15), dict(side=128)):
        made = model.draw(texts, 5, **how)
        log("obeys", how, rounded(judge.score(made, records)))
    drawn, _ = canvas.draw(canvas.to_numbers(records, model.device), cascade.NATIVE)
    log("encoded and filled", rounded(judge.score(model.decode(model.sample_b(
        model.parts["encoder"](cascade.prepared(drawn, cascade.IMAGENET, 96)), torch.randn(count, 4, 32, 32, device=model.device), 10,
        torch.zeros(count, 1, 96, device=model.device))), records)))
    log("through stage a", rounded(judge.score(model.decode(model.parts["a"].encode(drawn).latents / cascade.SCALE_B), records)))
    log("again", rounded(judge.score(model.draw(["a picture"] * count, 6, images=model.sight(drawn)[:, None]), records)))
    for how in (dict(), dict(is_noisy=False, steps=20)):
        rows, both = remixes(model, count, 7, **how)
        log("remix", how, round(both, 2))
    if work:
        lines = [np.concatenate([judge.reduced(picture).astype(np.uint8) for picture in row[:8]], axis=1) for row in (*rows, made)]
        Image.fromarray(np.concatenate(lines)).save(os.path.join(work, "samples.png"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--only", required=True, choices=[*TRAIN, "c", "b", "judge"])
    parser.add_argument("--minutes", type=float, default=5, help="of a part, of a stage")
    parser.add_argument("--start", help="folder with a part to go on from")
    parser.add_argument("--afresh", action="store_true", help="a stage keeps its weights, but begins at the full learning rate")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--per-record", type=int, default=PER_RECORD)
    parser.add_argument("--every", type=float, default=60, help="seconds between lines of the log")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(int(time.time()))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    os.makedirs(options.work, exist_ok=True)
    log = Log(options.work)
    trained, held_out = pictures.split()
    records = canvas.to_numbers(trained, options.device)
    parts = dict(a=cascade.make_stage_a(), encoder=cascade.Encoder(), vision=cascade.make_vision(), c=cascade.make_stage_c(), b=cascade.make_stage_b())
    parts = {name: part.to(options.device) for name, part in parts.items()}
    if options.only in TRAIN:
        log(options.only, sum(p.numel() for p in parts[options.only].parameters()), "parameters")
        learn_part(options.only, parts[options.only], records, options, log)
        return
    for name in ("a", "vision", "encoder"):
        parts[name].load_state_dict(torch.load(os.path.join(options.work, name + ".pt"), map_location=options.device))
        parts[name].eval().requires_grad_(False)
    cascade.widened(parts)
    texts = cascade.Texts(options.model, options.device)
    if options.only == "judge":
        for name in "cb":
            parts[name].load_state_dict(torch.load(os.path.join(options.work, name + ".pt"), map_location=options.device)["average"])
        kept = {name: part.state_dict() for name, part in parts.items()} | {"text": texts.encoder.state_dict()}
        torch.save(kept, os.path.join(options.work, "parts.pt"))
        evaluate(cascade.Cascade(texts, parts), held_out, log, work=options.work)
        return
    pool = Pool(parts, texts, records, options)
    log("pool", len(pool.sights), {grid: f"{rows.float().std():.3f}" for grid, rows in pool.latents.items()}, {grid: f"{rows.float().std():.3f}" for grid, rows in pool.pixels.items()})
    learn_stage(options.only, parts, texts, pool, options, log)


if __name__ == "__main__":
    main()
