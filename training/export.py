"""Writes the model as a diffusers folder in f16, file by file and atomically, so that a reader never sees half a file.

    python export.py --work DIR --to FOLDER [--weights model]
"""

import argparse
import copy
import json
import os
import shutil
import tempfile

import diffusers
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import Tokenizer
from transformers import CLIPTextModel

import networks
from sampling import Model


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def export(text, unet, vae, to):
    """text, unet, vae: modules in f32 (copies are halved). to: folder, made if missing."""
    os.makedirs(to, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=".export-", dir=os.path.dirname(os.path.abspath(to)))
    try:
        copy.deepcopy(text).half().save_pretrained(os.path.join(temporary, "text_encoder"))
        copy.deepcopy(unet).half().save_pretrained(os.path.join(temporary, "unet"))
        copy.deepcopy(vae).half().save_pretrained(os.path.join(temporary, "vae"))
        for part in ("unet", "vae"):  # no paths of the training machine in the published configuration
            path = os.path.join(temporary, part, "config.json")
            config = json.load(open(path))
            config.pop("_name_or_path", None)
            write_json(path, config)
        os.makedirs(os.path.join(temporary, "tokenizer"))
        networks.make_tokenizer().save(os.path.join(temporary, "tokenizer", "tokenizer.json"))
        write_json(os.path.join(temporary, "tokenizer", "tokenizer_config.json"), dict(
            tokenizer_class="PreTrainedTokenizerFast", model_max_length=networks.CONTEXT,
            pad_token="<pad>", bos_token="<bos>", unk_token="<unk>", eos_token="<eos>",
        ))
        write_json(os.path.join(temporary, "scheduler", "scheduler_config.json"), dict(
            _class_name="DDIMScheduler", _diffusers_version=diffusers.__version__, **networks.SCHEDULE,
        ))
        write_json(os.path.join(temporary, "model_index.json"), dict(
            _class_name="StableDiffusionPipeline", _diffusers_version=diffusers.__version__,
            feature_extractor=[None, None], image_encoder=[None, None], requires_safety_checker=False, safety_checker=[None, None],
            scheduler=["diffusers", "DDIMScheduler"], text_encoder=["transformers", "CLIPTextModel"],
            tokenizer=["transformers", "PreTrainedTokenizerFast"], unet=["diffusers", "UNet2DConditionModel"],
            vae=["diffusers", "AutoencoderKL"],
        ))
        for folder, _, names in os.walk(temporary):
            target = os.path.normpath(os.path.join(to, os.path.relpath(folder, temporary)))
            os.makedirs(target, exist_ok=True)
            for name in names:
                os.chmod(os.path.join(folder, name), 0o644)
                os.replace(os.path.join(folder, name), os.path.join(target, name))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load(folder):
    """The exported f16 weights, computed with in f32."""
    return Model(
        CLIPTextModel.from_pretrained(os.path.join(folder, "text_encoder"), dtype=torch.float32),
        UNet2DConditionModel.from_pretrained(os.path.join(folder, "unet"), torch_dtype=torch.float32),
        AutoencoderKL.from_pretrained(os.path.join(folder, "vae"), torch_dtype=torch.float32),
        Tokenizer.from_file(os.path.join(folder, "tokenizer", "tokenizer.json")),
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--weights", choices=["average", "model"], default="average", help="model: the last ones, not averaged")
    args = parser.parse_args()
    text, unet = networks.make_text_encoder(), networks.make_unet()
    saved = torch.load(os.path.join(args.work, "diffusion.pt"))
    weights = saved[args.weights]
    text.load_state_dict({k[5:]: v for k, v in weights.items() if k.startswith("text.")}, strict=False)
    unet.load_state_dict({k[5:]: v for k, v in weights.items() if k.startswith("unet.")})
    vae = AutoencoderKL.from_pretrained(os.path.join(args.work, "autoencoder"))
    export(text, unet, vae, args.to)
    print(f"exported step {saved['step']} to {args.to}")


if __name__ == "__main__":
    main()
