"""Makes the control networks that `ordu-engine` is compared with: tiny random ones of diffusers, what they add to the UNets of `make.py`,
and what those then predict.

    python control.py [folder]        # default: ../../crates/ordu-engine/testdata; after make.py

Needs torch, diffusers, safetensors, what `families.py` needs and, for the edges, opencv-python-headless.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from safetensors.torch import load_file

from families import fill, write_json, xl_unet
from make import OUT, randomise, save, seeded

torch.set_num_threads(1)
torch.set_grad_enabled(False)

MAP_WIDTHS = (4, 8, 8, 12)


def steered(kind):
    """The UNet of make.py."""
    folder = OUT / f"unet-{kind}"
    config = json.loads((folder / "config.json").read_text())
    module = UNet2DConditionModel.from_config(config)
    module.load_state_dict({k: v.float() for k, v in load_file(folder / "diffusion_pytorch_model.safetensors").items()})
    return module.eval()


def network(unet, **changes):
    config = unet.config
    numbers = {k: config[k] for k in (
        "in_channels", "flip_sin_to_cos", "freq_shift", "down_block_types", "mid_block_type", "block_out_channels", "layers_per_block",
        "norm_num_groups", "norm_eps", "cross_attention_dim", "attention_head_dim", "use_linear_projection", "transformer_layers_per_block",
    )}
    return ControlNetModel(**{**numbers, "conditioning_embedding_out_channels": MAP_WIDTHS, **changes})


def original_names(module):
    """The tensors as the authors' files name them, for one layer a block and two blocks, both with attention or not."""
    places = {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
              "down_blocks.0.resnets.0": "input_blocks.1.0", "down_blocks.0.attentions.0": "input_blocks.1.1",
              "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
              "down_blocks.1.resnets.0": "input_blocks.3.0", "down_blocks.1.attentions.0": "input_blocks.3.1",
              "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1", "mid_block.resnets.1": "middle_block.2",
              "controlnet_mid_block": "middle_block_out.0", "controlnet_cond_embedding.conv_in": "input_hint_block.0",
              "controlnet_cond_embedding.conv_out": "input_hint_block.14"}
    places |= {f"controlnet_down_blocks.{n}": f"zero_convs.{n}.0" for n in range(4)}
    places |= {f"controlnet_cond_embedding.blocks.{n}": f"input_hint_block.{2 * n + 2}" for n in range(6)}
    parts = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
             "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    out = {}
    for name, value in module.state_dict().items():
        place = max((p for p in places if name.startswith(p + ".")), key=len)
        rest = name[len(place) + 1:]
        if ".resnets." in place:
            part, ending = rest.rsplit(".", 1)
            rest = f"{parts[part]}.{ending}"
        out[f"control_model.{places[place]}.{rest}"] = value
    return out


def make_controls():
    kinds = {
        # In the authors' layout, as most files for SD 1 are.
        "sd1": ("sd1", {}),
        "sd2": ("sd2", {}),
        # As the small ones for SDXL: nothing attends to the text, and the bottom is one residual block.
        "small": ("sd1", dict(down_block_types=("DownBlock2D", "DownBlock2D"), mid_block_type="UNetMidBlock2D")),
    }
    for seed, (name, (base, changes)) in enumerate(kinds.items(), 50):
        unet = steered(base)
        module = randomise(network(unet, **changes), seed)
        folder = OUT / f"control-{name}"
        if name == "sd1":
            tensors = original_names(module)
            back = convert_controlnet_checkpoint(dict(tensors), dict(module.config))
            assert back.keys() == module.state_dict().keys() and all(torch.equal(v, module.state_dict()[k]) for k, v in back.items())
            save(folder / "control_sd15_canny.safetensors", tensors, half=True)
        else:
            save(folder / "diffusion_pytorch_model.safetensors", module.state_dict(), half=True)
        x = torch.randn((2, 4, 8, 12), generator=seeded(seed + 100))
        text = torch.randn((2, 5, unet.config.cross_attention_dim), generator=seeded(seed + 200))
        shown = torch.rand((1, 3, 64, 96), generator=seeded(seed + 300))
        down, bottom = module(x, 501.0, text, shown, conditioning_scale=0.7, return_dict=False)
        y = unet(x, 501.0, text, down_block_additional_residuals=down, mid_block_additional_residual=bottom).sample
        io = {"x": x, "text": text, "map": shown, "y": y}
        io |= {f"added.{n}": tensor for n, tensor in enumerate([*down, bottom])}
        save(folder / "io.safetensors", io)


def make_xl_control():
    """One for the network like SDXL of families.py, told of the summary and the sizes as that is. Both are grown, so shapes alone are stored."""
    unet, _ = fill(xl_unet(), "unet")
    config = unet.config
    told = {k: config[k] for k in ("addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim")}
    # As many halvings as the autoencoder of the tests' model has.
    module, shapes = fill(network(unet, conditioning_embedding_out_channels=(4, 8), **told), "control")
    write_json("control-xl.json", {"control": shapes})
    x = torch.randn((2, 4, 8, 12), generator=seeded(153))
    text = torch.randn((2, 5, 64), generator=seeded(253))
    shown = torch.rand((1, 3, 16, 24), generator=seeded(353))
    summary = torch.randn((2, 24), generator=seeded(453))
    added = {"text_embeds": summary, "time_ids": torch.tensor([[64.0, 96.0, 0.0, 0.0, 64.0, 96.0]] * 2)}
    down, bottom = module(x, 501.0, text, shown, conditioning_scale=0.7, added_cond_kwargs=added, return_dict=False)
    y = unet(x, 501.0, text, added_cond_kwargs=added, down_block_additional_residuals=down, mid_block_additional_residual=bottom).sample
    io = {"x": x, "text": text, "summary": summary, "map": shown, "y": y}
    io |= {f"added.{n}": tensor for n, tensor in enumerate([*down, bottom])}
    save(OUT / "control-xl.safetensors", io)


def make_edges():
    """What OpenCV finds in pictures of noise, blurred, and of drawn shapes."""
    import cv2
    import numpy as np
    out = {}
    rng = np.random.default_rng(60)
    for name, blur, height, width in (("rough", 1.2, 48, 37), ("smooth", 3.0, 64, 64)):
        picture = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3)).astype(np.float32), (0, 0), blur)
        low, high = picture.min(), picture.max()
        picture = ((picture - low) / (high - low) * 255).astype(np.uint8)
        out |= {f"{name}.picture": torch.from_numpy(picture), f"{name}.edges": torch.from_numpy(cv2.Canny(picture, 100, 200))}
    save(OUT / "edges.safetensors", out)


if __name__ == "__main__":
    make_controls()
    make_xl_control()
    make_edges()
