"""Teaches the encoder to see past the grey holes of inpainting, without moving the latent space.

    python train_holes.py --work DIR --minutes 8

For inpainting the engine paints the masked pixels neutral grey before it encodes. An encoder that never saw grey lets the hole disturb the
latents of the whole picture (its normalisation and attention are global). Here the encoder learns from its former self: for the whole
picture it must give the same latents as before; for the picture with a hole, the same latents in every cell that the hole does not touch.
What the hidden part had whispered into those cells cannot be guessed, so it goes. Decoder and diffusion model stay valid;
both gain from a little more training on the new latents, which this script writes.
"""

import argparse
import os
import time

import numpy as np
import torch
from diffusers import AutoencoderKL

import pictures
from muon import Muon, split_parameters
from train_autoencoder import encode_all, log, reconstruction_error, training_records


def holes(drawn, rng):
    """One rectangle per picture, (n, 1, size, size), 1 inside: half of them around the shape with some margin, half anywhere."""
    size = drawn.shape[1]
    unit = size / pictures.SIZE
    masks = np.zeros((len(drawn), 1, size, size), dtype=np.float32)
    for k, picture in enumerate(drawn):
        if rng.random() < 0.5:
            ys, xs = np.nonzero((picture != picture[0, 0]).any(-1))
            x0, x1, y0, y1 = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
            m = (rng.integers(1, 13, size=4) * unit).astype(int)
            x0, x1, y0, y1 = x0 - m[0], x1 + m[1], y0 - m[2], y1 + m[3]
        else:
            w, h = (rng.integers(10, 45, size=2) * unit).astype(int)
            x0, y0 = rng.integers(-4, size - w + 5), rng.integers(-4, size - h + 5)
            x1, y1 = x0 + w, y0 + h
        masks[k, 0, max(0, y0):y1, max(0, x0):x1] = 1
    return torch.from_numpy(masks)


def cells(masks):
    """Latent cells that a mask touches, (n, 1, size / 8, size / 8)."""
    return torch.nn.functional.max_pool2d(masks, 8)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=20160)
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = os.path.join(args.work, "autoencoder")
    drawn = pictures.draw(training_records(args.pictures, seed=11), np.random.default_rng(12))  # as in train_autoencoder.py
    model = AutoencoderKL.from_pretrained(folder).eval()
    cached = np.load(os.path.join(args.work, "latents.npz"))
    wanted_mean = torch.from_numpy(cached["mean"])  # of the former self, in bf16 arithmetic: close enough to pull towards
    wanted_logvar = 2 * torch.from_numpy(cached["spread"]).log()
    before = reconstruction_error(model)
    pair = torch.nn.ModuleList([model.encoder, model.quant_conv])
    hidden, rest = split_parameters(pair, keep_out=("conv_in", "conv_out", "1."))
    muon, adam = Muon(hidden, lr=0.006), torch.optim.AdamW(rest, lr=7e-4, betas=(0.9, 0.99), weight_decay=0.0)
    rng = np.random.default_rng(3000)
    budget, begun, step = args.minutes * 60, time.time(), 0
    last_log, running = begun, None
    while (progress := (time.time() - begun) / budget) < 1:
        factor = min(1.0, (step + 1) / 20) * min(1.0, (1 - progress) / 0.7)
        muon.param_groups[0]["lr"], adam.param_groups[0]["lr"] = 0.006 * factor, 7e-4 * factor
        pick = rng.integers(len(drawn), size=args.batch)
        x = torch.from_numpy(pictures.to_signed(drawn[pick]))
        mask = holes(drawn[pick], rng)
        mask[: args.batch // 3] = 0  # a third of the pictures stay whole
        with torch.autocast("cpu", torch.bfloat16):
            d = model.encode(x * (1 - mask)).latent_dist
        keep = 1 - cells(mask)
        error = ((d.mean.float() - wanted_mean[pick]).square() * keep).mean(dim=(1, 2, 3)) / keep.mean(dim=(1, 2, 3)).clamp(min=0.05)
        other = ((d.logvar.float() - wanted_logvar[pick]).square() * keep).mean()
        (error.mean() + 0.02 * other).backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        muon.step()
        adam.step()
        pair.zero_grad(set_to_none=True)
        step += 1
        parts = np.array([error[: args.batch // 3].mean().item(), error[args.batch // 3:].mean().item()])
        running = parts if running is None else 0.97 * running + 0.03 * parts
        if time.time() - last_log > 30:
            last_log = time.time()
            log(args.work, f"holes: step {step}, latent error whole {running[0]:.4f}, with a hole {running[1]:.4f}")
    after = reconstruction_error(model)
    log(args.work, f"holes: {step} steps, held-out mse {before:.5f} -> {after:.5f}")
    model.save_pretrained(folder + ".part")
    for name in os.listdir(folder + ".part"):
        os.replace(os.path.join(folder + ".part", name), os.path.join(folder, name))
    os.rmdir(folder + ".part")
    mean, spread = encode_all(model, drawn)
    np.savez(os.path.join(args.work, "latents.npz"), records=cached["records"], mean=mean, spread=spread)


if __name__ == "__main__":
    main()
