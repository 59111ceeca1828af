"""Makes the numbers that `ordu-engine` is compared with: tiny random networks of diffusers and transformers, their inputs and outputs,
and trajectories of the samplers of k-diffusion.

    python make.py [folder]        # default: ../../crates/ordu-engine/testdata

Needs torch, diffusers, transformers, safetensors and (its `sampling.py` alone) k-diffusion. Takes some seconds; same numbers each time.
Weights are rounded to f16 before anything is computed, so that files are small and the reference is exact for what they hold.
"""

import importlib.util
import json
import math
import sys
import types
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

HERE = Path(__file__).resolve().parent
OUT = Path(sys.argv[1]) if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else HERE.parents[1] / "crates" / "ordu-engine" / "testdata"
torch.set_num_threads(1)
torch.set_grad_enabled(False)


def seeded(number):
    return torch.Generator().manual_seed(number)


def randomise(module, seed):
    """Random weights of a size that keeps signals alive, rounded to f16."""
    generator = seeded(seed)
    for name, p in module.named_parameters():
        if p.ndim > 1:
            value = torch.randn(p.shape, generator=generator) * (1.2 / math.sqrt(p[0].numel()))
        elif name.endswith("weight"):
            value = 1 + 0.2 * torch.randn(p.shape, generator=generator)
        else:
            value = 0.2 * torch.randn(p.shape, generator=generator)
        p.copy_(value.half().float())
    return module.eval()


def save(path, tensors, half=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: (v.half() if half else v).contiguous().clone() for k, v in tensors.items()}, path)


def save_part(folder, module, file="diffusion_pytorch_model.safetensors", prefix=""):
    weights = {prefix + k: v for k, v in module.state_dict().items() if not k.endswith("position_ids")}
    save(folder / file, weights, half=True)
    save_config(folder, module)


def save_config(folder, module):
    config = module.config.to_dict() if hasattr(module.config, "to_dict") else dict(module.config)
    config = {k: v for k, v in config.items() if not k.startswith("_")}  # one of them is a set, in random order
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True, default=str) + "\n")


# ------------------------------------------------------------------------------------------------------------- networks

def text_encoder(**changes):
    numbers = dict(vocab_size=560, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=1,
                   max_position_embeddings=16, hidden_act="quick_gelu", bos_token_id=0, eos_token_id=1, pad_token_id=1)
    return CLIPTextModel(CLIPTextConfig(**{**numbers, **changes}))


def text_states(module, ids, skip):
    """Hidden states after the layer `skip` from the end, normalised as the last one is."""
    states = module(ids, output_hidden_states=True).hidden_states[-skip]
    inner = getattr(module, "text_model", module)
    return inner.final_layer_norm(states)


def unet(**changes):
    numbers = dict(sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 32), layers_per_block=1,
                   down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                   cross_attention_dim=64, attention_head_dim=1, norm_num_groups=32)
    return UNet2DConditionModel(**{**numbers, **changes})


def vae(**changes):
    numbers = dict(block_out_channels=(32, 32), layers_per_block=1, latent_channels=4, norm_num_groups=32,
                   down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, scaling_factor=0.18215)
    return AutoencoderKL(**{**numbers, **changes})


def make_text():
    for name, changes in [("quick-gelu", {}), ("gelu", dict(hidden_act="gelu", num_attention_heads=4))]:
        module = randomise(text_encoder(**changes, num_hidden_layers=2, vocab_size=60, hidden_size=32, intermediate_size=64), 11)
        ids = torch.randint(0, 60, (2, 16), generator=seeded(12))
        folder = OUT / f"clip-{name}"
        # One with the prefix of older exports, one without.
        names = [k.removeprefix("text_model.") for k in module.state_dict()]
        prefix = "text_model." if name == "gelu" else ""
        save(folder / "model.safetensors", {prefix + k: v for k, v in zip(names, module.state_dict().values()) if not k.endswith("position_ids")}, half=True)
        save_config(folder, module)
        save(folder / "io.safetensors", {"ids": ids.float(), "last": text_states(module, ids, 1), "skip2": text_states(module, ids, 2)})


def make_unets():
    kinds = {
        # The rule of SD 1: 8 heads everywhere. Text as wide as there.
        "sd1": dict(block_out_channels=(8, 16), norm_num_groups=4, attention_head_dim=8, cross_attention_dim=768),
        # The rule of SD 2: linear projections, a list of heads, three levels, two layers.
        "sd2": dict(block_out_channels=(8, 8, 16), norm_num_groups=4, layers_per_block=2, attention_head_dim=[1, 2, 4],
                    cross_attention_dim=24, use_linear_projection=True,
                    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")),
        # Inpainting: 9 channels in; fits the text encoder and autoencoder of tiny-sd. Sines first, shifted frequencies, two transformer layers.
        "inpaint": dict(block_out_channels=(8, 8), norm_num_groups=4, in_channels=9, cross_attention_dim=64,
                        attention_head_dim=2, flip_sin_to_cos=False, freq_shift=1, transformer_layers_per_block=2,
                        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D")),
    }
    for seed, (name, changes) in enumerate(kinds.items(), 20):
        module = randomise(unet(**changes), seed)
        folder = OUT / f"unet-{name}"
        save_part(folder, module)
        io = {}
        width = module.config.cross_attention_dim
        # The second size is odd in both directions.
        for size, (h, w, time) in {"even": (8, 12, 999.0), "odd": (9, 7, 3.0)}.items():
            x = torch.randn((2, module.config.in_channels, h, w), generator=seeded(seed + 100))
            text = torch.randn((2, 5, width), generator=seeded(seed + 200))
            io |= {f"{size}.x": x, f"{size}.text": text, f"{size}.time": torch.tensor([time]), f"{size}.y": module(x, time, text).sample}
        save(folder / "io.safetensors", io)


def make_vaes():
    kinds = {
        "plain": dict(block_out_channels=(8, 16), norm_num_groups=4),
        "deep": dict(block_out_channels=(8, 8, 16), norm_num_groups=4, layers_per_block=2, latent_channels=6, mid_block_add_attention=False,
                     use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1, scaling_factor=0.36,
                     down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3),
    }
    for seed, (name, changes) in enumerate(kinds.items(), 30):
        module = randomise(vae(**changes), seed)
        save_part(OUT / f"vae-{name}", module)
        shift, scale = module.config.shift_factor or 0.0, module.config.scaling_factor
        pictures = torch.rand((2, 3, 16, 24), generator=seeded(seed)) * 2 - 1
        latents = (module.encode(pictures).latent_dist.mode() - shift) * scale
        save(OUT / f"vae-{name}" / "io.safetensors", {"pictures": pictures, "latents": latents, "decoded": module.decode(latents / scale + shift).sample})


# ------------------------------------------------------------------------------------------------------------- samplers

def k_diffusion_sampling():
    """`k_diffusion/sampling.py` without its package, which imports half of the world."""
    if "k_diffusion.sampling" in sys.modules:
        return sys.modules["k_diffusion.sampling"]
    place = Path(importlib.util.find_spec("k_diffusion").submodule_search_locations[0])
    package = types.ModuleType("k_diffusion")
    package.__path__ = [str(place)]
    utils = types.ModuleType("k_diffusion.utils")
    utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]
    package.utils = utils
    sys.modules |= {"k_diffusion": package, "k_diffusion.utils": utils}
    for needed in ("torchsde", "torchdiffeq", "scipy"):  # not by what is sampled here
        if importlib.util.find_spec(needed) is None:
            sys.modules[needed] = types.ModuleType(needed)
            sys.modules[needed].odeint = sys.modules[needed].integrate = None
    spec = importlib.util.spec_from_file_location("k_diffusion.sampling", place / "sampling.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["k_diffusion.sampling"] = module
    spec.loader.exec_module(module)
    return module


def training_sigmas():
    betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    return ((1 - alphas) / alphas) ** 0.5


def normal_sigmas(steps):
    logs, t = training_sigmas().log(), torch.linspace(999, 0, steps, dtype=torch.float64)
    low, high, share = t.floor().long(), t.ceil().long(), t.frac()
    return torch.cat([((1 - share) * logs[low] + share * logs[high]).exp(), torch.zeros(1, dtype=torch.float64)])


def to_z(x, sigma):
    return x / math.sqrt(1 + float(sigma) ** 2)


def toy(x, sigma, **_):
    """A denoiser that anybody can write down: in z it is 0.8 tanh(z)."""
    return 0.8 * torch.tanh(x / (1 + sigma[0] ** 2) ** 0.5)


def make_samplers():
    k = k_diffusion_sampling()
    every = training_sigmas()
    schedules = {
        "normal": normal_sigmas(8),
        "karras": k.get_sigmas_karras(8, float(every[0]), float(every[-1])).double(),
    }
    methods = {"euler": k.sample_euler, "euler_ancestral": k.sample_euler_ancestral, "dpmpp_2m": k.sample_dpmpp_2m}
    start = torch.randn((1, 2, 3, 3), generator=seeded(40), dtype=torch.float64)
    noise = torch.randn((8, 1, 2, 3, 3), generator=seeded(41), dtype=torch.float64)
    out = {"start": start, "noise": noise}
    for schedule, sigmas in schedules.items():
        out[f"{schedule}.sigmas"] = sigmas
        for name, method in methods.items():
            trajectory, draws = [], iter(noise)
            options = dict(callback=lambda state: trajectory.append(to_z(state["x"], state["sigma"])), disable=True)
            if name == "euler_ancestral":
                options["noise_sampler"] = lambda *_: next(draws)
            last = method(toy, start * (1 + sigmas[0] ** 2) ** 0.5, sigmas, **options)
            out[f"{schedule}.{name}"] = torch.stack(trajectory[1:] + [last])
    out |= ddim_zero_terminal(start)
    save(OUT / "samplers.safetensors", {key: value.float() for key, value in out.items()})


def ddim_zero_terminal(start):
    """DDIM of diffusers on velocities, betas rescaled to zero terminal signal-to-noise, from the very last time step."""
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
                              rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(8)
    z, trajectory = start, []
    for t in scheduler.timesteps:
        alpha, spread = scheduler.alphas_cumprod[t] ** 0.5, (1 - scheduler.alphas_cumprod[t]) ** 0.5
        velocity = (alpha * z - 0.8 * torch.tanh(z)) / spread  # so that the guess of the clean picture is 0.8 tanh(z)
        z = scheduler.step(velocity, t, z, eta=0.0).prev_sample
        trajectory.append(z)
    return {"zero_terminal.times": scheduler.timesteps.double(), "zero_terminal.ddim": torch.stack(trajectory)}


# ---------------------------------------------------------------------------------------------------------- whole model

def byte_letters():
    """The printable stand-ins for bytes in CLIP's vocabulary (Radford et al. 2019)."""
    printable = list(range(ord("!"), ord("~") + 1)) + list(range(ord("¡"), ord("¬") + 1)) + list(range(ord("®"), ord("ÿ") + 1))
    spare = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(spare)) for b in range(256)]


def make_tokenizer(folder):
    letters = byte_letters()
    merges = ["r e", "re d</w>", "b l", "u e</w>", "bl ue</w>", "c a", "ca t</w>", "i n", "in g</w>", "t h", "th e</w>"]
    words = letters + [l + "</w>" for l in letters] + [m.replace(" ", "") for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}, ensure_ascii=False) + "\n")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=16)


def to_ldm(text, unet_weights, vae_weights):
    """The original names of the three networks; the inverse of what `convert_ldm_*` of diffusers does, which checks it."""
    def inner(name):
        for ours, theirs in [("norm1.", "in_layers.0."), ("conv1.", "in_layers.2."), ("time_emb_proj.", "emb_layers.1."),
                             ("norm2.", "out_layers.0."), ("conv2.", "out_layers.3."), ("conv_shortcut.", "skip_connection.")]:
            name = name.replace(ours, theirs)
        return name

    blocks = {"time_embedding.linear_1.": "time_embed.0.", "time_embedding.linear_2.": "time_embed.2.", "conv_in.": "input_blocks.0.0.",
              "conv_norm_out.": "out.0.", "conv_out.": "out.2.", "mid_block.resnets.0.": "middle_block.0.",
              "mid_block.attentions.0.": "middle_block.1.", "mid_block.resnets.1.": "middle_block.2.",
              "down_blocks.0.resnets.0.": "input_blocks.1.0.", "down_blocks.0.attentions.0.": "input_blocks.1.1.",
              "down_blocks.0.downsamplers.0.conv.": "input_blocks.2.0.op.", "down_blocks.1.resnets.0.": "input_blocks.3.0.",
              "up_blocks.0.resnets.0.": "output_blocks.0.0.", "up_blocks.0.resnets.1.": "output_blocks.1.0.",
              "up_blocks.0.upsamplers.0.conv.": "output_blocks.1.1.conv.",
              "up_blocks.1.resnets.0.": "output_blocks.2.0.", "up_blocks.1.attentions.0.": "output_blocks.2.1.",
              "up_blocks.1.resnets.1.": "output_blocks.3.0.", "up_blocks.1.attentions.1.": "output_blocks.3.1."}
    out = {}
    for name, value in unet_weights.items():
        ours, theirs = next((o, t) for o, t in blocks.items() if name.startswith(o))
        rest = name[len(ours):]
        out["model.diffusion_model." + theirs + (inner(rest) if "resnets" in ours else rest)] = value
    for name, value in vae_weights.items():
        for i in range(2):
            for side, there in (("encoder.down_blocks", i), ("decoder.up_blocks", 1 - i)):
                way = side.split(".")[1].split("_")[0]
                name = name.replace(f"{side}.{i}.resnets.", f"{side.split('.')[0]}.{way}.{there}.block.")
                name = name.replace(f"{side}.{i}.{way}samplers.0.", f"{side.split('.')[0]}.{way}.{there}.{way}sample.")
        for ours, theirs in [("mid_block.resnets.0", "mid.block_1"), ("mid_block.resnets.1", "mid.block_2"), ("conv_shortcut", "nin_shortcut"),
                             ("conv_norm_out", "norm_out"), ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
                             ("mid_block.attentions.0.to_q", "mid.attn_1.q"), ("mid_block.attentions.0.to_k", "mid.attn_1.k"),
                             ("mid_block.attentions.0.to_v", "mid.attn_1.v"), ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out")]:
            name = name.replace(ours, theirs)
        if "attn_1" in name and value.ndim == 2:
            value = value[:, :, None, None]
        out["first_stage_model." + name] = value
    for name, value in text.items():
        out["cond_stage_model.transformer.text_model." + name.removeprefix("text_model.")] = value
    out["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(16)[None].float()
    return out


def check_ldm(checkpoint, net, autoencoder):
    """Diffusers' own converter must lead back to where we came from."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
    back = convert_ldm_unet_checkpoint(dict(checkpoint), dict(net.config))
    assert back.keys() == net.state_dict().keys(), set(back) ^ set(net.state_dict())
    assert all(torch.equal(back[k], v) for k, v in net.state_dict().items())
    back = convert_ldm_vae_checkpoint(dict(checkpoint), dict(autoencoder.config))
    assert back.keys() == autoencoder.state_dict().keys(), set(back) ^ set(autoencoder.state_dict())
    assert all(torch.equal(back[k].reshape(v.shape), v) for k, v in autoencoder.state_dict().items())


def write_names(checkpoint, parts):
    """Which tensor of the folder lies under which name, in which shape, in the single file: the tests put the file together by this table,
    which is far smaller than the file."""
    origin = {value.data_ptr(): (part, name) for part, weights in parts.items() for name, value in weights.items()}
    table = {theirs: [*origin[value.data_ptr()], list(value.shape)] for theirs, value in checkpoint.items() if value.data_ptr() in origin}
    assert len(table) == len(checkpoint) - 1  # all but the position ids
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in table.items())
    (OUT / "tiny-sd.ldm.json").write_text("{\n" + lines + "\n}\n")


def make_whole():
    folder = OUT / "tiny-sd"
    tokenizer = make_tokenizer(folder / "tokenizer")
    text, net, autoencoder = randomise(text_encoder(), 50), randomise(unet(), 51), randomise(vae(), 52)
    save_part(folder / "text_encoder", text, "model.safetensors")
    save_part(folder / "unet", net)
    save_part(folder / "vae", autoencoder)
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(dict(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, prediction_type="epsilon")) + "\n")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}) + "\n")
    text_weights = {k: v for k, v in text.state_dict().items() if not k.endswith("position_ids")}
    checkpoint = to_ldm(text_weights, net.state_dict(), autoencoder.state_dict())
    check_ldm(checkpoint, net, autoencoder)
    write_names(checkpoint, {"text_encoder": text_weights, "unet": net.state_dict(), "vae": autoencoder.state_dict()})

    prompts = ["A red CAT, thing's 42", "blue  The\n(dog) é猫 ☃"]
    encoded = tokenizer(prompts, padding="max_length", truncation=True, max_length=16, return_tensors="pt").input_ids
    (OUT / "tiny-sd.prompts.json").write_text(json.dumps(dict(prompts=prompts, ids=encoded.tolist()), ensure_ascii=False) + "\n")
    positive, negative = text(encoded).last_hidden_state
    cfg, steps, seed = 5.0, 6, 1234
    sigmas, logs = normal_sigmas(steps), training_sigmas().log()

    def denoise(x, sigma, **_):
        z = x / (1 + sigma[0] ** 2) ** 0.5
        time = (logs - sigma[0].log()).abs().argmin()
        with_text, without = net(z.repeat(2, 1, 1, 1).float(), time, torch.stack([positive, negative])).sample.double()
        return x - sigma[0] * (without + cfg * (with_text - without))

    k = k_diffusion_sampling()
    noise = torch.randn((1, 4, 8, 8), generator=seeded(seed)).double()
    trajectory = []
    last = k.sample_euler(denoise, noise * (1 + sigmas[0] ** 2) ** 0.5, sigmas, disable=True,
                          callback=lambda state: trajectory.append(to_z(state["x"], state["sigma"])))
    latents = torch.stack(trajectory[1:] + [last]).float()
    picture = autoencoder.decode(last.float() / autoencoder.config.scaling_factor).sample
    save(OUT / "tiny-sd.io.safetensors", {"positive": positive, "negative": negative, "noise": noise.float(), "latents": latents, "picture": picture})


def main():
    make_text()
    make_unets()
    make_vaes()
    make_samplers()
    make_whole()
    total = sum(p.stat().st_size for p in OUT.rglob("*") if p.is_file())
    print(f"{OUT}: {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
