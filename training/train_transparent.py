"""Trains `ordu-tiny-transparent`: with it, `ordu-tiny` draws shapes that stand on nothing.

    python train_transparent.py --work DIR --model FOLDER --decoder-minutes 12 --minutes 30 --export FOLDER

Changes to the attentions of the UNet let it draw every shape on a neutral ground, whatever ground the prompt names: white, or black behind a white shape. A small
network then tells from the picture and its latents what is the shape, and in which colour. UNet, text encoder and autoencoder are left as they are.

Resumable: run the same command again. Combinations that are held out (with the neutral ground as background) are not learned from.
"""

import argparse
import os
import random
import time

import numpy as np
import torch
from safetensors.torch import save_file

import canvas
import export
import pictures
import sampling
import transparent
from train_autoencoder import log, save_atomically
from train_diffusion import draw_timesteps

RANK = 8
WIDTHS, LAYERS, ATTENDING = (16, 16, 24, 40), 1, 1
SIZES = {64: 0.65, 96: 0.15, 128: 0.2}  # side -> how often
DECODER_SIZES = {64: (0.75, 6000), 128: (0.2, 1200), 192: (0.05, 360)}  # side -> how often, of how many pictures
PICTURES = {64: 10_240, 96: 1_600, 128: 1_600}  # side -> how many the changes are learned from
PART = 64  # pictures that go through the autoencoder in one go
WHITE, BLACK = pictures.COLOURS.index("white"), pictures.COLOURS.index("black")


def on_neutral_ground(records):
    records = np.array(records)
    records[:, 4] = np.where(records[:, 0] == WHITE, BLACK, WHITE)
    return records


def scenes():
    """(trained, held out): the records on a neutral ground, split as all records are."""
    trained, held_out = pictures.split()
    return tuple(np.unique(part[(part == on_neutral_ground(part)).all(axis=1)], axis=0) for part in (trained, held_out))


def plain_caption(record, rnd=random):
    """A sentence that tells of no background."""
    c, s, p, z, _ = (int(v) for v in record)
    thing = f"{pictures.SIZES[z]} {pictures.COLOURS[c]} {pictures.SHAPES[s]}" if rnd.random() < 0.75 else f"{pictures.COLOURS[c]} {pictures.SHAPES[s]}"
    place = pictures.PLACES[p] if rnd.random() < 0.75 else ""
    if rnd.random() < 0.6:
        return rnd.choice(["a ", "a ", "one ", "a picture of a "]) + thing + (rnd.choice([" at the ", " in the "]) + place if place else "")
    return thing + (rnd.choice([", ", " "]) + place if place else "")


def caption(record, rnd=random):
    draw = rnd.random()
    if draw < 0.1:
        return ""
    if draw < 0.65:
        return plain_caption(record, rnd)
    other = record.copy()
    other[4] = rnd.choice([b for b in range(8) if b != record[0]])  # told, and not drawn
    return pictures.random_caption(other, rnd)


# ----------------------------------------------------------------------------------------------------------------- decoder


@torch.no_grad()
def views(model, count, size):
    """What the decoder sees and shall tell of it: pictures as the autoencoder gives them back, from latents that are a little wrong."""
    neutral, every = scenes()[0], pictures.split()[0]
    some = lambda records, count: records[np.random.randint(len(records), size=count)]
    records = canvas.to_numbers(np.concatenate([some(neutral, count * 2 // 3), some(every, count - count * 2 // 3)]), model.device)
    drawn, alpha = canvas.draw(records, size)
    latents = torch.cat([model.vae.encode(part).latent_dist.mode() for part in (2 * drawn - 1).split(PART)])
    wrong = torch.rand(count, 1, 1, 1, device=model.device) * 0.25 * latents.std()
    latents = latents + wrong * torch.randn_like(latents)
    picture = torch.cat([model.vae.decode(part).sample for part in latents.split(PART)])
    return (picture * 0.5 + 0.5).clamp(0, 1), latents, alpha, canvas.colours(records[:, 0])


def overlap(made, alpha):
    a, b = made > 0.5, alpha > 0.5
    return ((a & b).sum((1, 2, 3)) / (a | b).sum((1, 2, 3)).clamp(min=1)).mean().item()


def train_decoder(args, model):
    network = transparent.AlphaDecoder(WIDTHS, LAYERS, ATTENDING, model.vae.config.latent_channels).to(model.device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    path, step, spent = os.path.join(args.work, "decoder.pt"), 0, 0.0
    if os.path.exists(path):
        saved = torch.load(path, map_location=model.device)
        network.load_state_dict(saved["model"])
        if "optimiser" in saved:
            optimiser.load_state_dict(saved["optimiser"])
        step, spent = saved["step"], saved["spent"]
    budget = args.decoder_minutes * 60
    log(args.work, f"decoder: {sum(p.numel() for p in network.parameters())} parameters, from step {step}")
    if spent >= budget:
        return network
    pools = {size: views(model, max(8, round(count * args.pictures)), size) for size, (_, count) in DECODER_SIZES.items()}
    log(args.work, "decoder: pictures are drawn")
    fresh, running, last = views(model, 48, 64), None, time.time()
    while spent < budget:
        started = time.time()
        optimiser.param_groups[0]["lr"] = 2e-3 * min(1.0, (spent + 1) / 5) * min(1.0, (1 - spent / budget) / 0.7 + 0.01)
        size = random.choices(list(DECODER_SIZES), [often for often, _ in DECODER_SIZES.values()])[0]
        picture, latents, alpha, colour = pools[size]
        chosen = torch.randint(len(picture), (max(2, args.decoder_batch * 64 * 64 // (size * size)),))
        turn = random.randrange(8)
        alpha = transparent.turned(alpha[chosen], turn)
        made = network(transparent.turned(picture[chosen], turn), transparent.turned(latents[chosen], turn))
        wrong = (made[:, :1] - alpha).abs() + 2 * (made[:, :1] - alpha).square()
        painted = (made[:, 1:] - colour[chosen]).abs() * (0.05 + alpha)
        loss = wrong.mean() + 3 * painted.mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        spent += time.time() - started
        running = loss.detach() if running is None else running.lerp(loss.detach(), 0.02)
        if time.time() - last > args.every or spent >= budget:
            made = transparent.decode(network, fresh[0], fresh[1])
            inside = fresh[2] > 0.5
            off = ((made[:, 1:] - fresh[3]).abs() * inside).sum() / (3 * inside.sum())
            log(args.work, f"decoder: step {step} spent {spent:.0f}s loss {running:.4f}; fresh: overlap {overlap(made[:, :1], fresh[2]):.3f}, colour off by {off:.3f}")
            save_atomically(dict(model=network.state_dict(), optimiser=optimiser.state_dict(), step=step, spent=spent), path)
            if args.export:
                save(network, os.path.join(args.export, "decoder.safetensors"))
            last = time.time()
    return network


# --------------------------------------------------------------------------------------------------------------- attention


def judged(alpha, record):
    """(overlap of the alpha with the asked shape where it is and as large as it is, its nearest place)."""
    mask = alpha > 0.5
    area = int(mask.sum())
    if area == 0:
        return 0.0, -1
    side = mask.shape[0]
    points = (np.arange(side, dtype=np.float32) + 0.5)
    ys, xs = np.nonzero(mask)
    cx, cy = xs.mean() + 0.5, ys.mean() + 0.5
    shape = record[1]
    template = pictures.inside(pictures.SHAPES[shape], points[None, :] - cx, points[:, None] - cy, np.float32(np.sqrt(area / pictures.AREA[shape])))
    near = ((pictures.PLACE_XY - np.array([cx, cy]) * 64 / side) ** 2).sum(1).argmin()
    return float((template & mask).sum() / (template | mask).sum()), int(near)


@torch.no_grad()
def evaluate(model, decoder, count, seed, size=64):
    """Pictures of held-out scenes from prompts that name no background, judged by alpha and colour."""
    _, held_out = scenes()
    rng = np.random.default_rng(seed)
    records = held_out[rng.integers(len(held_out), size=count)]
    prompts = [f"a {pictures.SIZES[z]} {pictures.COLOURS[c]} {pictures.SHAPES[s]} at the {pictures.PLACES[p]}" for c, s, p, z, _ in records]
    latents = model.sample(prompts, sampling.noise_for(count, seed, size).to(model.device)) / model.scale
    picture = (torch.cat([model.vae.decode(part).sample for part in latents.split(32)]) * 0.5 + 0.5).clamp(0, 1)
    made = transparent.decode(decoder, picture, latents).cpu()
    found = [judged(one[0].numpy(), record) for one, record in zip(made, records)]
    colours = []
    for one, record in zip(made, records):
        inside = one[0] > 0.5
        mean = one[1:][:, inside].mean(1).numpy() * 255 if inside.any() else np.zeros(3)
        colours.append(((pictures.RGB - mean) ** 2).sum(1).argmin() == record[0])
    overlaps = np.array([f[0] for f in found])
    return dict(iou=overlaps.mean(), above=(overlaps >= 0.8).mean(), place=np.mean([f[1] == r[2] for f, r in zip(found, records)]), colour=np.mean(colours)), made


@torch.no_grad()
def latents_of(model, count, size):
    records = scenes()[0]
    records = records[np.random.randint(len(records), size=count)]
    drawn, _ = canvas.draw(canvas.to_numbers(records, model.device), size)
    return records, model.encode(2 * drawn - 1)


def train_attention(args, model, decoder):
    changes = transparent.share(model.unet, RANK).to(model.device)
    optimiser = torch.optim.AdamW(changes.parameters(), lr=1.5e-3, betas=(0.9, 0.99), weight_decay=0.0)
    average = {k: v.detach().clone() for k, v in changes.named_parameters()}
    path, step, spent = os.path.join(args.work, "attention.pt"), 0, 0.0
    if os.path.exists(path):
        saved = torch.load(path, map_location=model.device)
        changes.load_state_dict(saved["model"])
        if "optimiser" in saved:
            optimiser.load_state_dict(saved["optimiser"])
        average, step, spent = saved["average"], saved["step"], saved["spent"]
    budget = args.minutes * 60
    log(args.work, f"attention: {sum(p.numel() for p in changes.parameters())} parameters, from step {step}")
    pools = {size: latents_of(model, max(8, round(count * args.pictures)), size) for size, count in PICTURES.items()} if spent < budget else {}
    alphas, running = sampling.make_scheduler("ddim").alphas_cumprod.float().to(model.device), None
    last_log, last_look = time.time(), time.time()

    def look(count):
        own = {k: v.detach().clone() for k, v in changes.named_parameters()}
        changes.load_state_dict(average)
        result, _ = evaluate(model, decoder, count, seed=step)
        log(args.work, f"attention: {count} prompts: " + " ".join(f"{k} {v:.3f}" for k, v in result.items()))
        changes.load_state_dict(own)

    while spent < budget:
        started = time.time()
        optimiser.param_groups[0]["lr"] = 1.5e-3 * min(1.0, (spent + 1) / 5) * min(1.0, (1 - spent / budget) / 0.6 + 0.01)
        size = random.choices(list(SIZES), list(SIZES.values()))[0]
        records, clean = pools[size]
        batch = max(2, round(args.batch * (64 / size) ** 2))
        chosen = np.random.randint(len(records), size=batch)
        clean, text = clean[torch.from_numpy(chosen).to(model.device)], model.embed([caption(records[i]) for i in chosen])
        noise, t = torch.randn_like(clean), draw_timesteps(batch).to(model.device)
        a, s = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        out = model.unet(a * clean + s * noise, t, text).sample
        weight = torch.clamp(5.0 / (1.0 + (a * a / (s * s)).flatten()), max=1.0)
        loss = (weight * (out - (a * noise - s * clean)).square().mean(dim=(1, 2, 3))).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(changes.parameters(), 1.0)
        optimiser.step()
        step += 1
        keep = min(0.998, step / (step + 20))
        for k, v in changes.named_parameters():
            average[k].lerp_(v.detach(), 1 - keep)
        running = loss.detach() if running is None else running.lerp(loss.detach(), 0.02)
        now = time.time()
        spent += now - started
        if now - last_log > args.every:
            log(args.work, f"attention: step {step} spent {spent:.0f}s loss {running:.4f}")
            last_log = now
        if now - last_look > 4 * args.every or spent >= budget:
            save_atomically(dict(model=changes.state_dict(), average=average, optimiser=optimiser.state_dict(), step=step, spent=spent), path)
            if args.export:
                write(average, os.path.join(args.export, "attention.safetensors"))
            look(24)
            last_look = time.time()
    changes.load_state_dict(average)
    return changes


def write(tensors, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file({k: v.detach().half().contiguous().cpu() for k, v in tensors.items()}, path)
    os.chmod(path, 0o644)


def save(module, path):
    write(module.state_dict(), path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--model", required=True, help="the exported model that is changed")
    parser.add_argument("--decoder-minutes", type=float, default=12)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--decoder-batch", type=int, default=24)
    parser.add_argument("--pictures", type=float, default=0.25, help="share of the pictures that are drawn to learn from")
    parser.add_argument("--every", type=float, default=60, help="seconds between lines of the log")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--export", help="folder of the finished networks")
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.makedirs(args.work, exist_ok=True)
    torch.manual_seed(int(time.time()))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    model = export.load(args.model).to(args.device)
    decoder = train_decoder(args, model).eval()
    changes = train_attention(args, model, decoder)
    if args.export:
        save(changes, os.path.join(args.export, "attention.safetensors"))
        save(decoder, os.path.join(args.export, "decoder.safetensors"))
    result, _ = evaluate(model, decoder, 50, seed=100)
    log(args.work, "50 prompts: " + " ".join(f"{k} {v:.3f}" for k, v in result.items()))


if __name__ == "__main__":
    main()
