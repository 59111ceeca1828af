"""Makes the numbers that transparent pictures are compared with: a UNet whose attentions are changed as for Stable Diffusion 1, a UNet that is patched as for
SDXL, and the network that tells alpha and colours from a picture and its latents.

    python transparent_pictures.py [folder]

Needs what `make.py` needs, and comes after it and `families.py`, whose UNets it changes. The networks are those of `../transparent.py`, built of the blocks of
diffusers. No weights are stored: both sides grow them from the names of tensors.
"""

import sys
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

sys.path.append(str(Path(__file__).resolve().parents[1]))

import transparent
from families import fill, grown, write_json, xl_unet
from make import OUT, save, seeded

RANK = 4
# theirs, ours, kind, shapes of the parts, whether alpha is told. The first convolution is changed for six inputs: it has four, and the others are given zeros.
PATCHES = [
    ("input_blocks.0.0.weight", "conv_in.weight", "diff", [[32, 6, 3, 3]]),
    ("input_blocks.1.0.in_layers.0.bias", "down_blocks.0.resnets.0.norm1.bias", "diff", [[32]]),
    ("output_blocks.0.0.out_layers.3.weight", "up_blocks.0.resnets.0.conv2.weight", "lora", [[32, 4], [4, 32, 3, 3]]),
    ("middle_block.1.transformer_blocks.1.attn2.to_k.weight", "mid_block.attentions.0.transformer_blocks.1.attn2.to_k.weight", "lora", [[32, 4], [4, 64], []]),
    ("time_embed.2.weight", "time_embedding.linear_2.weight", "diff", [[128, 128]]),
    ("out.0.weight", "conv_norm_out.weight", "diff", [[32]]),
    ("out.2.bias", "conv_out.bias", "diff", [[4]]),
]
ALPHA = 3.0


def make_sharing():
    unet = UNet2DConditionModel.from_pretrained(OUT / "tiny-sd" / "unet", torch_dtype=torch.float32)
    changes, shapes = fill(transparent.share(unet, RANK), "sharing")
    x = torch.randn((2, 4, 8, 12), generator=seeded(900))
    text = torch.randn((2, 5, 64), generator=seeded(901))
    return shapes, {"sharing.x": x, "sharing.text": text, "sharing.y": unet(x, 501.0, text).sample}


def make_patches():
    unet, _ = fill(xl_unet(), "unet")
    weights, shapes = unet.state_dict(), {}
    for theirs, ours, kind, parts in PATCHES:
        grow = []
        for index, shape in enumerate(parts):
            name = f"diffusion_model.{theirs}::{kind}::{index}"
            shapes[name] = shape
            grow.append(grown(f"patches/{name}", shape) if shape else torch.tensor(ALPHA))
        if kind == "diff":
            change = grow[0]
        else:
            change = (grow[0] @ grow[1].flatten(1)).view(weights[ours].shape) * (grow[2] / parts[1][0] if len(grow) > 2 else 1.0)
        target = weights[ours]
        if change.shape != target.shape:
            whole = torch.zeros(change.shape)
            whole[:, :target.shape[1]] = target
            target = whole
        weights[ours] = target + change
    unet.conv_in = torch.nn.Conv2d(6, 32, 3, padding=1)
    unet.load_state_dict(weights)
    x = torch.randn((2, 4, 8, 12), generator=seeded(910))
    text = torch.randn((2, 5, 64), generator=seeded(911))
    summary = torch.randn((2, 24), generator=seeded(912))
    told = {"text_embeds": summary, "time_ids": torch.tensor([[64.0, 96.0, 0.0, 0.0, 64.0, 96.0]] * 2)}
    y = unet(torch.cat([x, torch.zeros(2, 2, 8, 12)], 1), 501.0, text, added_cond_kwargs=told).sample
    return shapes, {"patches.x": x, "patches.text": text, "patches.summary": summary, "patches.y": y}


def make_decoder():
    """One as deep as the published ones; one for the autoencoder of the tests' models, whose latents are half as large as pictures, gives its shapes alone."""
    deep, shapes = fill(transparent.AlphaDecoder(widths=(8, 8, 8, 16, 16, 24, 24)), "decoder")
    _, small = fill(transparent.AlphaDecoder(widths=(8, 8, 16), layers=1, attending=1, level=1), "small")
    picture = torch.rand((1, 3, 64, 128), generator=seeded(920)).half().float()
    latents = torch.randn((1, 4, 8, 16), generator=seeded(921))
    once = deep(picture, latents)
    whole = (transparent.decode(deep, picture, latents) * 255).round().to(torch.uint8)
    io = {"decoder.latents": latents, "decoder.once": once, "decoder.whole": whole}
    save(OUT / "transparent-picture.safetensors", {"picture": picture}, half=True)
    return {"decoder": shapes, "small": small}, io


if __name__ == "__main__":
    sharing, first = make_sharing()
    patches, second = make_patches()
    decoders, third = make_decoder()
    write_json("transparent.json", {"sharing": sharing, "patches": patches, **decoders})
    save(OUT / "transparent.safetensors", {**first, **second, **third})
