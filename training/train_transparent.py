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

import export
import pictures
import sampling
import transparent
from train_autoencoder import log, save_atomically
from train_diffusion import draw_timesteps

RANK = 8
WIDTHS, LAYERS, ATTENDING = (16, 16, 24, 40), 1, 1
SIZES = {64: 0.65, 96: 0.15, 128: 0.2}  # side -> how often
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


def opaque(records, seed, size):
    """(pictures, alpha (n, 1, h, w), colour (n, 3, 1, 1)) of records, from a seed: the ground does not change what is drawn on it."""
    drawn = pictures.draw(records, np.random.default_rng(seed), size)
    masks = records.copy()
    masks[:, 0], masks[:, 4] = WHITE, BLACK
    alpha = pictures.draw(masks, np.random.default_rng(seed), size)[..., :1].astype(np.float32)
    low, high = pictures.RGB[BLACK][0], pictures.RGB[WHITE][0]
    alpha = torch.from_numpy(((alpha - low) / (high - low)).clip(0, 1).transpose(0, 3, 1, 2).copy())
    colour = torch.from_numpy(pictures.RGB[records[:, 0]] / 255).view(-1, 3, 1, 1)
    return drawn, alpha, colour


# ----------------------------------------------------------------------------------------------------------------- decoder


@torch.no_grad()
def views(model, count, size, seed):
    """What the decoder sees and shall tell of it: pictures as the autoencoder gives them back, from latents that are a little wrong."""
    rng = np.random.default_rng(seed)
    neutral, _ = scenes()
    every, _ = pictures.split()
    records = np.concatenate([neutral[rng.integers(len(neutral), size=count * 2 // 3)], every[rng.integers(len(every), size=count - count * 2 // 3)]])
    drawn, alpha, colour = opaque(records, seed, size)
    latents = torch.cat([model.vae.encode(part).latent_dist.mode() for part in torch.from_numpy(pictures.to_signed(drawn)).split(32)])
    wrong = torch.rand(count, 1, 1, 1) * 0.25 * latents.std()
    latents = latents + wrong * torch.randn_like(latents)
    picture = torch.cat([model.vae.decode(part).sample for part in latents.split(32)])
    return (picture * 0.5 + 0.5).clamp(0, 1), latents, alpha, colour


def overlap(made, alpha):
    a, b = made > 0.5, alpha > 0.5
    return ((a & b).sum((1, 2, 3)) / (a | b).sum((1, 2, 3)).clamp(min=1)).mean().item()


def train_decoder(args, model):
    network = transparent.AlphaDecoder(WIDTHS, LAYERS, ATTENDING, model.vae.config.latent_channels)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    path, step, spent = os.path.join(args.work, "decoder.pt"), 0, 0.0
    if os.path.exists(path):
        saved = torch.load(path)
        network.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        step, spent = saved["step"], saved["spent"]
    budget = args.decoder_minutes * 60
    log(args.work, f"decoder: {sum(p.numel() for p in network.parameters())} parameters, from step {step}")
    if spent >= budget:
        return network
    pools = {64: views(model, 1500, 64, 100 + step), 128: views(model, 300, 128, 200 + step), 192: views(model, 90, 192, 300 + step)}
    log(args.work, "decoder: pictures are drawn")
    fresh, running, last = views(model, 48, 64, 9), None, time.time()
    while spent < budget:
        started = time.time()
        optimiser.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * min(1.0, (1 - spent / budget) / 0.7 + 0.01)
        size = random.choices([64, 128, 192], [0.75, 0.2, 0.05])[0]
        picture, latents, alpha, colour = pools[size]
        chosen = torch.randint(len(picture), (max(2, 24 * 64 * 64 // (size * size)),))
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
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if time.time() - last > 60 or spent >= budget:
            made = transparent.decode(network, fresh[0], fresh[1])
            inside = fresh[2] > 0.5
            off = ((made[:, 1:] - fresh[3]).abs() * inside).sum() / (3 * inside.sum())
            log(args.work, f"decoder: step {step} spent {spent:.0f}s loss {running:.4f}; fresh: overlap {overlap(made[:, :1], fresh[2]):.3f}, colour off by {off:.3f}")
            save_atomically(dict(model=network.state_dict(), optimiser=optimiser.state_dict(), step=step, spent=spent), path)
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
    latents = model.sample(prompts, sampling.noise_for(count, seed, size)) / model.scale
    picture = (torch.cat([model.vae.decode(part).sample for part in latents.split(32)]) * 0.5 + 0.5).clamp(0, 1)
    made = transparent.decode(decoder, picture, latents)
    found = [judged(one[0].numpy(), record) for one, record in zip(made, records)]
    colours = []
    for one, record in zip(made, records):
        inside = one[0] > 0.5
        mean = one[1:][:, inside].mean(1).numpy() * 255 if inside.any() else np.zeros(3)
        colours.append(((pictures.RGB - mean) ** 2).sum(1).argmin() == record[0])
    overlaps = np.array([f[0] for f in found])
    return dict(iou=overlaps.mean(), above=(overlaps >= 0.8).mean(), place=np.mean([f[1] == r[2] for f, r in zip(found, records)]), colour=np.mean(colours)), made


def latents_of(model, count, size, seed):
    rng = np.random.default_rng(seed)
    records = scenes()[0]
    records = records[rng.integers(len(records), size=count)]
    with torch.no_grad():
        return records, model.encode(torch.from_numpy(pictures.to_signed(pictures.draw(records, rng, size))))


def train_attention(args, model, decoder):
    changes = transparent.share(model.unet, RANK)
    optimiser = torch.optim.AdamW(changes.parameters(), lr=1.5e-3, betas=(0.9, 0.99), weight_decay=0.0)
    average = {k: v.detach().clone() for k, v in changes.named_parameters()}
    path, step, spent = os.path.join(args.work, "attention.pt"), 0, 0.0
    if os.path.exists(path):
        saved = torch.load(path)
        changes.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        average, step, spent = saved["average"], saved["step"], saved["spent"]
    budget = args.minutes * 60
    log(args.work, f"attention: {sum(p.numel() for p in changes.parameters())} parameters, from step {step}")
    pools = {64: latents_of(model, 2560, 64, 400 + step), 96: latents_of(model, 400, 96, 500 + step), 128: latents_of(model, 400, 128, 600 + step)} if spent < budget else {}
    alphas, running = sampling.make_scheduler("ddim").alphas_cumprod.float(), None
    last_log, last_look = time.time(), time.time()

    def look(count):
        own = {k: v.detach().clone() for k, v in changes.named_parameters()}
        changes.load_state_dict(average)
        result, _ = evaluate(model, decoder, count, seed=step)
        log(args.work, f"attention: {count} prompts: " + " ".join(f"{k} {v:.3f}" for k, v in result.items()))
        changes.load_state_dict(own)

    while spent < budget:
        started = time.time()
        optimiser.param_groups[0]["lr"] = 1.5e-3 * min(1.0, (step + 1) / 30) * min(1.0, (1 - spent / budget) / 0.6 + 0.01)
        size = random.choices(list(SIZES), list(SIZES.values()))[0]
        records, clean = pools[size]
        batch = max(2, round(args.batch * (64 / size) ** 2))
        chosen = np.random.randint(len(records), size=batch)
        clean, text = clean[chosen], model.embed([caption(records[i]) for i in chosen])
        noise, t = torch.randn_like(clean), draw_timesteps(batch)
        a, s = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        out = model.unet(a * clean + s * noise, t, text).sample
        weight = torch.clamp(5.0 / (1.0 + (a * a / (s * s)).flatten()), max=1.0)
        loss = (weight * (out - (a * noise - s * clean)).square().mean(dim=(1, 2, 3))).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(changes.parameters(), 1.0)
        optimiser.step()
        step += 1
        keep = min(0.99, step / (step + 20))
        for k, v in changes.named_parameters():
            average[k].lerp_(v.detach(), 1 - keep)
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        now = time.time()
        spent += now - started
        if now - last_log > 60:
            log(args.work, f"attention: step {step} spent {spent:.0f}s loss {running:.4f}")
            last_log = now
        if now - last_look > 300 or spent >= budget:
            save_atomically(dict(model=changes.state_dict(), average=average, optimiser=optimiser.state_dict(), step=step, spent=spent), path)
            look(24)
            last_look = time.time()
    changes.load_state_dict(average)
    return changes


def save(module, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file({k: v.detach().half().contiguous() for k, v in module.state_dict().items()}, path)
    os.chmod(path, 0o644)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--model", required=True, help="the exported model that is changed")
    parser.add_argument("--decoder-minutes", type=float, default=12)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--export", help="folder of the finished networks")
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.makedirs(args.work, exist_ok=True)
    torch.manual_seed(int(time.time()))
    model = export.load(args.model)
    for part in (model.unet, model.text, model.vae):
        part.requires_grad_(False)
    decoder = train_decoder(args, model).eval()
    changes = train_attention(args, model, decoder)
    if args.export:
        save(changes, os.path.join(args.export, "attention.safetensors"))
        save(decoder, os.path.join(args.export, "decoder.safetensors"))
    result, _ = evaluate(model, decoder, 50, seed=100)
    log(args.work, "50 prompts: " + " ".join(f"{k} {v:.3f}" for k, v in result.items()))


if __name__ == "__main__":
    main()
