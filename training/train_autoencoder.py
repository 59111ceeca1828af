"""Trains the autoencoder (factor 8, 8 latent channels), then writes the latents of all training pictures.

    python train_autoencoder.py --work DIR --minutes 12

Loss: mean square error + 0.3 * mean absolute error + a small pull of the latents' posterior to the normal distribution, which makes the
decoder tolerate small errors of the diffusion model. Resumable: run the same command again. The schedule follows time spent, not steps.

With --decoder-minutes the encoder is left as it is (latents stay valid, a diffusion model may be in training on them) and the decoder alone
is trained on for so long; with --sizes at all SIZES.

With --sizes-minutes encoder and decoder are trained on for so long with pictures of all SIZES, some of them with a grey hole (as
train_holes.py does: cells that the hole does not touch must not notice it). --start FOLDER then begins with an exported model.

Writes DIR/autoencoder.pt (checkpoint), DIR/autoencoder/ (diffusers folder), DIR/latents.npz (attribute records, latents' mean and spread),
and with --sizes-minutes DIR/latents-SIZE.npz of every size, with the pictures.
"""

import argparse
import os
import time

import numpy as np
import torch

import networks
import pictures
from muon import Muon, split_parameters


# Side of a picture -> how many are drawn, and how often a step of training takes pictures of this size.
SIZES = {64: (20160, 0.35), 96: (6048, 0.15), 128: (6048, 0.25), 192: (2016, 0.15), 256: (2016, 0.10)}


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
        count = max(1, 128 * 64 * 64 // drawn.shape[1] ** 2)
        for i in range(0, len(drawn), count):
            d = model.encode(torch.from_numpy(pictures.to_signed(drawn[i:i + count]))).latent_dist
            means.append(d.mean.float().numpy())
            spreads.append(d.std.float().numpy())
    return np.concatenate(means), np.concatenate(spreads)


@torch.no_grad()
def reconstruction_error(model, count=256, seed=7, size=64):
    """Mean square error (pixels -1..1) on freshly drawn held-out pictures, latents at the posterior's mode, f32."""
    _, held_out = pictures.split()
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(pictures.to_signed(pictures.draw(held_out[rng.integers(len(held_out), size=count)], rng, size)))
    errors = []
    for part in x.split(16):
        errors.append((model.decode(model.encode(part).latent_dist.mode()).sample.clamp(-1, 1) - part).square().mean(dim=(1, 2, 3)))
    return torch.cat(errors).mean().item()


def latents_file(work, size):
    return os.path.join(work, "latents.npz" if size == 64 else f"latents-{size}.npz")


def continue_decoder(args):
    """Trains the decoder of DIR/autoencoder on the cached latents and replaces its weights there."""
    from diffusers import AutoencoderKL
    folder = os.path.join(args.work, "autoencoder")
    model = AutoencoderKL.from_pretrained(folder)
    sizes = list(SIZES) if args.sizes else [64]
    shelf = {}
    for size in sizes:
        data = np.load(latents_file(args.work, size))
        shelf[size] = drawn_at(size)[1], torch.from_numpy(data["mean"]), torch.from_numpy(data["spread"])
    measure = lambda: [reconstruction_error(model.eval(), 64 if size < 192 else 16, size=size) for size in sizes]
    before = measure()
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
        size, share = pick_size(rng) if args.sizes else (64, 1.0)
        drawn, mean, spread = shelf[size]
        pick = rng.integers(len(drawn), size=max(1, round(args.batch * share)))
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
    after = measure()
    told = " ".join(f"{size}: {old:.5f} -> {new:.5f}" for size, old, new in zip(sizes, before, after))
    log(args.work, f"decoder: {step} steps, held-out mse {told}")
    if sum(after) < sum(before):
        replace(model, folder)


def replace(model, folder):
    """Puts the model's files into a folder, one by one and whole."""
    model.save_pretrained(folder + ".part")
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder + ".part"):
        os.replace(os.path.join(folder + ".part", name), os.path.join(folder, name))
    os.rmdir(folder + ".part")


def drawn_at(size):
    """(records, pictures) for the training at a size; those of 64 are the ones that the first training used."""
    records = training_records(SIZES[size][0], seed=11)
    return records, pictures.draw(records, np.random.default_rng(12 if size == 64 else 12 + size), size)


def pick_size(rng):
    """The size of the pictures of one step, and how many of them are as much work as one of 64x64."""
    size = int(rng.choice(list(SIZES), p=[share for _, share in SIZES.values()]))
    return size, (64 / size) ** 2


def learn_sizes(args):
    """Trains DIR/autoencoder (or that of --start) on with pictures of all sizes, then writes the latents of each."""
    from diffusers import AutoencoderKL
    import train_holes
    folder = os.path.join(args.work, "autoencoder")
    found = folder if os.path.exists(folder) else os.path.join(args.start, "vae")
    model = AutoencoderKL.from_pretrained(found, torch_dtype=torch.float32)
    drawn = {size: drawn_at(size) for size in SIZES}
    measure = lambda: " ".join(f"{size}: {reconstruction_error(model, 64 if size < 192 else 16, size=size):.5f}" for size in SIZES)
    log(args.work, f"sizes: before, held-out mse {measure()}")
    hidden, rest = split_parameters(model, keep_out=("conv_in", "conv_out", "quant_conv"))
    muon, adam = Muon(hidden, lr=0.006), torch.optim.AdamW(rest, lr=7e-4, betas=(0.9, 0.99), weight_decay=0.0)
    rng = np.random.default_rng(4000)
    begun = last_log = time.time()
    step, running, budget = 0, {}, args.sizes_minutes * 60
    while (progress := (time.time() - begun) / budget) < 1:
        factor = min(1.0, (step + 1) / 30) * min(1.0, (1 - progress) / 0.8)
        muon.param_groups[0]["lr"], adam.param_groups[0]["lr"] = 0.006 * factor, 7e-4 * factor
        size, share = pick_size(rng)
        count = max(1, round(args.batch * share))
        pick = rng.integers(len(drawn[size][1]), size=count)
        chosen = drawn[size][1][pick]
        x = torch.from_numpy(pictures.to_signed(chosen))
        with torch.autocast("cpu", torch.bfloat16):
            posterior = model.encode(x).latent_dist
            out = model.decode(posterior.sample()).sample
        difference = out.float() - x
        mse = difference.square().mean()
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = mse + 0.2 * difference.abs().mean() + args.kl * kl
        if step % 2 == 0:  # half a batch with holes
            half = max(1, count // 2)
            mask = train_holes.holes(chosen[:half], rng)
            with torch.autocast("cpu", torch.bfloat16):
                holed = model.encode(x[:half] * (1 - mask)).latent_dist
            keep = 1 - train_holes.cells(mask)
            error = ((holed.mean.float() - mean[:half].detach()).square() * keep).mean(dim=(1, 2, 3)) / keep.mean(dim=(1, 2, 3)).clamp(min=0.05)
            loss = loss + 0.2 * error.mean()
            running["holes"] = 0.97 * running.get("holes", error.mean().item()) + 0.03 * error.mean().item()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        muon.step()
        adam.step()
        model.zero_grad(set_to_none=True)
        step += 1
        running[size] = 0.97 * running.get(size, mse.item()) + 0.03 * mse.item()
        if time.time() - last_log > 60:
            last_log = time.time()
            log(args.work, f"sizes: step {step} " + " ".join(f"{k}: {v:.5f}" for k, v in sorted(running.items(), key=str)))
    model.eval()
    log(args.work, f"sizes: {step} steps, held-out mse {measure()}")
    variances = []
    for size, (records, chosen) in drawn.items():
        mean, spread = encode_all(model, chosen)
        variances.append(mean.var() + (spread ** 2).mean())
        np.savez(latents_file(args.work, size), records=records.astype(np.int8), mean=mean, spread=spread)
        log(args.work, f"sizes: {len(mean)} latents of {size} pixels, std {mean.std():.3f}")
    model.register_to_config(scaling_factor=float(1 / np.sqrt(np.mean(variances))))
    replace(model, folder)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=20160)  # 10 of each training combination
    parser.add_argument("--kl", type=float, default=5e-4)
    parser.add_argument("--decoder-minutes", type=float, help="only train the decoder of a finished autoencoder on")
    parser.add_argument("--sizes-minutes", type=float, help="train encoder and decoder on with pictures of all sizes")
    parser.add_argument("--sizes", action="store_true", help="with --decoder-minutes: pictures of all sizes")
    parser.add_argument("--start", help="with --sizes-minutes: the exported model to begin with")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)

    if args.sizes_minutes:
        learn_sizes(args)
        return
    if args.decoder_minutes:
        continue_decoder(args)
        return
    records = training_records(args.pictures, seed=11)
    drawn = pictures.draw(records, np.random.default_rng(12))
    log(args.work, f"autoencoder: {len(drawn)} pictures drawn")
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
