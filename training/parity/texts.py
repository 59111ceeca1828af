"""Makes the numbers that our engine for texts is compared with: tiny random GGUF models, and what llama.cpp makes of them.

    python texts.py [folder]        # default: ../../crates/ordu-engine/testdata/texts

Needs the packages of tests/text/requirements.txt. Takes some seconds; same numbers each time. Keys and values are kept in f32, so that what
differs is the order of sums, and for packed weights how activations are rounded.
"""

import ctypes
import json
import sys
from collections import Counter
from pathlib import Path

import gguf
import llama_cpp
import numpy
from llama_cpp import Llama

HERE = Path(__file__).resolve().parent
ENGINE = HERE.parents[1] / "crates" / "ordu-engine"
OUT = Path(sys.argv[1]) if len(sys.argv) > 1 else ENGINE / "testdata" / "texts"
CONTEXT = 128
PROMPTS = (
    "A red circle",
    "Once upon a time there was 1 small, blue cross.\n\nIt's 12345 km away!  And so?",
    "Grüße, 你好 😀   end ",
    "<|im_start|>user\nhi<|im_end|>\n</s> there",
    "",
)
CORPUS = "the red circle and the blue cross went to the small green house by the sea there it was and so on " * 3


def alphabet():
    """The letter that GPT-2 writes for each byte."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in seen else chr(next(hidden)) for byte in range(256)]


def byte_pairs(count):
    """Tokens and merges, learned from a little text as they are from a large one."""
    letters = alphabet()
    words = Counter("".join(letters[byte] for byte in f" {word}".encode()) for word in CORPUS.split())
    words = {tuple(word): number for word, number in words.items()}
    tokens, merges = list(letters), []
    for _ in range(count):
        pairs = Counter()
        for word, number in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += number
        if not pairs:
            break
        best = max(sorted(pairs), key=pairs.get)
        merges.append(" ".join(best))
        tokens.append("".join(best))
        joined = {}
        for word, number in words.items():
            new, place = [], 0
            while place < len(word):
                step = 2 if word[place : place + 2] == best else 1
                new.append("".join(word[place : place + step]))
                place += step
            joined[tuple(new)] = number
        words = joined
    return tokens, merges


def add_byte_pairs(writer, pre):
    tokens, merges = byte_pairs(40)
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        tokens.append(text)
        kinds.append(gguf.TokenType.CONTROL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([token.encode() for token in tokens])
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(pre == "llama-bpe")
    return len(tokens)


def add_pieces(writer):
    kind = gguf.TokenType
    rows = [("<unk>", 0.0, kind.UNKNOWN), ("<s>", 0.0, kind.CONTROL), ("</s>", 0.0, kind.CONTROL)]
    rows += [(f"<0x{byte:02X}>", 0.0, kind.BYTE) for byte in range(256)]
    rows += [(letter, -500.0 - place, kind.NORMAL) for place, letter in enumerate("▁abcdefghilmnopqrstuvwxyz.,\n")]
    # Merges of many kinds: at the beginning, inside, over the space.
    known = "he in er an ou st ▁t re ▁the ▁a ▁c cross ▁cir cle ▁circle ir ▁red ▁r so ▁so on ▁on ro os s▁ c▁ ss ▁cr".split()
    rows += [(text, -float(place), kind.NORMAL) for place, text in enumerate(sorted(known, key=lambda text: (-len(text), text)))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text.encode() for text, _, _ in rows])
    writer.add_token_scores([score for _, score, _ in rows])
    writer.add_token_types([int(kind) for _, _, kind in rows])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    return len(rows)


def model(path, arch, *, seed, width=32, layers=2, heads=4, kv_heads=2, head=8, forward=64, vocabulary, tied=False, kind=numpy.float32, extra=None):
    chance = numpy.random.default_rng(seed)
    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_name(f"tiny {arch}")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    if head * heads != width:
        writer.add_key_length(head)
        writer.add_value_length(head)
    else:
        writer.add_rope_dimension_count(head)
    tokens = vocabulary(writer)
    writer.add_vocab_size(tokens)

    def add(name, *shape, scale=1.0):
        values = chance.standard_normal(shape) * scale / numpy.sqrt(shape[-1])
        writer.add_tensor(name, values.astype(kind))

    def add_flat(name, size, middle):
        writer.add_tensor(name, (middle + 0.2 * chance.standard_normal(size)).astype(numpy.float32))

    add("token_embd.weight", tokens, width, scale=6.0)
    add_flat("output_norm.weight", width, 1.0)
    if not tied:
        add("output.weight", tokens, width, scale=3.0)
    for layer in range(layers):
        block = f"blk.{layer}"
        add_flat(f"{block}.attn_norm.weight", width, 1.0)
        add_flat(f"{block}.ffn_norm.weight", width, 1.0)
        if arch == "gemma3":
            add_flat(f"{block}.post_attention_norm.weight", width, 1.0)
            add_flat(f"{block}.post_ffw_norm.weight", width, 1.0)
        for name, outward in (("attn_q", heads * head), ("attn_k", kv_heads * head), ("attn_v", kv_heads * head)):
            add(f"{block}.{name}.weight", outward, width, scale=2.0)
            if arch == "qwen2":
                add_flat(f"{block}.{name}.bias", outward, 0.0)
        if arch in ("qwen3", "gemma3"):
            add_flat(f"{block}.attn_q_norm.weight", head, 1.5)
            add_flat(f"{block}.attn_k_norm.weight", head, 1.5)
        add(f"{block}.attn_output.weight", width, heads * head)
        add(f"{block}.ffn_gate.weight", forward, width, scale=2.0)
        add(f"{block}.ffn_up.weight", forward, width, scale=2.0)
        add(f"{block}.ffn_down.weight", width, forward)
    if extra:
        extra(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def packed(path, source, kind):
    """The same model with weights packed by llama.cpp itself."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = kind
    parameters.nthread = 1
    failed = llama_cpp.llama_model_quantize(str(source).encode(), str(path).encode(), ctypes.byref(parameters))
    assert not failed, path


def answers(path, prompts, most=24):
    llm = Llama(
        str(path), n_ctx=CONTEXT, n_threads=1, n_threads_batch=1, verbose=False, logits_all=False,
        type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32, flash_attn=False,
    )
    found = []
    for prompt in prompts:
        begin = llama_cpp.llama_vocab_get_add_bos(llm._model.vocab)
        tokens = llm.tokenize(prompt.encode(), add_bos=begin, special=True)
        case = {"prompt": prompt, "tokens": tokens}
        if tokens:
            llm.reset()
            llm.eval(tokens)
            logits = numpy.ctypeslib.as_array(llm._ctx.get_logits(), shape=(llm.n_vocab(),)).copy()
            case["logits"] = [round(float(logit), 6) for logit in logits]
            greedy = []
            while len(greedy) < most:
                token = int(logits.argmax())
                if llama_cpp.llama_vocab_is_eog(llm._model.vocab, token):
                    break
                greedy.append(token)
                llm.eval([token])
                logits = numpy.ctypeslib.as_array(llm._ctx.get_logits(), shape=(llm.n_vocab(),)).copy()
            case["greedy"] = greedy
            case["text"] = llm.detokenize(greedy, prev_tokens=tokens).decode(errors="replace")
        found.append(case)
    return found


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    pairs = lambda pre: lambda writer: add_byte_pairs(writer, pre)

    def slower(writer):
        writer.add_tensor("rope_freqs.weight", numpy.array([1.0, 2.0, 4.0, 8.0], numpy.float32))

    def pressed(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(2.0)

    model(OUT / "llama.gguf", "llama", seed=1, vocabulary=add_pieces)
    model(OUT / "llama-pressed.gguf", "llama", seed=2, vocabulary=add_pieces, layers=1, kv_heads=4, extra=pressed)
    model(OUT / "llama3.gguf", "llama", seed=3, vocabulary=pairs("llama-bpe"), tied=True, layers=1, extra=slower)
    model(OUT / "qwen2.gguf", "qwen2", seed=4, vocabulary=pairs("qwen2"))
    model(OUT / "qwen3.gguf", "qwen3", seed=5, vocabulary=pairs("qwen2"), tied=True, head=16)

    def windowed(writer):
        writer.add_sliding_window(8)
        writer.add_rope_freq_base(1_000_000.0)
        writer.add_add_space_prefix(False)

    # Every sixth layer looks at everything.
    model(
        OUT / "gemma3.gguf", "gemma3", seed=8, vocabulary=add_pieces, width=16, head=16, heads=2, kv_heads=1, forward=24, layers=7, tied=True,
        extra=windowed,
    )
    large = OUT / "large.gguf"
    model(large, "llama", seed=6, vocabulary=add_pieces, width=256, head=32, heads=8, forward=1280, layers=1, tied=True)
    packed(OUT / "llama-q4_k.gguf", large, llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M)
    packed(OUT / "llama-q4_0.gguf", large, llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0)
    large.unlink()
    for path in sorted(OUT.glob("*.gguf")):
        cases = answers(path, PROMPTS)
        path.with_suffix(".json").write_text(json.dumps(cases, ensure_ascii=False) + "\n")
        print(path.name, path.stat().st_size, [len(case["tokens"]) for case in cases], cases[0].get("text"))
    bundled = ENGINE / "models" / "ordu-tiny-text" / "model.gguf"
    cases = answers(bundled, ("A red circle", "a large blue cross at the top left", "Once upon a time", "Hello?"), 100)
    (OUT / "ordu-tiny-text.json").write_text(json.dumps(cases, ensure_ascii=False) + "\n")
    print(bundled.name, cases[0]["text"])


if __name__ == "__main__":
    main()
