"""Text to pictures with the three networks: plain classifier-free guidance, img2img and masked blending, all in a few lines."""

import numpy as np
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

import networks


def make_scheduler(name):
    kwargs = dict(networks.SCHEDULE)
    if name == "euler":
        for key in ("clip_sample", "set_alpha_to_one"):
            kwargs.pop(key)
        return EulerDiscreteScheduler(**kwargs)
    return DDIMScheduler(**kwargs)


class Model:
    """The parts in evaluation mode; `scale` is the autoencoder's scaling factor."""

    def __init__(self, text, unet, vae, tokenizer):
        self.text, self.unet, self.vae, self.tokenizer = text.eval(), unet.eval(), vae.eval(), tokenizer
        self.scale = vae.config.scaling_factor

    def to(self, device):
        for part in (self.text, self.unet, self.vae):
            part.to(device).requires_grad_(False)
        return self

    @property
    def device(self):
        return next(self.unet.parameters()).device

    def tokens(self, prompts):
        return torch.tensor([e.ids for e in self.tokenizer.encode_batch(list(prompts))], device=self.device)

    @torch.no_grad()
    def embed(self, prompts):
        return self.text(self.tokens(prompts)).last_hidden_state

    @torch.no_grad()
    def decode(self, latents):
        """Latents -> uint8 (n, h, w, 3)."""
        out = torch.cat([self.vae.decode(part / self.scale).sample for part in latents.split(64)])
        return ((out.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    @torch.no_grad()
    def encode(self, signed):
        return torch.cat([self.vae.encode(part).latent_dist.mode() for part in signed.split(64)]) * self.scale

    @torch.no_grad()
    def sample(self, prompts, noise, steps=25, cfg=5.0, sampler="ddim", known=None, mask=None, strength=1.0, trace=None):
        """Latents for the prompts.

        noise (n, 8, 8, 8): standard normal. known: latents of source pictures; with strength < 1 only the last steps run (img2img).
        mask (n, 1, 8, 8), 1 where new: after each step, latents outside it are replaced by the known ones with as much noise.
        """
        scheduler = make_scheduler(sampler)
        scheduler.set_timesteps(steps)
        first = steps - min(int(steps * strength), steps)
        timesteps = scheduler.timesteps[first:]
        if sampler == "euler":
            scheduler.set_begin_index(first)
        if known is not None and first > 0:
            x = scheduler.add_noise(known, noise, timesteps[:1].repeat(len(noise)))
        else:
            x = noise * scheduler.init_noise_sigma
        text = self.embed(list(prompts) + [""])
        text = torch.cat([text[:-1], text[-1:].expand(len(noise), -1, -1)])
        for i, t in enumerate(timesteps):
            scaled = scheduler.scale_model_input(x, t)
            both = self.unet(torch.cat([scaled, scaled]), t, text).sample
            wanted, anything = both.chunk(2)
            x = scheduler.step(anything + cfg * (wanted - anything), t, x).prev_sample
            if mask is not None:
                if i + 1 < len(timesteps):
                    old = scheduler.add_noise(known, noise, timesteps[i + 1:i + 2].repeat(len(noise)))
                else:
                    old = known
                x = old * (1 - mask) + x * mask
            if trace is not None:
                trace.append(x.clone())
        return x


def noise_for(count, seed, size=64):
    side = size // 8
    return torch.randn(count, networks.LATENT_CHANNELS, side, side, generator=torch.Generator().manual_seed(seed))


def held_out_records(count, seed):
    """Random records from the combinations never trained on."""
    import pictures
    _, held_out = pictures.split()
    return held_out[np.random.default_rng(seed).integers(len(held_out), size=count)]
