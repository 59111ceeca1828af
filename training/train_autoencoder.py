"""Trains the autoencoder (factor 8, 8 latent channels), then writes the latents of all training pictures.

    python train_autoencoder.py --work DIR --minutes 12

Loss: mean square error + 0.3 * mean absolute error + a small pull of the latents' posterior to the normal distribution, which makes the
decoder tolerate small errors of the diffusion model. Resumable: run the same command again. The schedule follows time spent, not steps.

With --decoder-minutes the encoder is left as it is (latents stay valid, a diffusion model may be in training on them) and the decoder alone
is trained on for so long.

Writes DIR/autoencoder.pt (checkpoint), DIR/autoencoder/ (diffusers folder), DIR/latents.npz (attribute records, latents' mean and spread).
"""

import argparse
import os
import time

import numpy as np
import torch

import networks
import pictures
from muon import Muon, split_parameters


def log(work, text):
    line = f"{time.strftime('%H:%M:%S')} {text}"
    print(line, flush=True)
    with open(os.path.join(work, "log.txt"), "a") as f:
        f.write(line + "\n")


def save_atomically(obj, path):
    torch.save(obj, path + ".part")
    os.replace(path + ".part", path)


def training_records(count, seed):
    """`count` attribute records, every training combination (nearly) equally often."""
    train, _ = pictures.split()
    rng = np.random.default_rng(seed)
    rounds = -(-count // len(train))
    return np.concatenate([rng.permutation(train) for _ in range(rounds)])[:count]


def encode_all(model, drawn):
    """(means, spreads) of the latents' posteriors of all pictures, not scaled."""
    means, spreads = [], []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for i in range(0, len(drawn), 128):
            d = model.encode(torch.from_numpy(pictures.to_signed(drawn[i:i + 128]))).latent_dist
            means.append(d.mean.float().numpy())
            spreads.append(d.std.float().numpy())
    return np.concatenate(means), np.concatenate(spreads)


@torch.no_grad()
def reconstruction_error(model, count=256, seed=7):
    """Mean square error (pixels -1..1) on freshly drawn held-out pictures, latents at the posterior's mode, f32."""
    _, held_out = pictures.split()
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(pictures.to_signed(pictures.draw(held_out[rng.integers(len(held_out), size=count)], rng)))
    errors = []
    for part in x.split(64):
        errors.append((model.decode(model.encode(part).latent_dist.mode()).sample.clamp(-1, 1) - part).square().mean(dim=(1, 2, 3)))
    return torch.cat(errors).mean().item()


def continue_decoder(args, drawn):
    """Trains the decoder of DIR/autoencoder on the cached latents and replaces its weights there."""
    from diffusers import AutoencoderKL
    folder = os.path.join(args.work, "autoencoder")
    model = AutoencoderKL.from_pretrained(folder)
    data = np.load(os.path.join(args.work, "latents.npz"))
    mean, spread = torch.from_numpy(data["mean"]), torch.from_numpy(data["spread"])
    before = reconstruction_error(model.eval())
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)
    decoder = torch.nn.ModuleList([model.decoder, model.post_quant_conv])
    hidden, rest = split_parameters(decoder, keep_out=("conv_in", "conv_out", "1."))
    muon, adam = Muon(hidden, lr=0.008), torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)
    rng = np.random.default_rng(2000)
    begun = last_log = time.time()
    step, running, budget = 0, None, args.decoder_minutes * 60
    while (progress := (time.time() - begun) / budget) < 1:
        factor = min(1.0, (step + 1) / 30) * (1 - progress)
        muon.param_groups[0]["lr"], adam.param_groups[0]["lr"] = 0.008 * factor, 1e-3 * factor
        pick = rng.integers(len(drawn), size=args.batch)
        x = torch.from_numpy(pictures.to_signed(drawn[pick]))
        with torch.autocast("cpu", torch.bfloat16):
            out = model.decode(mean[pick] + 0.5 * spread[pick] * torch.randn_like(mean[pick])).sample
        difference = out.float() - x
        mse = difference.square().mean()
        (mse + 0.1 * difference.abs().mean()).backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        muon.step()
        adam.step()
        decoder.zero_grad(set_to_none=True)
        step += 1
        running = mse.item() if running is None else 0.98 * running + 0.02 * mse.item()
        if time.time() - last_log > 60:
            last_log = time.time()
            log(args.work, f"decoder: step {step} mse {running:.5f}")
    after = reconstruction_error(model.eval())
    log(args.work, f"decoder: {step} steps, held-out mse {before:.5f} -> {after:.5f}")
    if after < before:
        model.save_pretrained(folder + ".part")
        for name in os.listdir(folder + ".part"):
            os.replace(os.path.join(folder + ".part", name), os.path.join(folder, name))
        os.rmdir(folder + ".part")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=20160)  # 10 of each training combination
    parser.add_argument("--kl", type=float, default=5e-4)
    parser.add_argument("--decoder-minutes", type=float, help="only train the decoder of a finished autoencoder on")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)

    records = training_records(args.pictures, seed=11)
    drawn = pictures.draw(records, np.random.default_rng(12))
    log(args.work, f"autoencoder: {len(drawn)} pictures drawn")

    if args.decoder_minutes:
        continue_decoder(args, drawn)
        return
    model = networks.make_autoencoder()
    hidden, rest = split_parameters(model, keep_out=("conv_in", "conv_out", "quant_conv"))
    muon, adam = Muon(hidden, lr=0.02), torch.optim.AdamW(rest, lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0)
    base = [(group, group["lr"]) for o in (muon, adam) for group in o.param_groups]
    step, spent = 0, 0.0
    path = os.path.join(args.work, "autoencoder.pt")
    if os.path.exists(path):
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        muon.load_state_dict(saved["muon"])
        adam.load_state_dict(saved["adam"])
        step, spent = saved["step"], saved["spent"]
        base = [(group, lr) for (_, lr), group in zip(base, muon.param_groups + adam.param_groups)]
        log(args.work, f"autoencoder: resumed at step {step}, {spent:.0f} s spent")

    def save():
        save_atomically(dict(model=model.state_dict(), muon=muon.state_dict(), adam=adam.state_dict(), step=step, spent=spent), path)

    rng = np.random.default_rng(1000 + step)
    budget = args.minutes * 60
    last_log = last_save = time.time()
    running = None
    while spent < budget:
        started = time.time()
        progress = spent / budget
        factor = min(1.0, (step + 1) / 50) * min(1.0, (1 - progress) / 0.7)
        for group, lr in base:
            group["lr"] = lr * factor
        x = torch.from_numpy(pictures.to_signed(drawn[rng.integers(len(drawn), size=args.batch)]))
        with torch.autocast("cpu", torch.bfloat16):
            posterior = model.encode(x).latent_dist
            out = model.decode(posterior.sample()).sample
        difference = out.float() - x
        mse = difference.square().mean()
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = mse + 0.3 * difference.abs().mean() + args.kl * kl
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        muon.step()
        adam.step()
        model.zero_grad(set_to_none=True)
        step += 1
        running = mse.item() if running is None else 0.98 * running + 0.02 * mse.item()
        now = time.time()
        spent += now - started
        if now - last_log > 30:
            log(args.work, f"autoencoder: step {step} spent {spent:.0f}s mse {running:.5f} kl {kl.item():.3f}")
            last_log = now
        if now - last_save > 120:
            save()
            last_save = now
    save()

    model.eval()
    log(args.work, f"autoencoder: finished at step {step}, held-out mse {reconstruction_error(model):.5f}")
    means, spreads = encode_all(model, drawn)
    std = float(np.sqrt(means.var() + (spreads ** 2).mean()))
    model.register_to_config(scaling_factor=1.0 / std)
    model.save_pretrained(os.path.join(args.work, "autoencoder"))
    np.savez(os.path.join(args.work, "latents.npz"), records=records.astype(np.int8), mean=means, spread=spreads)
    per_channel = " ".join(f"{m:+.2f}/{s:.2f}" for m, s in zip(means.mean((0, 2, 3)), means.std((0, 2, 3))))
    log(args.work, f"autoencoder: latents std {std:.4f}, per channel mean/std {per_channel}, noise {spreads.mean():.3f}")


if __name__ == "__main__":
    main()
