"""Makes the numbers that families of models and their add-ons are compared with: a model like SDXL (two text encoders, a summary of the text, sizes of the
picture), a text encoder of OpenCLIP as Stable Diffusion 2 has it, LoRAs of all kinds, learned words.

    python families.py [folder]

Needs what `make.py` needs, and peft, whose layers check the formulas of LoRA and LoHa. No weights are stored: both sides grow the same ones from the names
of tensors (`grown.py` here, `grown.rs` in the tests), so that a file holds names, shapes, inputs and outputs alone.
"""

import json
import math

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from grown import grown
from make import OUT, save, seeded


def fill(module, part):
    """Grows all parameters of a module, and tells their names and shapes."""
    shapes = {}
    for name, parameter in module.named_parameters():
        name = name.removeprefix("text_model.")
        parameter.data = grown(f"{part}/{name}", parameter.shape)
        shapes[name] = list(parameter.shape)
    return module.eval(), shapes


def write_json(name, value):
    (OUT / name).write_text(json.dumps(value, indent=None, separators=(",", ":"), sort_keys=True) + "\n")


# ----------------------------------------------------------------------------------------------------------------- text

def text_encoder(kind, **changes):
    numbers = dict(vocab_size=530, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=1, max_position_embeddings=16,
                   hidden_act="quick_gelu", bos_token_id=523, eos_token_id=524, pad_token_id=0, projection_dim=24)
    return kind(CLIPTextConfig(**{**numbers, **changes}))


def pack(words, room=14, long=8):
    """Words of (ids, weight) to chunks: a word is not cut unless it is long."""
    chunks, chunk = [], []
    for ids, weight in words:
        if len(chunk) + len(ids) > room and len(ids) < long:
            chunks, chunk = chunks + [chunk], []
        for i in ids:
            if len(chunk) == room:
                chunks, chunk = chunks + [chunk], []
            chunk.append((i, weight))
    return chunks + [chunk]


def tokens(tokenizer, parts, learned=None):
    """Parts of a prompt, (text, weight), to words of (ids, weight). A word of `learned` is its ids."""
    words = []
    for text, weight in parts:
        for word in text.split():
            ids = (learned or {}).get(word) or tokenizer(word, add_special_tokens=False).input_ids
            words.append((ids, weight))
    return words


def encode(module, chunks, pad, layer, normed, table=None):
    """What ComfyUI makes of weighted chunks: each token moved from what no prompt gives there. Also the summary of the first chunk."""
    framed = [[(523, 1.0)] + chunk + [(524, 1.0)] for chunk in chunks]
    framed = [(chunk + [(pad, 1.0)] * 16)[:16] for chunk in framed]
    empty = ([523, 524] + [pad] * 16)[:16]
    ids = torch.tensor([[i for i, _ in chunk] for chunk in framed] + [empty])
    weights = torch.tensor([[w for _, w in chunk] for chunk in framed])[..., None]
    inner = getattr(module, "text_model", module)
    if table is not None:  # rows behind those of the vocabulary
        full = torch.cat([inner.embeddings.token_embedding.weight.data, table])
        kept, inner.embeddings.token_embedding.weight.data = inner.embeddings.token_embedding.weight.data, full
    out = module(ids, output_hidden_states=True)
    if table is not None:
        inner.embeddings.token_embedding.weight.data = kept
    states = out.hidden_states[-layer]
    if normed:
        states = inner.final_layer_norm(states)
    nothing = states[-1:]
    made = nothing + (states[:-1] - nothing) * weights
    end = int((ids[0] == 524).int().argmax())
    last = inner.final_layer_norm(out.hidden_states[-1])[:1, end]
    summary = module.text_projection(last) if hasattr(module, "text_projection") else None
    return made.reshape(1, -1, made.shape[-1]), summary


PLAIN = [("a red cat", 1.0)]
LONG = [("a red cat in the blue", 1.0), ("thing", 1.3), ("and nothingatallofthiskind", 0.7), ("the end", 1.0)]
PROMPTS = {"plain": "a red cat", "long": "a red cat in the blue (thing:1.3) (and nothingatallofthiskind:0.7) the end"}


def make_open_clip(tokenizer):
    """Stable Diffusion 2: the last layer but one, normalised; filled up with 0."""
    module, shapes = fill(text_encoder(CLIPTextModel, hidden_act="gelu"), "text")
    write_json("open-clip.json", {"text": shapes})
    out = {}
    for name, parts in {"plain": PLAIN, "long": LONG}.items():
        for skip in (1, 2, 3):
            out[f"{name}.skip{skip}"], _ = encode(module, pack(tokens(tokenizer, parts)), 0, max(skip, 2), True)
    save(OUT / "open-clip.safetensors", out)


# ----------------------------------------------------------------------------------------------------------------- SDXL

def xl_unet():
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2], cross_attention_dim=64, attention_head_dim=1, use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=24 + 6 * 8)


def make_xl(tokenizer):
    first, first_shapes = fill(text_encoder(CLIPTextModel), "text")
    second, second_shapes = fill(text_encoder(CLIPTextModelWithProjection, hidden_act="gelu"), "text_2")
    net, net_shapes = fill(xl_unet(), "unet")
    write_json("xl.json", {"text": first_shapes, "text_2": second_shapes, "unet": net_shapes})
    out = {}
    for name, parts in {"plain": PLAIN, "long": LONG}.items():
        for skip in (1, 3):
            chunks = pack(tokens(tokenizer, parts))
            one, _ = encode(first, chunks, 524, max(skip, 2), False)
            two, summary = encode(second, chunks, 0, max(skip, 2), False)
            out[f"{name}.skip{skip}"] = torch.cat([one, two], -1)
            out[f"{name}.summary"] = summary
    # A learned word of two rows for each encoder.
    word = {"clip_l": grown("word/clip_l", (2, 32)), "clip_g": grown("word/clip_g", (2, 32))}
    words = tokens(tokenizer, [("a", 1.0), ("embedding:sun", 1.2), ("cat", 1.0)], {"embedding:sun": [530, 531]})
    one, _ = encode(first, pack(words), 524, 2, False, word["clip_l"])
    two, summary = encode(second, pack(words), 0, 2, False, word["clip_g"])
    out["word"], out["word.summary"] = torch.cat([one, two], -1), summary

    x = torch.randn((2, 4, 8, 12), generator=seeded(70))
    text = torch.cat([out["plain.skip1"], out["word"]])
    summaries = torch.cat([out["plain.summary"], out["word.summary"]])
    sizes = torch.tensor([[64.0, 96.0, 0.0, 0.0, 64.0, 96.0]] * 2)
    added = {"text_embeds": summaries, "time_ids": sizes}
    out |= {"x": x, "y": net(x, 501.0, text, added_cond_kwargs=added).sample}
    save(OUT / "xl.safetensors", out)
    return net, first, second, added, x, text


# ---------------------------------------------------------------------------------------------------------------- LoRA

RANK = 3
# Layer of the SDXL-like model, kind of change.
LAYERS = {
    "unet/down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k": "low",
    "unet/mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0": "low",
    "unet/up_blocks.0.attentions.1.proj_in": "low",
    "unet/up_blocks.1.resnets.0.conv_shortcut": "low",
    "unet/down_blocks.0.resnets.0.conv1": "low",
    "unet/mid_block.resnets.1.conv2": "core",
    "unet/up_blocks.0.upsamplers.0.conv": "hada-core",
    "unet/down_blocks.0.downsamplers.0.conv": "hada",
    "unet/mid_block.attentions.0.transformer_blocks.1.ff.net.0.proj": "hada",
    "unet/time_embedding.linear_1": "low",
    "unet/add_embedding.linear_2": "low",
    "text/encoder.layers.0.self_attn.q_proj": "low",
    "text/encoder.layers.1.mlp.fc1": "hada",
    "text_2/encoder.layers.1.self_attn.out_proj": "low",
    "text_2/encoder.layers.0.mlp.fc2": "low",
}


def factors(layer, kind, shape):
    """Tensors of a change by their endings, grown like all others; and the change itself."""
    outputs, inputs, kernel = shape[0], shape[1], list(shape[2:])
    ones = [1] * len(kernel)
    make = lambda ending, *sides: grown(f"lora/{layer}{ending}", sides) * 0.5
    if kind == "low":
        parts = {".lora_down.weight": make(".lora_down.weight", RANK, inputs, *kernel), ".lora_up.weight": make(".lora_up.weight", outputs, RANK, *ones)}
        change = (parts[".lora_up.weight"].flatten(1) @ parts[".lora_down.weight"].flatten(1)).reshape(shape)
    elif kind == "core":
        parts = {".lora_down.weight": make(".lora_down.weight", RANK, inputs, *ones), ".lora_up.weight": make(".lora_up.weight", outputs, RANK, *ones),
                 ".lora_mid.weight": make(".lora_mid.weight", RANK, RANK, *kernel)}
        change = torch.einsum("ijkl,jr,pi->prkl", parts[".lora_mid.weight"], parts[".lora_down.weight"].flatten(1), parts[".lora_up.weight"].flatten(1))
    elif kind == "hada":
        parts = {f".hada_w{n}_a": make(f".hada_w{n}_a", outputs, RANK) for n in (1, 2)} | {f".hada_w{n}_b": make(f".hada_w{n}_b", RANK, inputs * math.prod(kernel)) for n in (1, 2)}
        change = ((parts[".hada_w1_a"] @ parts[".hada_w1_b"]) * (parts[".hada_w2_a"] @ parts[".hada_w2_b"])).reshape(shape)
    else:
        parts = {f".hada_w{n}_a": make(f".hada_w{n}_a", RANK, outputs) for n in (1, 2)} | {f".hada_w{n}_b": make(f".hada_w{n}_b", RANK, inputs) for n in (1, 2)}
        parts |= {f".hada_t{n}": make(f".hada_t{n}", RANK, RANK, *kernel) for n in (1, 2)}
        one, two = (torch.einsum("ijkl,jr,ip->prkl", parts[f".hada_t{n}"], parts[f".hada_w{n}_b"], parts[f".hada_w{n}_a"]) for n in (1, 2))
        change = one * two
    return parts, change


def check_with_peft():
    """The formulas of low rank and of Hadamard products, with and without a core, are those of peft."""
    from peft import LoHaConfig, LoraConfig, get_peft_model
    shape = (6, 4, 3, 3)
    holder = lambda: torch.nn.Sequential(torch.nn.Conv2d(4, 6, 3, bias=False))
    for kind, core in (("hada", False), ("hada-core", True)):
        layer = get_peft_model(holder(), LoHaConfig(r=RANK, alpha=RANK, target_modules=["0"], use_effective_conv2d=core, init_weights=False)).base_model.model[0]
        parts, change = factors("check", kind, shape)
        own = {f".hada_{n}": p["default"] for n, p in ((n, getattr(layer, f"hada_{n}")) for n in ("w1_a", "w1_b", "w2_a", "w2_b"))}
        if core:
            own |= {".hada_t1": layer.hada_t1["default"], ".hada_t2": layer.hada_t2["default"]}
        for ending, parameter in own.items():
            assert parameter.shape == parts[ending].shape, (ending, parameter.shape, parts[ending].shape)
            parameter.data = parts[ending]
        assert torch.allclose(layer.get_delta_weight("default"), change, atol=1e-6), kind
    layer = get_peft_model(holder(), LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["0"])).base_model.model[0]
    parts, change = factors("check", "low", shape)
    layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data = parts[".lora_down.weight"], parts[".lora_up.weight"]
    assert torch.allclose(layer.get_delta_weight("default"), change, atol=1e-6)


ALPHA = 2.0


def make_loras(tokenizer, net, first, second, added, x, text):
    check_with_peft()
    modules = {"unet": net, "text": getattr(first, "text_model", first), "text_2": getattr(second, "text_model", second)}
    table, out = {}, {}

    def outputs():
        chunks = pack(tokens(tokenizer, PLAIN))
        one, _ = encode(first, chunks, 524, 2, False)
        two, _ = encode(second, chunks, 0, 2, False)
        return net(x, 501.0, text, added_cond_kwargs=added).sample, torch.cat([one, two], -1)

    out["unet.none"], out["text.none"] = outputs()
    kept = {}
    for layer, kind in LAYERS.items():
        part, name = layer.split("/")
        weight = modules[part].get_submodule(name).weight
        parts, change = factors(layer, kind, weight.shape)
        table[layer] = {ending: list(value.shape) for ending, value in parts.items()}
        kept[layer] = (weight, weight.data.clone(), change * (ALPHA / RANK))
    for label, strength, chosen in [("all", (0.8, -0.6), list(LAYERS)), ("low", (1.0, 1.0), [l for l, k in LAYERS.items() if k == "low"])]:
        for layer in chosen:
            weight, base, change = kept[layer]
            weight.data = base + change * (strength[0] if layer.startswith("unet/") else strength[1])
        out[f"unet.{label}"], out[f"text.{label}"] = outputs()
        for layer in chosen:
            kept[layer][0].data = kept[layer][1]
    write_json("loras.json", {"layers": table, "alpha": ALPHA})
    save(OUT / "loras.safetensors", out)


def main():
    torch.set_grad_enabled(False)
    tokenizer = CLIPTokenizer.from_pretrained(OUT / "tiny-sd" / "tokenizer", model_max_length=16)
    make_open_clip(tokenizer)
    made = make_xl(tokenizer)
    make_loras(tokenizer, *made)


if __name__ == "__main__":
    main()
