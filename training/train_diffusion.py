"""Trains the UNet and the text encoder together on the cached latents.

    python train_diffusion.py --work DIR --finish HH:MM [--export FOLDER]

The learning rate follows the wall clock and reaches zero at --finish, however busy the machine is. A checkpoint (weights, their average,
optimisers, step) is written every few minutes; running the same command again resumes. Every --evaluate minutes 64 held-out prompts are
sampled and judged, and the averaged weights are exported.

Two (or --workers) single-threaded processes each take a share of the batch; weights live in shared memory, and each process updates the
weights it owns with the mean of all gradients. On a machine shared with others this is several times faster than one process with as many
threads, whose hundreds of barriers per step all wait for whichever thread was preempted.

With --holes, that share of the batch practises masked blending: the cells outside a hole carry what the encoder makes of the picture with the
hole painted grey, and only the hole's cells are judged.

With --sizes (after train_autoencoder.py --sizes-minutes), each step takes pictures of one of SIZES, large ones in small batches. --start FOLDER
then begins with an exported model.

Objective: velocity prediction on a schedule with zero terminal signal-to-noise. Noise levels are drawn evenly (stratified over the batch),
the nearly clean ones less often: colours, places and shapes are decided where there is much noise.
"""

import argparse
import datetime
import os
import random
import time

import numpy as np
import torch
import torch.multiprocessing
from diffusers import AutoencoderKL
from PIL import Image

import export
import judge
import networks
import pictures
import sampling
import train_holes
from muon import Muon, split_parameters
from train_autoencoder import SIZES, drawn_at, latents_file, log, pick_size, save_atomically

CLEAN_BELOW, CLEAN_SHARE = 250, 0.4  # timesteps below are drawn at this fraction of the density of the others
CAPTION_DROPOUT = 0.1


class Pair(torch.nn.Module):
    """Both trained networks under one roof: one state dict, one optimiser, one average."""

    def __init__(self):
        super().__init__()
        self.text = networks.make_text_encoder()
        self.unet = networks.make_unet()

    def forward(self, noisy, timesteps, tokens):
        return self.unet(noisy, timesteps, self.text(tokens).last_hidden_state).sample


def draw_timesteps(count):
    """Stratified draws from the piecewise constant density described above."""
    u = (torch.arange(count) + torch.rand(count)) / count
    clean = CLEAN_BELOW * CLEAN_SHARE
    u = u * (clean + 1000 - CLEAN_BELOW)
    t = torch.where(u < clean, u / CLEAN_SHARE, u - clean + CLEAN_BELOW)
    return t.long().clamp(0, 999)[torch.randperm(count)]


def seconds_until(clock):
    now = datetime.datetime.now()
    hour, minute = map(int, clock.split(":"))
    target = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    delta = (target - now).total_seconds()
    return delta if delta > -12 * 3600 else delta + 24 * 3600


def evaluate(pair, vae, tokenizer, count, seed, size=64):
    pair.eval()
    model = sampling.Model(pair.text, pair.unet, vae, tokenizer)
    records = sampling.held_out_records(count, seed)
    latents = model.sample([pictures.full_caption(r) for r in records], sampling.noise_for(count, seed, size))
    images = model.decode(latents)
    return judge.score(images, records), images


class Pictures:
    """What is learned from at one size: attribute records, latents (the posterior's mode) and, where they are needed, the pictures."""

    def __init__(self, work, size, with_drawn):
        # The diffusion model need not learn the noise of the posterior, so its mode is all that is kept.
        data = np.load(latents_file(work, size))
        self.records, self.latents = data["records"], torch.from_numpy(data["mean"])
        self.drawn = drawn_at(size)[1][:len(self.records)] if with_drawn else None


def worker(rank, args, finish, pair, average, gradients, control, barrier):
    """One process of the training. Rank 0 also keeps the average, the log, the checkpoints and the exports.

    control (shared): [learning rate factor, stop, save].
    """
    torch.set_num_threads(args.threads)
    work = args.work
    shelf = {size: Pictures(work, size, args.holes > 0) for size in (SIZES if args.sizes else [64])}
    vae = AutoencoderKL.from_pretrained(os.path.join(work, "autoencoder")).eval()
    scale = vae.config.scaling_factor
    tokenizer = networks.make_tokenizer()
    alphas = sampling.make_scheduler("ddim").alphas_cumprod.float()

    parameters = dict(pair.named_parameters())
    names = list(parameters)
    slices, offset = {}, 0
    for name in names:
        slices[name] = slice(offset, offset + parameters[name].numel())
        offset += parameters[name].numel()
    # Ownership: largest first, each to the process with the least so far.
    load, own = [0] * args.workers, []
    for name in sorted(names, key=lambda n: -parameters[n].numel()):
        owner = load.index(min(load))
        load[owner] += parameters[name].numel()
        if owner == rank:
            own.append(name)
    hidden, _ = split_parameters(pair, keep_out=("conv_in", "conv_out", "embedding.weight"))
    hidden = {id(p) for p in hidden}
    muon = Muon([parameters[n] for n in own if id(parameters[n]) in hidden], lr=args.muon_lr, weight_decay=0.01)
    adam = torch.optim.AdamW([parameters[n] for n in own if id(parameters[n]) not in hidden], lr=args.adam_lr, betas=(0.9, 0.99), weight_decay=0.0)

    step, spent = 0, 0.0
    optimiser_path = os.path.join(work, f"diffusion.optimiser{rank}of{args.workers}.pt")
    path = os.path.join(work, "diffusion.pt")
    if os.path.exists(path):
        saved = torch.load(path)
        step, spent = saved["step"], saved["spent"]
        if os.path.exists(optimiser_path):
            saved = torch.load(optimiser_path)
            muon.load_state_dict(saved["muon"])
            adam.load_state_dict(saved["adam"])

    def publish(count):
        averaged = Pair()
        averaged.load_state_dict(average, strict=False)
        vae = AutoencoderKL.from_pretrained(os.path.join(work, "autoencoder")).eval()  # its decoder may have been trained on meanwhile
        if args.export:
            export.export(averaged.text, averaged.unet, vae, args.export)
        if count:
            result, images = evaluate(averaged, vae, tokenizer, count, seed=step)
            log(work, f"diffusion: step {step}, {count} prompts: " + " ".join(f"{k} {v:.3f}" for k, v in result.items()))
            for size, few in ((96, count // 4), (128, count // 4), (256, count // 16)) if args.sizes else ():
                result, _ = evaluate(averaged, vae, tokenizer, few, seed=step, size=size)
                log(work, f"diffusion: {size} pixels, {few} prompts: " + " ".join(f"{k} {v:.3f}" for k, v in result.items()))
            tiles = images[:32].reshape(4, 8, 64, 64, 3).transpose(0, 2, 1, 3, 4).reshape(256, 512, 3)
            Image.fromarray(tiles).save(os.path.join(work, "samples.png"))

    if rank == 0:
        log(work, f"diffusion: {networks.parameters_of(pair.unet)} + {networks.parameters_of(pair.text)} parameters, "
            f"batch {args.workers} x {args.batch}, from step {step}")
        if step == 0:
            publish(0)
    rng = np.random.default_rng([5000, step, rank])
    losses = {}
    random.seed(6000 + 10 * step + rank)
    torch.manual_seed(7000 + 10 * step + rank)
    pair.train()
    begun, begun_step = time.time(), step
    last_log = last_save = last_evaluation = begun
    while True:
        started = time.time()
        if rank == 0:
            left = finish - started
            progress = spent / (spent + max(left, 0.0)) if left > 0 else 1.0
            control[0] = min(1.0, (step + 1) / 100) * min(1.0, (1 - progress) / (1 - args.decay_from))
            control[1] = float(left <= 0)
            control[2] = float(left <= 0 or started - last_save > 180)

        size, share = pick_size(rng) if args.sizes else (64, 1.0)
        batch, shown = max(1, round(args.batch * share)), shelf[size]
        holed = sum(rng.random(batch) < args.holes)
        pick = rng.integers(len(shown.records), size=batch)
        captions = ["" if random.random() < CAPTION_DROPOUT else pictures.random_caption(shown.records[i]) for i in pick]
        tokens = torch.tensor([e.ids for e in tokenizer.encode_batch(captions)])
        clean = shown.latents[pick] * scale
        counts = torch.ones_like(clean[:, :1])  # cells that the loss looks at
        if holed:
            mask = train_holes.holes(shown.drawn[pick[:holed]], rng)
            around = torch.from_numpy(pictures.to_signed(shown.drawn[pick[:holed]])) * (1 - mask)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                around = vae.encode(around).latent_dist.mode().float() * scale
            counts[:holed] = train_holes.cells(mask)
            clean[:holed] = torch.where(counts[:holed] > 0, clean[:holed], around)
        noise = torch.randn_like(clean)
        t = draw_timesteps(batch)
        a = alphas[t].sqrt().view(-1, 1, 1, 1)
        s = (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        out = pair(a * clean + s * noise, t, tokens)
        weight = torch.clamp(5.0 / (1.0 + (a * a / (s * s)).flatten()), max=1.0)
        error = ((out - (a * noise - s * clean)).square() * counts).mean(dim=(1, 2, 3)) / counts.mean(dim=(1, 2, 3))
        loss = (weight * error).mean()
        loss.backward()
        for name in names:
            if parameters[name].grad is not None:
                gradients[rank][slices[name]].copy_(parameters[name].grad.flatten())
        pair.zero_grad(set_to_none=True)

        barrier.wait()
        factor, stop, saving = control.tolist()
        for group in muon.param_groups:
            group["lr"] = args.muon_lr * factor
        for group in adam.param_groups:
            group["lr"] = args.adam_lr * factor
        for name in own:
            parts = [g[slices[name]] for g in gradients]
            parameters[name].grad = (sum(parts) / len(parts)).view_as(parameters[name])
        muon.step()
        adam.step()
        pair.zero_grad(set_to_none=True)
        step += 1
        if saving:
            save_atomically(dict(muon=muon.state_dict(), adam=adam.state_dict(), step=step), optimiser_path)
        barrier.wait()

        if rank == 0:
            keep = min(args.average, step / (step + 20))
            torch._foreach_lerp_([average[k] for k in names], [parameters[k].detach() for k in names], 1 - keep)
            losses[size] = 0.98 * losses.get(size, loss.item()) + 0.02 * loss.item()
            now = time.time()
            spent += now - started
            if saving:
                save_atomically(dict(model=pair.state_dict(), average=average, step=step, spent=spent), path)
                last_save = now
            if now - last_log > 60:
                rate = (step - begun_step) / (now - begun)
                loss = " ".join(f"{size}: {value:.4f}" for size, value in sorted(losses.items()))
                log(work, f"diffusion: step {step} spent {spent:.0f}s loss {loss} lr {factor:.3f}, {rate:.2f} steps/s")
                last_log = now
            if not stop and now - last_evaluation > args.evaluate * 60:
                publish(64)
                pair.train()
                last_evaluation = time.time()
        if stop:
            break
    if rank == 0:
        publish(64)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--finish", required=True, help="HH:MM, local time, within the next 12 hours")
    parser.add_argument("--export", help="folder for the averaged weights at each evaluation")
    parser.add_argument("--holes", type=float, default=0.0, help="share of the batch trained as inpainting (after train_holes.py)")
    parser.add_argument("--sizes", action="store_true", help="pictures of all sizes (after train_autoencoder.py --sizes-minutes)")
    parser.add_argument("--start", help="the exported model to begin with, where no training has begun")
    parser.add_argument("--average", type=float, default=0.999, help="decay of the averaged weights; shorter for a short continuation")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64, help="per worker")
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--adam-lr", type=float, default=2e-3)
    parser.add_argument("--evaluate", type=float, default=10, help="minutes between evaluations")
    parser.add_argument("--decay-from", type=float, default=0.3, help="share of the time after which the learning rate falls")
    parser.add_argument("--threads", type=int, default=1, help="per worker")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    finish = time.time() + seconds_until(args.finish)

    torch.manual_seed(2)
    pair = Pair()
    if args.start:
        published = export.load(args.start)
        pair.text.load_state_dict(published.text.state_dict())
        pair.unet.load_state_dict(published.unet.state_dict())
    average = {k: v.detach().clone() for k, v in pair.named_parameters()}
    path = os.path.join(args.work, "diffusion.pt")
    if os.path.exists(path):
        saved = torch.load(path)
        pair.load_state_dict(saved["model"])
        average = saved["average"]
    pair.share_memory()
    gradients = [torch.zeros(networks.parameters_of(pair)).share_memory_() for _ in range(args.workers)]
    control = torch.zeros(3).share_memory_()
    context = torch.multiprocessing.get_context("fork")
    barrier = context.Barrier(args.workers)
    rest = [
        context.Process(target=worker, args=(rank, args, finish, pair, average, gradients, control, barrier), daemon=True)
        for rank in range(1, args.workers)
    ]
    for process in rest:
        process.start()
    worker(0, args, finish, pair, average, gradients, control, barrier)
    for process in rest:
        process.join()


if __name__ == "__main__":
    main()
