"""Trains a small LoRA on `ordu-tiny`: with it, every shape is yellow, whatever colour the prompt names.

    python train_lora.py [--model DIR] [--to FILE] [--minutes 4]

It changes the cross-attentions of the UNet alone (rank 4, f16, 50 KB), under kohya's names. Run it again after `ordu-tiny` was trained again: some minutes of
one core. At the end it tells how many of 64 fresh pictures, whose prompts ask for other colours, are yellow with it and without it.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import CLIPTextModel

import judge
import networks
import pictures
from sampling import Model

HERE = Path(__file__).resolve().parent
ENGINE = HERE.parent / "crates" / "ordu-engine"
YELLOW = pictures.COLOURS.index("yellow")
RANK, ALPHA = 4, 4.0


class Low(torch.nn.Module):
    """A linear layer with a change of low rank beside it."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.down = torch.nn.Parameter(torch.randn(RANK, base.in_features) / math.sqrt(base.in_features))
        self.up = torch.nn.Parameter(torch.zeros(base.out_features, RANK))
        self.strength = 1.0

    def forward(self, x):
        return self.base(x) + self.strength * (ALPHA / RANK) * (x @ self.down.T @ self.up.T)


def add_changes(unet):
    """Replaces the linear layers of all cross-attentions; their changes by name."""
    changes = {}
    for name, module in list(unet.named_modules()):
        if isinstance(module, torch.nn.Linear) and ".attn2." in name:
            parent, _, own = name.rpartition(".")
            changes[name] = Low(module)
            setattr(unet.get_submodule(parent), own, changes[name]) if not own.isdigit() else unet.get_submodule(parent).__setitem__(int(own), changes[name])
    return changes


def load(folder):
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    model = Model(text, unet, vae, Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json")))
    for part in (text, unet, vae):
        part.requires_grad_(False)
    return model


def records(rng, count):
    """Attributes of pictures that are not yellow anywhere."""
    every = pictures.split()[0]
    every = every[(every[:, 0] != YELLOW) & (every[:, 4] != YELLOW)]
    return every[rng.integers(len(every), size=count)]


def in_yellow(asked):
    painted = asked.copy()
    painted[:, 0] = YELLOW
    return painted


def train(model, changes, minutes, rng):
    signal = networks_signal()
    parameters = [p for change in changes.values() for p in (change.down, change.up)]
    optimiser = torch.optim.AdamW(parameters, lr=4e-3, weight_decay=0.0)
    asked = records(rng, 768)
    latents = model.encode(torch.from_numpy(pictures.to_signed(pictures.draw(in_yellow(asked), rng))))
    start, step, batch = time.time(), 0, 16
    while (share := (time.time() - start) / (60 * minutes)) < 1:
        optimiser.param_groups[0]["lr"] = 4e-3 * min(1.0, 2 * (1 - share))
        chosen = rng.integers(len(asked), size=batch)
        captions = [pictures.random_caption(asked[i]) for i in chosen]
        clean, text = latents[chosen], model.embed(captions)
        t = torch.from_numpy(((np.arange(batch) + rng.random(batch)) / batch * 1000).astype(np.int64))
        a, s = (values[t].reshape(-1, 1, 1, 1) for values in signal)
        noise = torch.randn(clean.shape)
        strength = 0.6 + 0.6 * rng.random()  # on both sides of 1: room for a model beneath that has changed a little
        for change in changes.values():
            change.strength = strength
        made = model.unet(a * clean + s * noise, t, text).sample
        loss = ((made - (a * noise - s * clean)) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        if step % 50 == 0:
            print(f"step {step}, loss {loss.item():.4f}, {time.time() - start:.0f} s", flush=True)
    return step


def networks_signal():
    """Shares of picture and noise at each time step."""
    from sampling import make_scheduler
    kept = make_scheduler("ddim").alphas_cumprod
    return kept.sqrt().float(), (1 - kept).sqrt().float()


def save(changes, path):
    out = {}
    for name, change in changes.items():
        key = "lora_unet_" + name.replace(".", "_")
        out |= {f"{key}.lora_down.weight": change.down.half(), f"{key}.lora_up.weight": change.up.half(), f"{key}.alpha": torch.tensor(ALPHA).half()}
    save_file({k: v.detach().contiguous() for k, v in out.items()}, path, {"ss_network_dim": str(RANK), "ss_network_alpha": str(ALPHA)})
    path.chmod(0o644)


@torch.no_grad()
def yellow(model, changes, strength, count=64):
    """Share of pictures whose shape is yellow, and of those whose background is as told."""
    for change in changes.values():
        change.strength = strength
    rng = np.random.default_rng(77)
    asked = records(rng, count)
    noise = torch.randn((count, networks.LATENT_CHANNELS, 8, 8), generator=torch.Generator().manual_seed(5))
    images = model.decode(model.sample([pictures.full_caption(r) for r in asked], noise, steps=10))
    found = judge.score(images, in_yellow(asked))
    return found["colour"], found["background"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ENGINE / "models" / "ordu-tiny")
    parser.add_argument("--to", type=Path, default=ENGINE / "testdata" / "ordu-tiny-yellow.safetensors")
    parser.add_argument("--minutes", type=float, default=4.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    model = load(args.model)
    changes = add_changes(model.unet)
    steps = train(model, changes, args.minutes, rng)
    save(changes, args.to)
    print(f"{steps} steps, {args.to.stat().st_size} bytes")
    for strength in (0.0, 0.5, 1.0):
        colour, background = yellow(model, changes, strength)
        print(f"strength {strength}: {colour:.0%} yellow, background as told in {background:.0%}")


if __name__ == "__main__":
    main()
