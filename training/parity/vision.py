"""Makes what the readers of pictures in `ordu-engine` are compared with: tiny random networks of transformers and diffusers under the
names of public files (CLIP, BLIP, the safety checker of Stable Diffusion), pictures as Pillow prepares them, and what comes of it.

    python vision.py [folder]        # default: ../../crates/ordu-engine/testdata/vision

Needs torch, transformers, diffusers, Pillow, safetensors. Takes a minute; same numbers each time.
"""

import json
import sys
from pathlib import Path

import numpy
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors.torch import save_file
from transformers import BlipConfig, BlipForConditionalGeneration, CLIPConfig, CLIPModel
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

HERE = Path(__file__).resolve().parent
OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[1] / "crates" / "ordu-engine" / "testdata" / "vision"
torch.set_num_threads(1)
torch.set_grad_enabled(False)

# Wide, high, small in both, and as large as the network wants it.
SIZES = [(56, 40), (21, 50), (17, 13), (32, 32)]
SIDE, PATCH = 32, 8
WORDS = ["a", "red", "blue", "green", "circle", "square", "on", "the", "left", "right", "of", "field", "cat", "tree", "sea"]


def randomise(module, seed, spread=0.6):
    """Weights of a size at which everything in a network has an effect."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() < 2:
            is_norm = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(0.2 * noise + (1.0 if is_norm else 0.0))
        else:
            parameter.copy_(noise * spread / parameter[0].numel() ** 0.5 * (2 if "embed" in name else 1))
    module.eval()


def pictures():
    """Random blots: smooth here, sharp there."""
    generator = numpy.random.default_rng(7)
    made = []
    for width, height in SIZES:
        small = generator.integers(0, 256, (5, 6, 3), dtype=numpy.uint8)
        picture = numpy.array(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))
        noisy = generator.integers(0, 256, picture.shape, dtype=numpy.uint8)
        mask = generator.random((height, width, 1)) < 0.2
        made.append(Image.fromarray(numpy.where(mask, noisy, picture)))
    return made


def write(folder, model, config, tokenizer, io):
    folder = OUT / folder
    folder.mkdir(parents=True, exist_ok=True)
    # Shared weights are saved once, as transformers does.
    state, seen = {}, set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen or tensor.numel() < 2:
            seen.add(tensor.data_ptr())
            state[name] = tensor.contiguous().half() if tensor.is_floating_point() else tensor
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer, indent=1) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in io.items()}, folder / "io.safetensors")


def halved(model):
    """Weights as f16 has them: files are half as large, and both sides compute with the same numbers."""
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.copy_(tensor.half().float())


def vision(act):
    return {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": SIDE,
        "patch_size": PATCH, "hidden_act": act, "projection_dim": 16,
    }


def clip(act):
    marks = {"<|startoftext|>": len(WORDS) + 1, "<|endoftext|>": len(WORDS) + 2}
    vocabulary = {word: place for place, word in enumerate([*WORDS, "?"])} | marks
    config = {
        "model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": 16,
        "vision_config": vision(act),
        "text_config": {
            "vocab_size": len(vocabulary), "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 3, "max_position_embeddings": 12, "hidden_act": act, "projection_dim": 16,
            "bos_token_id": marks["<|startoftext|>"], "eos_token_id": marks["<|endoftext|>"],
        },
    }
    model = CLIPModel(CLIPConfig(**config))
    randomise(model, 1)
    model.logit_scale.fill_(3.0)
    halved(model)
    tokenizer = {
        "version": "1.0",
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "?"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|startoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}],
            "pair": [],
            "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in marks.items()},
        },
    }
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    pixels = [processor(picture, return_tensors="pt").pixel_values for picture in pictures()]
    texts = ["a red circle", "the sea", "a blue square on the left of a green field", "cat", ""]
    begin, end = marks.values()
    rows = [[begin, *[vocabulary.get(word, len(WORDS)) for word in text.split()][:10], end] for text in texts]
    ids = torch.tensor([row + [end] * (12 - len(row)) for row in rows])
    out = model(input_ids=ids, pixel_values=torch.cat(pixels), attention_mask=torch.ones_like(ids))
    io = {f"picture.{place}": torch.from_numpy(numpy.array(picture)) for place, picture in enumerate(pictures())}
    io |= {"pixels": torch.cat(pixels), "images": out.image_embeds, "texts": out.text_embeds, "logits": out.logits_per_image}
    write(f"clip-{act.replace('_', '-')}", model, config, tokenizer, io)
    (OUT / f"clip-{act.replace('_', '-')}" / "texts.json").write_text(json.dumps(texts) + "\n")


def safety():
    config = {"model_type": "clip", "architectures": ["StableDiffusionSafetyChecker"], "projection_dim": 16, "vision_config": vision("quick_gelu"),
              "text_config": {"hidden_size": 24}}
    model = StableDiffusionSafetyChecker(CLIPConfig(**config))
    randomise(model, 2)
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    # Crops of blots, so that there are enough to be judged in all ways.
    generator = numpy.random.default_rng(9)
    pixels = torch.cat([processor(picture, return_tensors="pt").pixel_values for picture in pictures()])
    more = torch.from_numpy(generator.normal(0, 1, (12, 3, SIDE, SIDE)).astype(numpy.float32))
    pixels = torch.cat([pixels, more])
    model.concept_embeds.copy_(torch.randn(17, 16, generator=torch.Generator().manual_seed(3)))
    model.special_care_embeds.copy_(torch.randn(3, 16, generator=torch.Generator().manual_seed(4)))
    halved(model)

    # Thresholds in the middle of what there is, some pictures beyond them.
    embeds = model.visual_projection(model.vision_model(pixels)[1])
    def cosines(concepts):
        return torch.nn.functional.normalize(embeds) @ torch.nn.functional.normalize(concepts).T
    model.concept_embeds_weights.copy_(torch.quantile(cosines(model.concept_embeds), 0.97, dim=0))
    model.special_care_embeds_weights.copy_(torch.quantile(cosines(model.special_care_embeds), 0.8, dim=0))
    halved(model)
    special = cosines(model.special_care_embeds) - model.special_care_embeds_weights
    _, has = model(pixels, numpy.zeros((len(pixels), 1, 1, 3)))
    care = (special.double().numpy().round(3) > 0).any(1)
    print("safety:", has, care.tolist())
    io = {"pixels": pixels, "embeds": embeds, "special": special, "concepts": cosines(model.concept_embeds) - model.concept_embeds_weights,
          "has": torch.tensor(has, dtype=torch.uint8), "care": torch.from_numpy(care).to(torch.uint8)}
    write("safety", model, config, None, io)


def blip():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = special + WORDS + ["##s", "##ing", ".", ",", "'", "[DEC]"]
    dec = len(words) - 1
    config = {
        "model_type": "blip", "architectures": ["BlipForConditionalGeneration"],
        "vision_config": vision("gelu"),
        "text_config": {
            "vocab_size": len(words), "hidden_size": 24, "encoder_hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 3, "max_position_embeddings": 48, "bos_token_id": dec, "sep_token_id": 3, "eos_token_id": 3,
            "pad_token_id": 0, "is_decoder": True, "hidden_act": "gelu",
        },
    }
    model = BlipForConditionalGeneration(BlipConfig(**config))
    randomise(model, 5, 1.2)
    halved(model)
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {"id": place, "content": word, "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
            for place, word in enumerate(words) if word in [*special, "[DEC]"]
        ],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                  "vocab": {word: place for place, word in enumerate(words)}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    }
    processor = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    pixels = torch.cat([processor(picture, return_tensors="pt").pixel_values for picture in pictures()])
    image = model.vision_model(pixel_values=pixels)[0]
    ids = torch.tensor([[dec, 6, 9, 4, 12, 3, 21, 7]]).repeat(len(pixels), 1)
    mask = torch.ones(image.shape[:-1], dtype=torch.long)
    logits = model.text_decoder(input_ids=ids, encoder_hidden_states=image, encoder_attention_mask=mask).logits
    io = {"pixels": pixels, "image": image, "ids": ids.to(torch.int64), "logits": logits}
    written = []
    for beams in [1, 2, 3, 7]:
        for least, most, penalty in [(0, 12, 1.0), (5, 12, 1.0), (8, 20, 1.4), (20, 30, 1.4), (3, 40, 1.1)]:
            for place in range(len(pixels)):
                made = model.generate(pixels[place : place + 1], num_beams=beams, min_length=least, max_length=most, repetition_penalty=penalty,
                                      do_sample=False)[0]
                ids = made.tolist()
                written.append({"picture": place, "beams": beams, "least": least, "most": most, "penalty": penalty, "ids": ids})
    print("captions:", len(written), "of lengths", sorted({len(one["ids"]) for one in written}))
    write("blip", model, config, tokenizer, io)
    (OUT / "blip" / "captions.json").write_text("[\n" + ",\n".join(json.dumps(one) for one in written) + "\n]\n")


clip("quick_gelu")
clip("gelu")
safety()
blip()
for path in sorted(OUT.rglob("*")):
    if path.is_file():
        print(path.stat().st_size, path.relative_to(OUT))
