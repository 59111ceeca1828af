"""Writes `ordu-tiny-cascade` as the two single files of Stable Cascade, f16, its tokenizer and the numbers that tensors do not tell.

    python export_cascade.py --work DIR --model MODELS/ordu-tiny --to MODELS/ordu-tiny-cascade
"""

import argparse
import json
import os

import torch
from safetensors.torch import save_file

import cascade
import networks


def original(unet, is_c):
    """The names of the published files: queries, keys and values as one."""
    tensors = dict(unet.state_dict())
    named = {}
    for name, value in tensors.items():
        if ".attention.to_q." in name:
            parts = [tensors[name.replace("to_q", f"to_{letter}")] for letter in "qkv"]
            named[name.replace("to_q.", "attn.in_proj_")] = torch.cat(parts)
        elif ".attention.to_k." in name or ".attention.to_v." in name:
            continue
        elif ".attention.to_out.0." in name:
            named[name.replace("to_out.0", "attn.out_proj")] = value
        elif not is_c and name.startswith("clip_txt_pooled_mapper"):
            named[name.replace("clip_txt_pooled_mapper", "clip_mapper")] = value
        else:
            named[name] = value
    return {"model.diffusion_model." + name: value for name, value in named.items()}


def halved(tensors):
    keep = lambda name: "running_" in name
    return {n: (v if keep(n) else v.half()).contiguous().clone() for n, v in tensors.items() if v.is_floating_point()}


def files(parts, text):
    """(tensors of stage C's file, of stage B's); `text` are those of the text encoder."""
    clip = "text_encoder.clip_g.transformer."
    name = lambda n: n if n.startswith("text_") else "text_model." + n
    c = original(parts["c"], True) | {clip + name(n): v for n, v in text.items()}
    c[clip + "text_projection.weight"] = torch.eye(networks.TEXT_WIDTH)
    c |= {"clip_l_vision." + n: v for n, v in parts["vision"].state_dict().items() if "position_ids" not in n}
    c |= {"vae.encoder." + n: v for n, v in parts["encoder"].state_dict().items()}
    b = original(parts["b"], False)
    b |= {"vae." + n: v for n, v in parts["a"].state_dict().items() if n.startswith(("up_blocks", "out_block"))}
    return halved(c), halved(b)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--to", required=True)
    options = parser.parse_args()
    parts = dict(a=cascade.make_stage_a(), encoder=cascade.Encoder(), vision=cascade.make_vision(), c=cascade.make_stage_c(), b=cascade.make_stage_b())
    kept = torch.load(os.path.join(options.work, "parts.pt"), map_location="cpu")
    text = kept.pop("text")
    for name, state in kept.items():
        parts[name].load_state_dict(state)
    os.makedirs(options.to, exist_ok=True)
    for name, tensors in zip(("stage_c", "stage_b"), files(parts, text)):
        save_file(tensors, os.path.join(options.to, name + ".safetensors"))
    networks.make_tokenizer().save(os.path.join(options.to, "tokenizer.json"))
    config = json.load(open(os.path.join(options.model, "text_encoder", "config.json")))
    wanted = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", "hidden_act")
    told = dict(text_encoder={k: config[k] for k in wanted}, vision_heads=2, head=32, native=cascade.DRAWN)
    with open(os.path.join(options.to, "config.json"), "w") as f:
        json.dump(told, f, indent=2)
        f.write("\n")


if __name__ == "__main__":
    main()
