"""Makes what the networks of Stable Cascade in `ordu-engine` are compared with: diffusers' `StableCascadeUNet` and `PaellaVQModel`, torchvision's
EfficientNet, CLIP of transformers, all tiny and random; and two pictures of the whole.

    python stable_cascade.py [folder]        # default: ../../crates/ordu-engine/testdata/cascade

Needs torch, torchvision, transformers, diffusers, tokenizers, safetensors. No weights are stored: both sides grow them from the names of tensors
(`families.py`). Names are those of the published single files.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers.models.unets.unet_stable_cascade import StableCascadeUNet
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from torchvision.models.efficientnet import EfficientNet, FusedMBConvConfig, MBConvConfig
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

HERE = Path(__file__).resolve().parent
OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[1] / "crates" / "ordu-engine" / "testdata" / "cascade"
sys.path += [str(HERE), str(HERE.parent)]
import cascade as ours  # noqa: E402
from grown import grown  # noqa: E402

torch.set_num_threads(1)
torch.set_grad_enabled(False)
RESIDUAL, TIME, ATTENTION = "SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"
BEGIN, END, CONTEXT = 0, 1, 12
WORDS = ["<b>", "<e>"] + [f"w{i}" for i in range(2, 30)]
PROMPTS = ["w3 w7 w12", "w20"]


def grow(module, part):
    """Grows all numbers of a module."""
    for name, tensor in list(module.named_parameters()) + list(module.named_buffers()):
        if tensor.is_floating_point():
            tensor.data = grown(f"{part}/{name}", tensor.shape)
    return module.eval()


def grey(a):
    """Latents of networks that know nothing are far too large: what stage A makes of them shall still be a picture."""
    a.out_block[0].weight.data *= 0.004
    a.out_block[0].bias.data.fill_(0.5)
    return a


def stage_c():
    return grow(StableCascadeUNet(
        in_channels=16, out_channels=16, timestep_ratio_embedding_dim=16, patch_size=1, conditioning_dim=32,
        block_out_channels=(64, 128), num_attention_heads=(1, 2), down_num_layers_per_block=(1, 2), up_num_layers_per_block=(2, 1),
        down_blocks_repeat_mappers=(1, 1), up_blocks_repeat_mappers=(1, 1), block_types_per_layer=((RESIDUAL, TIME, ATTENTION),) * 2,
        clip_text_in_channels=64, clip_text_pooled_in_channels=40, clip_image_in_channels=24, clip_seq=4,
        dropout=(0.0, 0.0), self_attn=True, timestep_conditioning_type=("sca", "crp"), switch_level=(False,),
    ), "c")


def stage_b():
    return grow(StableCascadeUNet(
        in_channels=4, out_channels=4, timestep_ratio_embedding_dim=16, patch_size=2, conditioning_dim=32,
        block_out_channels=(32, 64, 64), num_attention_heads=(-1, 1, 1), down_num_layers_per_block=(1, 2, 1), up_num_layers_per_block=(1, 2, 1),
        down_blocks_repeat_mappers=(1, 1, 1), up_blocks_repeat_mappers=(3, 2, 2),
        block_types_per_layer=((RESIDUAL, TIME), (RESIDUAL, TIME, ATTENTION), (RESIDUAL, TIME, ATTENTION)),
        clip_text_pooled_in_channels=40, clip_seq=4, effnet_in_channels=16, pixel_mapper_in_channels=3,
        dropout=(0.0, 0.0, 0.0), self_attn=True, timestep_conditioning_type=("sca",),
    ), "b")


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        settings = [
            FusedMBConvConfig(1, 3, 1, 8, 8, 2), FusedMBConvConfig(2, 3, 2, 8, 16, 2), FusedMBConvConfig(4, 3, 2, 16, 24, 1),
            MBConvConfig(4, 3, 2, 24, 32, 2), MBConvConfig(6, 3, 1, 32, 40, 1), MBConvConfig(2, 3, 2, 40, 48, 2),
        ]
        norm = lambda channels: nn.BatchNorm2d(channels, eps=1e-3)
        self.backbone = EfficientNet(settings, 0.0, norm_layer=norm, last_channel=64).features
        self.mapper = nn.Sequential(nn.Conv2d(64, 16, kernel_size=1, bias=False), nn.BatchNorm2d(16, affine=False))

    def forward(self, x):
        return self.mapper(self.backbone(x))


class Text:
    def __init__(self):
        self.model = grow(CLIPTextModelWithProjection(CLIPTextConfig(
            vocab_size=len(WORDS), hidden_size=64, intermediate_size=128, projection_dim=40, num_hidden_layers=3, num_attention_heads=1,
            max_position_embeddings=CONTEXT, hidden_act="gelu", bos_token_id=BEGIN, eos_token_id=END, pad_token_id=END,
        )), "text")
        inner = getattr(self.model.text_model, "text_model", self.model.text_model)
        inner.final_layer_norm.register_forward_hook(lambda module, given, made: setattr(self, "seen", given[0]))

    def __call__(self, prompt):
        ids = [BEGIN] + [WORDS.index(word) for word in prompt.split()] + [END]
        mask = [1] * len(ids) + [0] * (CONTEXT - len(ids))
        made = self.model(torch.tensor([ids + [END] * (CONTEXT - len(ids))]), attention_mask=torch.tensor([mask]))
        return self.seen, made.text_embeds


def make_tokenizer():
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<e>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<b> $A <e>", special_tokens=[("<b>", BEGIN), ("<e>", END)])
    return tokenizer


def whole(parts, size, images=None):
    """The picture of the first prompt, kept away from the second, in 12 steps, uint8 (h, w, 3)."""
    (text, pooled), (other, other_pooled) = parts["text"](PROMPTS[0]), parts["text"](PROMPTS[1])
    width, height = size
    nothing = torch.zeros(1, 1, 24)

    def predict(z, t):
        wanted = parts["c"](z, t, pooled[:, None], text, nothing if images is None else images).sample
        without = parts["c"](z, t, other_pooled[:, None], other, nothing).sample
        return without + 3.0 * (wanted - without)

    draw = lambda *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(11))
    start = lambda sigmas: (sigmas[0] ** 2 + 1) ** 0.5
    sigmas = ours.simple(ours.SHIFT_C, 8)
    c = ours.euler(predict, draw(1, 16, height // 42, width // 42) * start(sigmas), sigmas)
    told = torch.zeros_like(pooled) if images is None else pooled
    sigmas = ours.simple(ours.SHIFT_B, 4)
    fill = lambda z, t: parts["b"](z, t, told[:, None], effnet=c).sample
    b = ours.euler(fill, draw(1, 4, height // 4, width // 4) * start(sigmas), sigmas)
    return c, b, parts["a"].decode(b * ours.SCALE_B).sample


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    dice = torch.Generator().manual_seed(5)
    noise = lambda *shape: torch.randn(*shape, generator=dice)
    parts = dict(
        c=stage_c(), b=stage_b(), text=Text(), encoder=grow(Encoder(), "encoder"),
        a=grey(grow(PaellaVQModel(embed_dim=32, bottleneck_blocks=2, latent_channels=4, num_vq_embeddings=2), "a")),
        vision=grow(CLIPVisionModelWithProjection(CLIPVisionConfig(
            hidden_size=64, intermediate_size=96, projection_dim=24, num_hidden_layers=2, num_attention_heads=1, image_size=32, patch_size=8,
            hidden_act="quick_gelu")), "vision"),
    )
    io = {}
    for number, prompt in enumerate(PROMPTS):
        io[f"text.{number}"], io[f"summary.{number}"] = parts["text"](prompt)
    pictures = torch.randint(0, 256, (2, 32, 32, 3), generator=dice)
    mean, deviation = (torch.tensor(s) for s in ours.CLIP)
    seen = parts["vision"](((pictures / 255 - mean) / deviation).permute(0, 3, 1, 2)).image_embeds
    io |= {"pictures": pictures.to(torch.uint8), "seen": seen}
    for time in (0.05, 0.6):
        z = noise(2, 16, 3, 5)
        both = lambda name: torch.cat([io[f"{name}.0"], io[f"{name}.1"]])
        io |= {f"c.z.{time}": z, f"c.{time}": parts["c"](z, torch.full((2,), time), both("summary")[:, None], both("text"), seen[None].expand(2, -1, -1)).sample}
        z, drawn = noise(1, 4, 20, 28), noise(1, 16, 2, 3)
        io |= {f"b.z.{time}": z, f"b.drawn.{time}": drawn,
               f"b.{time}": parts["b"](z, torch.full((1,), time), io["summary.0"][:, None], effnet=drawn).sample}
    io["a.z"] = noise(1, 4, 6, 5)
    io["a"] = parts["a"].decode(io["a.z"] * ours.SCALE_B).sample
    picture = torch.randint(0, 256, (64, 96, 3), generator=dice)
    mean, deviation = (torch.tensor(s) for s in ours.IMAGENET)
    io |= {"encoder.picture": picture.to(torch.uint8), "encoder": parts["encoder"](((picture / 255 - mean) / deviation).permute(2, 0, 1)[None])}
    for name, shift in (("c", ours.SHIFT_C), ("b", ours.SHIFT_B)):
        sigmas = torch.tensor(ours.simple(shift, 20)[:-1], dtype=torch.float64)
        io |= {f"levels.{name}": sigmas.float(), f"times.{name}": ours.time_of(sigmas).float()}
    for name, images in (("plain", None), ("remix", torch.stack([seen[:1], seen[1:] * 0.5], dim=1))):
        c, b, pixels = whole(parts, (128, 96), images)
        io[f"whole.{name}"] = (pixels[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
        print(name, c.std().item(), b.std().item(), pixels.mean().item(), pixels.std().item())
    save_file({name: value.contiguous().clone() for name, value in io.items()}, OUT / "io.safetensors")
    make_tokenizer().save(str(OUT / "tokenizer.json"))
    shapes = {}
    for part in ("c", "b", "a", "encoder", "vision"):
        named = dict(parts[part].named_parameters()) | {n: b for n, b in parts[part].named_buffers() if b.is_floating_point()}
        shapes[part] = {name: list(tensor.shape) for name, tensor in named.items() if "vquantizer" not in name}
    shapes["text"] = {name: list(p.shape) for name, p in parts["text"].model.named_parameters()}
    (OUT / "shapes.json").write_text(json.dumps(shapes, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
