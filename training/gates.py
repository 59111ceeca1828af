"""Measures the gates of the engine's specification on an exported model, with its f16 weights computed in f32.

    python gates.py --model FOLDER [--count 200] [--seed 100] [--report FILE.json]

Exit status 1 when a gate fails.
"""

import argparse
import json
import sys
import time

import numpy as np
import torch

import export
import judge
import pictures
import sampling
from train_autoencoder import reconstruction_error

LARGER = {96: 50, 128: 50, 192: 20}  # side -> prompts
GATES = dict(background=0.95, colour=0.95, place=0.90, shape=0.85)


def obedience(model, count, seed, sampler, cfg, steps, size=64, held_out=True):
    if held_out:
        records = sampling.held_out_records(count, seed)
    else:
        records = pictures.combinations()[np.random.default_rng(seed).integers(2240, size=count)]
    images = []
    for i in range(0, count, 50):
        prompts = [pictures.full_caption(r) for r in records[i:i + 50]]
        images.append(model.decode(model.sample(prompts, sampling.noise_for(len(prompts), seed * 1000 + i, size), steps, cfg, sampler)))
    return judge.score(np.concatenate(images), records)


def inpainting(model, count, seed, cfg, steps):
    """The shape of a drawn picture is masked (its box and 4 pixels, grown to whole latent cells) and painted again in another colour.

    The mask is painted grey (0) before encoding; masked blend in latents; then the final pixels outside the mask are the source's own.
    Gives: the share whose new shape has the wanted colour, and the wanted shape, and kept the background; the mean absolute error outside
    the mask (pixels -1..1), before and after putting the source's pixels back.
    """
    rng = np.random.default_rng(seed)
    records = sampling.held_out_records(count, seed)
    source = pictures.draw(records, rng)
    wanted = records.copy()
    for r in wanted:
        r[0] = rng.choice([c for c in range(8) if c not in (r[0], r[4])])
    mask = np.zeros((count, 1, pictures.SIZE, pictures.SIZE), dtype=np.float32)
    for k in range(count):
        ys, xs = np.nonzero((source[k] != source[k, 0, 0]).any(-1))
        low = lambda v: max(0, v.min() - 4) // 8 * 8
        high = lambda v: -(-min(pictures.SIZE, v.max() + 5) // 8) * 8
        mask[k, 0, low(ys):high(ys), low(xs):high(xs)] = 1
    mask = torch.from_numpy(mask)
    small = torch.nn.functional.max_pool2d(mask, 8)
    signed = torch.from_numpy(pictures.to_signed(source))
    latents = model.sample([pictures.full_caption(r) for r in wanted], sampling.noise_for(count, seed), steps, cfg, "ddim", known=model.encode(signed * (1 - mask)), mask=small)
    painted = model.decode(latents)
    outside = (1 - mask).expand(-1, 3, -1, -1)
    error = ((torch.from_numpy(pictures.to_signed(painted)) - signed).abs() * outside).sum() / outside.sum()
    m = mask.permute(0, 2, 3, 1).numpy()
    final = np.where(m > 0, painted, source)
    after = ((torch.from_numpy(pictures.to_signed(final)) - signed).abs() * outside).sum() / outside.sum()
    result = judge.score(final, wanted)
    return dict(new_colour=result["colour"], background=result["background"], shape=result["shape"],
                error_outside_decoded=float(error), error_outside=float(after))


def image_to_image(model, count, seed, cfg, steps, strengths, kind):
    """Mean absolute distance (pixels -1..1) to the source per strength.

    kind "other": the prompt asks for another held-out combination; so simple a picture is entirely new from strength 0.4 on, and the
    distance stays. kind "empty": no prompt, no guidance; the picture slowly forgets its source.
    """
    rng = np.random.default_rng(seed)
    signed = torch.from_numpy(pictures.to_signed(pictures.draw(sampling.held_out_records(count, seed), rng)))
    prompts = [pictures.full_caption(r) for r in sampling.held_out_records(count, seed + 1)]
    if kind == "empty":
        prompts, cfg = [""] * count, 1.0
    known = model.encode(signed)
    rows = []
    for strength in strengths:
        out = model.decode(model.sample(prompts, sampling.noise_for(count, seed), steps, cfg, "ddim", known=known, strength=strength))
        rows.append((torch.from_numpy(pictures.to_signed(out)) - signed).abs().mean(dim=(1, 2, 3)).numpy())
    rows = np.stack(rows)
    means = rows.mean(1)
    return dict(strengths=list(strengths), distance=[float(v) for v in means], ordered=bool((np.diff(means) > 0).all()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--cfg", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--samplers", default="ddim,euler")
    parser.add_argument("--report")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = export.load(args.model)
    report, failed = {}, []

    report["autoencoder_mse"] = reconstruction_error(model.vae)
    if report["autoencoder_mse"] >= 0.005:
        failed.append("autoencoder")
    print("autoencoder mse", report["autoencoder_mse"], flush=True)
    for sampler in args.samplers.split(","):
        started = time.time()
        result = obedience(model, args.count, args.seed, sampler, args.cfg, args.steps)
        result["seconds_per_picture"] = (time.time() - started) / args.count
        report[sampler] = result
        failed += [f"{sampler} {name}" for name, least in GATES.items() if result[name] < least]
        print(sampler, {k: round(v, 3) for k, v in result.items()}, flush=True)
    for size, count in LARGER.items():
        report[f"autoencoder_mse {size}"] = reconstruction_error(model.vae, count, size=size)
        result = obedience(model, count, args.seed, "ddim", args.cfg, args.steps, size)
        report[f"ddim {size}"] = result
        failed += [f"{size} pixels {name}" for name, least in GATES.items() if result[name] < least]
        print(size, "pixels", report[f"autoencoder_mse {size}"], {k: round(v, 3) for k, v in result.items()}, flush=True)
    report["inpaint"] = result = inpainting(model, 100, args.seed + 1, args.cfg, args.steps)
    if result["new_colour"] < 0.95 or result["error_outside"] >= 0.05:
        failed.append("inpaint")
    print("inpaint", result, flush=True)
    for kind, strengths, binding in (
        ("other", (0.1, 0.2, 0.3, 0.4), True), ("empty", (0.2, 0.4, 0.6, 0.8, 1.0), True), ("other", (0.4, 0.6, 0.8, 1.0), False),
    ):
        result = image_to_image(model, 24, args.seed + 2, args.cfg, args.steps, strengths, kind)
        report[f"img2img {kind} {strengths[0]}..{strengths[-1]}"] = result
        if binding and not result["ordered"]:
            failed.append(f"img2img {kind}")
        print("img2img", kind, result, flush=True)
    report["failed"] = failed
    if args.report:
        with open(args.report, "w") as f:
            json.dump(report, f, indent=2)
    print("failed:", failed or "none")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
