"""The networks of `ordu-tiny-cascade` (the classes of Stable Cascade with smaller numbers) and how they draw, in PyTorch.

Stage C draws a very small picture of latents for a text and for pictures, stage B a larger one for that, stage A turns it into pixels; an encoder
turns pixels into the very small one (Pernias et al. 2023, "Würstchen").
"""

import copy
import math

import numpy as np
import torch
from diffusers.models.unets.unet_stable_cascade import StableCascadeUNet
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from torch import nn
from torch.nn import functional as F
from torchvision.models.efficientnet import EfficientNet, FusedMBConvConfig, MBConvConfig
from transformers import CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

import networks
import pictures

NATIVE = 128  # pixels a side of pictures that stage A, the encoder and the vision tower learn from
DRAWN = 176  # pixels a side that are drawn: stage C's latents then have four on a side
SIGHT = 64  # pixels a side that the vision tower sees
SHIFT_C, SHIFT_B = 2.0, 1.0
SCALE_B = 0.43  # stage A's latents are stage B's, so many times as large
SHRINK = 1 / 16
SPREAD = 3.0  # what latents are multiplied by, so that there is less noise beside them: see `widened`
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class Encoder(nn.Module):
    """Pixels [n, 3, 32 h, 32 w], normalised, to latents [n, 16, h, w]."""

    def __init__(self):
        super().__init__()
        settings = [
            FusedMBConvConfig(1, 3, 1, 8, 8, 1),
            FusedMBConvConfig(2, 3, 2, 8, 16, 1),
            FusedMBConvConfig(2, 3, 2, 16, 24, 1),
            MBConvConfig(2, 3, 2, 24, 32, 1),
            MBConvConfig(2, 3, 1, 32, 32, 1),
            MBConvConfig(2, 3, 2, 32, 48, 1),
        ]
        norm = lambda channels: nn.BatchNorm2d(channels, eps=1e-3, momentum=0.05)
        self.backbone = EfficientNet(settings, 0.0, stochastic_depth_prob=0.0, norm_layer=norm, last_channel=96).features
        self.mapper = nn.Sequential(nn.Conv2d(96, 16, kernel_size=1, bias=False), nn.BatchNorm2d(16, affine=False, momentum=0.05))

    def forward(self, x):
        return self.mapper(self.backbone(x))


def make_stage_a():
    return PaellaVQModel(embed_dim=32, bottleneck_blocks=2, latent_channels=4, num_vq_embeddings=2, scale_factor=SCALE_B)


def make_vision():
    return CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=64, intermediate_size=256, projection_dim=64, num_hidden_layers=2, num_attention_heads=2,
        image_size=SIGHT, patch_size=16, hidden_act="quick_gelu",
    ))


def make_stage_c():
    return start(StableCascadeUNet(
        in_channels=16, out_channels=16, timestep_ratio_embedding_dim=32, patch_size=1, conditioning_dim=96,
        block_out_channels=(96, 96), num_attention_heads=(3, 3), down_num_layers_per_block=(1, 1), up_num_layers_per_block=(1, 1),
        down_blocks_repeat_mappers=(1, 1), up_blocks_repeat_mappers=(1, 1),
        block_types_per_layer=(("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),) * 2,
        clip_text_in_channels=networks.TEXT_WIDTH, clip_text_pooled_in_channels=networks.TEXT_WIDTH, clip_image_in_channels=64, clip_seq=4,
        dropout=(0.0, 0.0), self_attn=True, timestep_conditioning_type=("sca", "crp"), switch_level=(False,),
    ))


def make_stage_b():
    return start(StableCascadeUNet(
        in_channels=4, out_channels=4, timestep_ratio_embedding_dim=32, patch_size=4, conditioning_dim=64,
        block_out_channels=(128,), num_attention_heads=(4,), down_num_layers_per_block=(2,), up_num_layers_per_block=(2,),
        down_blocks_repeat_mappers=(1,), up_blocks_repeat_mappers=(1,),
        block_types_per_layer=(("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),),
        clip_text_pooled_in_channels=networks.TEXT_WIDTH, clip_seq=4, effnet_in_channels=16, pixel_mapper_in_channels=3,
        dropout=(0.0,), self_attn=True, timestep_conditioning_type=("sca",),
    ))


@torch.no_grad()
def start(unet):
    """Begins as one that takes everything for noise, which is nearly right where a run begins, and has to be very right there.

    Blocks add nothing, levels hand on what they get. A strong constant beside what goes in makes all normalisations nearly linear, so that the last
    layer can be solved for.
    """
    for name, p in unet.named_parameters():
        is_adding = name.endswith(("channelwise.4.weight", "channelwise.4.bias", "to_out.0.weight", "to_out.0.bias"))
        if is_adding or ("blocks" in name and "mapper" in name and "kv_" not in name):
            p.zero_()
        elif name.startswith(("effnet_mapper.2", "pixels_mapper.2")):
            p.mul_(0.1) if p.ndim > 1 else p.copy_(torch.tensor([1.0, -1.0]).repeat(len(p) // 2))
        elif "scalers" in name:
            p.copy_(torch.eye(len(p))[..., None, None]) if p.ndim > 1 else p.zero_()
    into, out = unet.embedding[1], unet.clf[1]
    width, numbers = into.weight.shape[:2]
    constant = torch.tensor([1.0, -1.0]).repeat(width // 2)
    nn.init.orthogonal_(into.weight)
    into.weight.mul_(0.35 * (width / numbers) ** 0.5)
    into.bias.copy_(constant)
    channels, side = unet.config.in_channels, 8 * unet.config.patch_size
    z, seen = torch.randn(64, channels, side, side), []
    hook = unet.clf[0].register_forward_hook(lambda module, given, made: seen.append(made))
    told = {}
    if unet.config.clip_image_in_channels:
        told = dict(clip_text=torch.randn(64, 8, unet.config.clip_text_in_channels), clip_img=torch.randn(64, 1, unet.config.clip_image_in_channels))
    if unet.config.effnet_in_channels:
        told = dict(effnet=torch.randn(64, unet.config.effnet_in_channels, 3, 3))
    unet(z, torch.rand(64), torch.randn(64, 1, unet.config.clip_text_pooled_in_channels), **told)
    hook.remove()
    seen = seen[0].permute(0, 2, 3, 1).reshape(-1, width)
    z = F.pixel_unshuffle(z, unet.config.patch_size).permute(0, 2, 3, 1).reshape(-1, numbers)
    seen = torch.cat([seen, torch.ones(len(seen), 1)], dim=1)
    solved = torch.linalg.solve(seen.T @ seen + 1e-2 * torch.eye(width + 1), seen.T @ z)
    out.weight.copy_(solved[:-1].T[..., None, None])
    out.bias.copy_(solved[-1])
    return unet


@torch.no_grad()
def widened(parts):
    """Makes the latents of both stages `SPREAD` times as large.

    Runs begin where there is a hundred times more noise than a picture of spread one, and stage B takes one step from there to six times as much: a
    small error in the noise would be larger than what is left. The public classes leave the scale of latents to those who train, so it is chosen.
    """
    parts["encoder"].mapper[1].running_var /= SPREAD ** 2
    parts["a"].down_blocks[-1][1].weight *= SPREAD
    parts["a"].up_blocks[0][0].weight /= SPREAD
    return parts


def prepared(x, statistics, side):
    """Pictures (n, 3, h, w) in 0..1, scaled to (n, 3, side, side) and normalised."""
    if x.shape[-1] != side:
        x = F.interpolate(x, size=(side, side), mode="bicubic", antialias=True)
    x = (255 * x).clamp(0, 255).round() / 255
    mean, deviation = (torch.tensor(s, device=x.device).view(1, 3, 1, 1) for s in statistics)
    return (x - mean) / deviation


# ---------------------------------------------------------------------------------------------------------------- the noise

COSINE_S = 0.008


def signal(t):
    """The share of the signal's variance at a time 0..1: a cosine."""
    first = math.cos(COSINE_S / (1 + COSINE_S) * math.pi / 2) ** 2
    return (torch.cos((t + COSINE_S) / (1 + COSINE_S) * math.pi / 2) ** 2 / first).clamp(1e-4, 1 - 1e-4)


def time_of(sigma):
    first = math.cos(COSINE_S / (1 + COSINE_S) * math.pi / 2) ** 2
    return torch.acos((first / (sigma * sigma + 1)).sqrt()) / (math.pi / 2) * (1 + COSINE_S) - COSINE_S


def simple(shift, steps, denoise=1.0):
    """The sigmas of so many steps, evenly many of a table of 10,000 left out; the last is 0."""
    t = torch.arange(1, 10_001, dtype=torch.float64) / 10_000
    first = math.cos(COSINE_S / (1 + COSINE_S) * math.pi / 2) ** 2
    alpha = (torch.cos((t + COSINE_S) / (1 + COSINE_S) * math.pi / 2) ** 2 / first)
    if shift != 1.0:
        alpha = torch.sigmoid(torch.log(alpha / (1 - alpha)) - 2 * math.log(shift))
    alpha = alpha.clamp(1e-4, 1 - 1e-4)
    sigmas = ((1 - alpha) / alpha).sqrt()
    whole = int(steps / denoise)
    picked = [sigmas[-(1 + int(i * len(sigmas) / whole))].item() for i in range(whole)] + [0.0]
    return picked[-(steps + 1):]


def noised(x, t, noise):
    a = signal(t).view(-1, 1, 1, 1)
    return a.sqrt() * x + (1 - a).sqrt() * noise


@torch.no_grad()
def euler(predict, x, sigmas, dice=None):
    """From noise of the first sigma to clean latents; `predict(z, t)` tells the noise in z, which has a variance of one. With dice each step adds noise."""
    for sigma, following in zip(sigmas, sigmas[1:]):
        t = time_of(torch.tensor(sigma)).float().expand(len(x)).to(x.device)
        noise = predict(x / math.sqrt(sigma * sigma + 1), t)
        up = 0.0 if dice is None else following * math.sqrt(1 - (following / sigma) ** 2)
        x = x + noise * (math.sqrt(following ** 2 - up ** 2) - sigma)
        if up:
            x = x + up * torch.randn(x.shape, generator=dice).to(x.device)
    return x


# ---------------------------------------------------------------------------------------------------------------- the whole

class Texts:
    """`ordu-tiny`'s text encoder: what is before its last normalisation, and the row of the end mark behind it.

    What is before it is large, and nearly the same for all words: see `settle`.
    """

    def __init__(self, model, device="cpu"):
        self.encoder = CLIPTextModel.from_pretrained(model, subfolder="text_encoder", dtype=torch.float32).eval().to(device)
        self.tokenizer, self.device = networks.make_tokenizer(), device
        inner = getattr(self.encoder, "text_model", self.encoder)
        inner.final_layer_norm.register_forward_hook(lambda module, given, made: setattr(self, "seen", (given[0], made)))
        self.settle(inner)

    @torch.no_grad()
    def settle(self, inner):
        """Makes everything that layers add up `SHRINK` times as large, which changes nothing behind a normalisation, and takes the mean of all words off."""
        mean = self([pictures.full_caption(r) for r in pictures.combinations()[::7]])[0].mean((0, 1))
        for layer in inner.encoder.layers:
            for part in (layer.self_attn.out_proj, layer.mlp.fc2):
                part.weight *= SHRINK
                part.bias *= SHRINK
        inner.embeddings.token_embedding.weight *= SHRINK
        inner.embeddings.position_embedding.weight *= SHRINK
        inner.encoder.layers[-1].mlp.fc2.bias -= SHRINK * mean
        self.encoder.half().float()  # as it is published

    @torch.no_grad()
    def __call__(self, prompts):
        encoded = self.tokenizer.encode_batch(list(prompts))
        ids = torch.tensor([e.ids for e in encoded], device=self.device)
        self.encoder(ids, attention_mask=torch.tensor([e.attention_mask for e in encoded], device=self.device))
        rows, normed = self.seen
        ends = (ids == networks.EOS).int().argmax(1)
        return rows, normed[torch.arange(len(ids), device=self.device), ends]


class Cascade:
    """All parts, as the engine uses them."""

    def __init__(self, texts, parts):
        self.texts, self.device, self.parts = texts, texts.device, parts
        for part in parts.values():
            part.eval()

    @torch.no_grad()
    def sight(self, drawn):
        """Pictures (n, 3, h, w) in 0..1 to (n, 64): what the vision tower makes of them."""
        return self.parts["vision"](prepared(drawn, CLIP, SIGHT)).image_embeds

    @torch.no_grad()
    def sample_c(self, prompts, noise, images, steps, cfg, dice):
        """images (n, k, 64), weighted already."""
        n, c = len(noise), self.parts["c"]
        text, pooled = self.texts(prompts)
        empty, empty_pooled = self.texts([""])
        nothing = torch.zeros(n, 1, 64, device=self.device)
        images = nothing if images is None else images

        def predict(z, t):
            wanted = c(z, t, pooled[:, None], text, images).sample
            anything = c(z, t, empty_pooled.expand(n, -1)[:, None], empty.expand(n, -1, -1), nothing).sample
            return anything + cfg * (wanted - anything)

        sigmas = simple(SHIFT_C, steps)
        return euler(predict, noise * math.sqrt(sigmas[0] ** 2 + 1), sigmas, dice)

    @torch.no_grad()
    def sample_b(self, latents, noise, steps, pooled, dice=None):
        predict = lambda z, t: self.parts["b"](z, t, pooled, effnet=latents).sample
        sigmas = simple(SHIFT_B, steps)
        return euler(predict, noise * math.sqrt(sigmas[0] ** 2 + 1), sigmas, dice)

    @torch.no_grad()
    def decode(self, latents):
        out = torch.cat([self.parts["a"].decode(part * SCALE_B).sample for part in latents.split(64)])
        return (out.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    @torch.no_grad()
    def draw(self, prompts, seed, side=DRAWN, compression=42, images=None, cfg=5.0, steps=30, is_noisy=True):
        n, dice = len(prompts), torch.Generator().manual_seed(seed)
        fresh = lambda *shape: torch.randn(n, *shape, generator=dice).to(self.device)
        small, noisy = side // compression, dice if is_noisy else None
        c = self.sample_c(prompts, fresh(16, small, small), images, round(0.67 * steps), cfg, noisy)
        pooled = self.texts(prompts)[1][:, None]  # a remix tells stage B its text, other pictures do not
        pooled = torch.zeros_like(pooled) if images is None else pooled
        b = self.sample_b(c, fresh(4, side // 4, side // 4), round(0.33 * steps), pooled, noisy)
        return self.decode(b)


class Average:
    def __init__(self, module, rate):
        self.module, self.rate = copy.deepcopy(module).eval(), rate

    @torch.no_grad()
    def update(self, module):
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - self.rate)
        for mine, theirs in zip(self.module.buffers(), module.buffers()):
            mine.copy_(theirs)
