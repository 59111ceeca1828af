"""Writes a tiny llama with random weights as a GGUF file: words come out, but no sense.

    tiny_gguf.py FILE

It is for tests of everything around a model: loading, tokens, sampling, streaming, stopping. Some 100
words are single tokens; everything else is spelled in bytes.
"""

import sys

import gguf
import numpy

WIDTH, HEADS, LAYERS, FORWARD, CONTEXT = 64, 4, 2, 128, 512
WORDS = """the a of and to in is that it was for on with as his they be at one have this from or had by
not but what all were when we there can an your which their said if do will each about how up out them
then she many some so these would other into has more her two like him see time could no make than
first been its who now people my made over did down only way find use may water long little very after
words called just where most know""".split()


def tokens():
    """Texts, scores and kinds, as SentencePiece has them: control, bytes, words."""
    kind = gguf.TokenType
    yield "<unk>", 0.0, kind.UNKNOWN
    yield "<s>", 0.0, kind.CONTROL
    yield "</s>", 0.0, kind.CONTROL
    for byte in range(256):
        yield f"<0x{byte:02X}>", 0.0, kind.BYTE
    for place, letter in enumerate("▁abcdefghijklmnopqrstuvwxyz.,\n"):
        yield letter, -200.0 - place, kind.NORMAL
    # A word is found by merging its beginnings, so these are tokens too.
    beginnings = {f"▁{word[:end]}" for word in WORDS for end in range(1, len(word) + 1)}
    for place, text in enumerate(sorted(beginnings, key=lambda text: (-len(text), text))):
        yield text, -float(place), kind.NORMAL


def main(path):
    chance = numpy.random.default_rng(7)
    vocabulary = list(tokens())

    def matrix(rows, columns, size=1.0):
        values = chance.standard_normal((rows, columns)) * size / numpy.sqrt(columns)
        return values.astype(numpy.float16)

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("ordu-tiny-text")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(vocabulary))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text.encode() for text, _, _ in vocabulary])
    writer.add_token_scores([score for _, score, _ in vocabulary])
    writer.add_token_types([int(kind) for _, _, kind in vocabulary])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)

    # Logits of words spread widely; those of bytes and controls stay near nothing.
    output = matrix(len(vocabulary), WIDTH, 4.0)
    for place, (_, _, kind) in enumerate(vocabulary):
        if kind != gguf.TokenType.NORMAL:
            output[place] *= 0.01
    writer.add_tensor("token_embd.weight", matrix(len(vocabulary), WIDTH, 8.0))
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", numpy.ones(WIDTH, numpy.float32))
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{block}.{name}.weight", matrix(WIDTH, WIDTH))
        for name, rows, columns in (
            ("ffn_gate", FORWARD, WIDTH),
            ("ffn_up", FORWARD, WIDTH),
            ("ffn_down", WIDTH, FORWARD),
        ):
            writer.add_tensor(f"{block}.{name}.weight", matrix(rows, columns))
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}.{name}.weight", numpy.ones(WIDTH, numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
