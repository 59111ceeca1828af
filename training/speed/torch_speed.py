"""What the built-in engine is measured against: PyTorch and diffusers.

    ordu bench engine --against "python training/speed/torch_speed.py turns"
                                                      pass by pass in turns, on the processor
    python training/speed/torch_speed.py make DIR     networks of true size with random weights, and
                                                      what PyTorch makes of known inputs in f32
    python training/speed/torch_speed.py time DIR     the same measurements as the example's

Needs torch, diffusers and transformers. Nothing is downloaded. One line of JSON for each thing.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

SD15 = dict(
    sample_size=64, in_channels=4, out_channels=4, layers_per_block=2,
    block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768, attention_head_dim=8,
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
)
# Without the embedding of sizes, which adds two small layers before everything.
SDXL = dict(
    sample_size=128, in_channels=4, out_channels=4, layers_per_block=2,
    block_out_channels=(320, 640, 1280), cross_attention_dim=2048, attention_head_dim=(5, 10, 20),
    transformer_layers_per_block=(1, 2, 10), use_linear_projection=True,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
)
VAE = dict(
    block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    sample_size=512,
)
CLIP = dict(
    vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
    num_attention_heads=12, max_position_embeddings=77, hidden_act="quick_gelu",
)


def say(**line):
    print(json.dumps(dict(who="torch", **line)), flush=True)


def device():
    return "cuda" if torch.cuda.is_available() else "cpu"


def exact():
    """No rounded products in references."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@torch.inference_mode()
def make(folder, models):
    exact()
    torch.manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(3)).to(device())
    for name, config, width, side in (("sd15", SD15, 768, 64), ("sdxl", SDXL, 2048, 64)):
        if name not in models:
            continue
        with torch.device(device()):
            unet = UNet2DConditionModel(**config).eval()
        # As files have it: in f16.
        unet = unet.half()
        unet.save_pretrained(folder / name / "unet", safe_serialization=True, max_shard_size="100GB")
        unet = unet.float()
        latents, text = draw(2, 4, side, side), draw(2, 77, width)
        out = unet(latents, 500, text).sample
        save(folder / name / "unet", latents=latents, text=text, out=out)
        del unet
    if "sd15" not in models:
        return
    with torch.device(device()):
        vae = AutoencoderKL(**VAE).eval()
    vae = vae.half()
    vae.save_pretrained(folder / "sd15" / "vae", safe_serialization=True)
    vae = vae.float()
    latents, pixels = draw(1, 4, 64, 64), draw(1, 3, 256, 256).clamp(-1, 1)
    factor = vae.config.scaling_factor
    out = vae.decode(latents / factor).sample
    mean = vae.encode(pixels).latent_dist.mean * factor
    save(folder / "sd15" / "vae", latents=latents, out=out, pixels=pixels, mean=mean)
    with torch.device(device()):
        text = CLIPTextModel(CLIPTextConfig(**CLIP)).eval()
    text = text.half()
    text.save_pretrained(folder / "sd15" / "text_encoder", safe_serialization=True)
    text = text.float()
    ids = torch.arange(2 * 77, device=device()).reshape(2, 77)
    save(folder / "sd15" / "text_encoder", out=text(ids).last_hidden_state)


def save(folder, **tensors):
    save_file({k: v.float().cpu().contiguous() for k, v in tensors.items()}, folder / "io.safetensors")


def median(work, runs):
    times = []
    for run in range(runs + 2):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if run >= 2:
            times.append((time.perf_counter() - start) * 1000)
    return round(statistics.median(times), 3)


def peak():
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None


@torch.inference_mode()
def measure(folder, args):
    for precision in args.precision:
        dtype = dict(f32=torch.float32, f16=torch.float16, bf16=torch.bfloat16)[precision]
        on = f"{device()} in {precision}"
        if args.exact:
            exact()
            on += " exact"
        place = dict(device=device(), dtype=dtype)
        for name, width, least in (("sd15", 768, 512), ("sdxl", 2048, 1024)):
            if not (folder / name / "unet").is_dir() or "unet" not in args.only:
                continue
            unet = UNet2DConditionModel.from_pretrained(folder / name / "unet", torch_dtype=dtype)
            unet = unet.to(device()).eval().to(memory_format=torch.channels_last)
            for size in args.size:
                for batch in args.batch if size >= least else []:
                    latents = torch.randn(2 * batch, 4, size // 8, size // 8, **place)
                    latents = latents.to(memory_format=torch.channels_last)
                    text = torch.randn(2 * batch, 77, width, **place)
                    ms = median(lambda: unet(latents, 500, text).sample, args.runs)
                    say(what=f"unet {name}", on=on, size=size, batch=batch, ms=ms, peak_gib=peak())
            del unet
        if not (folder / "sd15" / "vae").is_dir():
            continue
        if "vae" in args.only:
            vae = AutoencoderKL.from_pretrained(folder / "sd15" / "vae", torch_dtype=dtype)
            vae = vae.to(device()).eval().to(memory_format=torch.channels_last)
            for size in args.size:
                latents = torch.randn(1, 4, size // 8, size // 8, **place)
                ms = median(lambda: vae.decode(latents).sample, (args.runs + 1) // 2)
                say(what="vae decode", on=on, size=size, batch=1, ms=ms, peak_gib=peak())
            del vae
        if "text" in args.only:
            text = CLIPTextModel.from_pretrained(folder / "sd15" / "text_encoder", dtype=dtype)
            text = text.to(device()).eval()
            ids = torch.arange(2 * 77, device=device()).reshape(2, 77)
            ms = median(lambda: text(ids).last_hidden_state, args.runs)
            say(what="text encode", on=on, size=77, batch=2, ms=ms, peak_gib=peak())


def made(family, part):
    """A network of true size with random weights; channels last where that is faster."""
    if part == "text":
        return CLIPTextModel(CLIPTextConfig(**CLIP)).eval()
    if part == "decode":
        return AutoencoderKL(**VAE).eval().to(memory_format=torch.channels_last)
    config = dict(sd15=SD15, sdxl=SDXL)[family]
    return UNet2DConditionModel(**config).eval().to(memory_format=torch.channels_last)


def resident(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024


@torch.inference_mode()
def turns(args):
    """A pass for each line of JSON that comes in: what `ordu bench engine --against` asks."""
    if args.threads:
        torch.set_num_threads(args.threads)
    held = None
    for line in sys.stdin:
        asked = json.loads(line)
        family, part = asked["family"], asked["part"]
        if held is None or held[:2] != (family, part):
            held = None
            held = (family, part, made(family, part))
        net, batch, side = held[2], asked["pictures"], asked["size"] // 8
        last = lambda x: x.to(memory_format=torch.channels_last)
        if part == "text":
            ids = torch.arange(77).repeat(2 * batch, 1)
            work = lambda: net(ids).last_hidden_state
        elif part == "decode":
            latents = last(torch.randn(batch, 4, side, side))
            work = lambda: net.decode(latents).sample
        else:
            latents = last(torch.randn(2 * batch, 4, side, side))
            text = torch.randn(2 * batch, 77, net.config.cross_attention_dim)
            work = lambda: net(latents, 500, text).sample
        before = resident("VmRSS:")
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        start, worked = time.perf_counter(), time.process_time()
        work()
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
        print(json.dumps(dict(seconds=seconds, core_seconds=worked, peak_bytes=resident("VmHWM:") - before)), flush=True)


@torch.inference_mode()
def profile(folder, args):
    """Time by kernel of one pass."""
    from torch.profiler import ProfilerActivity, profile as watch

    for name, width, size in (("sd15", 768, 512), ("sdxl", 2048, 1024)):
        unet = UNet2DConditionModel.from_pretrained(folder / name / "unet", torch_dtype=torch.float16)
        unet = unet.to("cuda").eval().to(memory_format=torch.channels_last)
        place = dict(device="cuda", dtype=torch.float16)
        latents = torch.randn(2, 4, size // 8, size // 8, **place).to(memory_format=torch.channels_last)
        text = torch.randn(2, 77, width, **place)
        for _ in range(3):
            unet(latents, 500, text)
        with watch(activities=[ProfilerActivity.CUDA]) as seen:
            unet(latents, 500, text)
            torch.cuda.synchronize()
        print(name, seen.key_averages().table(sort_by="cuda_time_total", row_limit=args.runs, max_name_column_width=90))


def main():
    words = argparse.ArgumentParser()
    words.add_argument("what", choices=["make", "time", "profile", "turns"])
    words.add_argument("folder", type=pathlib.Path, nargs="?", default=pathlib.Path("."))
    many = lambda kind: lambda text: [kind(word) for word in text.split(",")]
    words.add_argument("--models", type=many(str), default=["sd15", "sdxl"])
    words.add_argument("--precision", type=many(str), default=["f16"])
    words.add_argument("--only", type=many(str), default=["unet", "vae", "text"])
    words.add_argument("--size", type=many(int), default=[512, 1024])
    words.add_argument("--batch", type=many(int), default=[1, 4])
    words.add_argument("--runs", type=int, default=20)
    words.add_argument("--exact", action="store_true", help="no TF32 in f32")
    words.add_argument("--threads", type=int, help="of `turns`")
    args = words.parse_args()
    if args.what == "turns":
        return turns(args)
    say(what="version", torch=torch.__version__, card=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu")
    if args.what == "make":
        make(args.folder, args.models)
    elif args.what == "time":
        measure(args.folder, args)
    else:
        profile(args.folder, args)


if __name__ == "__main__":
    main()
