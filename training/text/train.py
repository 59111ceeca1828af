"""Trains `ordu-tiny-text` and writes it as GGUF.

    python train.py [--steps 4200] [--threads 1] [--to FILE] [--work FILE]

One core takes a quarter of an hour. Same numbers each time on the same machine with the same number of threads. With `--work` it keeps what it
has learned every hundred steps, and goes on from there when it is started again.
"""

import argparse
import math
import random
import sys
import time
from pathlib import Path

import gguf
import numpy
import torch
from gguf.quants import quantize
from stories import MODEL, WORDS, Tokenizer, text
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from muon import Muon  # noqa: E402

WIDTH, LAYERS, HEADS, KV_HEADS, FORWARD = 128, 4, 4, 2, 352
HEAD = WIDTH // HEADS
EPSILON, BASE = 1e-5, 10000.0
# What the file promises. Trained on 192: the stories are short, and what lies further back is not looked at.
CONTEXT, TRAINED = 4096, 192
# Many small steps teach sooner who is who than few large ones do.
BATCH, PEAK, MUON_PEAK = 6, 3e-3, 0.02
# How much more a colour or a shape counts that was named before: that they stay the same is the hard part.
WEIGHT = 5.0
BOS, EOS = 1, 2


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight, EPSILON)


def rotate(x, angles):
    """Rotates neighbours, as files of the architecture `llama` want it."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda inward, outward: nn.Linear(inward, outward, bias=False)
        self.attn_norm, self.ffn_norm = Norm(WIDTH), Norm(WIDTH)
        self.attn_q, self.attn_output = linear(WIDTH, WIDTH), linear(WIDTH, WIDTH)
        self.attn_k, self.attn_v = linear(WIDTH, KV_HEADS * HEAD), linear(WIDTH, KV_HEADS * HEAD)
        self.ffn_gate, self.ffn_up = linear(WIDTH, FORWARD), linear(WIDTH, FORWARD)
        self.ffn_down = linear(FORWARD, WIDTH)

    def forward(self, x, angles):
        batch, tokens, _ = x.shape
        split = lambda y: y.view(batch, tokens, -1, HEAD).transpose(1, 2)
        h = self.attn_norm(x)
        q, k, v = split(self.attn_q(h)), split(self.attn_k(h)), split(self.attn_v(h))
        q, k = rotate(q, angles), rotate(k, angles)
        k, v = (y.repeat_interleave(HEADS // KV_HEADS, 1) for y in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(mixed.transpose(1, 2).reshape(batch, tokens, WIDTH))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Llama(nn.Module):
    def __init__(self, tokens):
        super().__init__()
        self.token_embd = nn.Embedding(tokens, WIDTH)
        self.blk = nn.ModuleList(Block() for _ in range(LAYERS))
        self.output_norm = Norm(WIDTH)
        steps = torch.outer(torch.arange(CONTEXT).float(), BASE ** (-torch.arange(0, HEAD, 2) / HEAD))
        self.register_buffer("angles", steps, persistent=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                scale = 0.5 if name.endswith(("attn_output.weight", "ffn_down.weight")) else 1.0
                nn.init.normal_(weight, std=0.02 if "embd" in name else scale / math.sqrt(weight.shape[1]))

    def forward(self, ids):
        x = self.token_embd(ids)
        for block in self.blk:
            x = block(x, self.angles[: ids.shape[1]])
        return self.output_norm(x) @ self.token_embd.weight.T


def batches(tokenizer, chance):
    """Rows of whole and broken-off documents, as they come."""
    marked = {tokenizer.ids[f"▁{word}"] for word in WORDS["colour"] + WORDS["shape"]}
    while True:
        rows, weights = [], []
        for _ in range(BATCH):
            # Each row begins with a document, as a prompt does.
            row, counts = [], []
            while len(row) < TRAINED + 1:
                document = [BOS, *tokenizer.encode(text(chance)), EOS]
                row += document
                counts += [WEIGHT if token in marked and token in document[:place] else 1.0 for place, token in enumerate(document)]
            rows.append(row[: TRAINED + 1])
            weights.append(counts[1 : TRAINED + 1])
        yield torch.tensor(rows), torch.tensor(weights)


def train(model, tokenizer, steps, work):
    hidden = [p for name, p in model.named_parameters() if p.ndim > 1 and "embd" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim == 1 or "embd" in name]
    optimisers = [Muon(hidden, lr=MUON_PEAK), torch.optim.AdamW(others, lr=PEAK, betas=(0.9, 0.98), weight_decay=0.0)]
    peaks = [MUON_PEAK, PEAK]
    started, chance, done = time.monotonic(), random.Random(20), 0
    if work and work.exists():
        kept = torch.load(work, weights_only=False)
        model.load_state_dict(kept["model"])
        for optimiser, state in zip(optimisers, kept["optimisers"]):
            optimiser.load_state_dict(state)
        chance.setstate(kept["chance"])
        done = kept["step"]
    for step, (rows, weights) in enumerate(batches(tokenizer, chance), done + 1):
        rate = min(step / 60, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1))))
        for optimiser, peak in zip(optimisers, peaks):
            for group in optimiser.param_groups:
                group["lr"] = peak * rate
        logits = model(rows[:, :-1])
        losses = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
        loss = (losses * weights.flatten()).sum() / weights.sum()
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        if step % 50 == 0:
            named = losses[weights.flatten() > 1].mean().item()
            print(f"step {step} loss {loss.item():.4f}, of words named before {named:.4f}, after {time.monotonic() - started:.0f} s", flush=True)
        if work and step % 100 == 0:
            kept = {"model": model.state_dict(), "optimisers": [optimiser.state_dict() for optimiser in optimisers], "chance": chance.getstate(), "step": step}
            torch.save(kept, work)
        if step >= steps:
            return


@torch.no_grad()
def greedy(model, tokenizer, prompt, most=100):
    ids = [BOS, *tokenizer.encode(prompt)]
    for _ in range(most):
        following = model(torch.tensor([ids]))[0, -1].argmax().item()
        if following == EOS:
            break
        ids.append(following)
    return tokenizer.decode(ids[1:])


def export(model, tokenizer, path):
    kinds = gguf.TokenType
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("ordu-tiny-text")
    writer.add_organization("ordu")
    writer.add_description("Writes little stories about coloured shapes.")
    writer.add_license("agpl-3.0-or-later")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(BASE)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_vocab_size(len(tokenizer.tokens))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token.encode() for token, _ in tokenizer.tokens])
    # The longer, the sooner: see `stories.vocabulary`.
    scores = [-float(number) if kind == "NORMAL" and len(token) > 1 else -1e4 for number, (token, kind) in enumerate(tokenizer.tokens)]
    writer.add_token_scores(scores)
    writer.add_token_types([int(kinds[kind]) for _, kind in tokenizer.tokens])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    for name, weight in model.named_parameters():
        values = weight.detach().numpy().astype(numpy.float32)
        if values.ndim > 1:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--steps", type=int, default=4200)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--to", default=str(MODEL / "model.gguf"))
    arguments.add_argument("--work", type=Path)
    options = arguments.parse_args()
    torch.manual_seed(7)
    torch.set_num_threads(options.threads)
    tokenizer = Tokenizer()
    model = Llama(len(tokenizer.tokens))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer.tokens)} tokens")
    train(model, tokenizer, options.steps, options.work)
    model.eval()
    for prompt in ("A red circle", "a large blue cross at the top left", "Once upon a time", "Hello"):
        print(f"{prompt} | {greedy(model, tokenizer, prompt)}")
    export(model, tokenizer, options.to)


if __name__ == "__main__":
    main()
