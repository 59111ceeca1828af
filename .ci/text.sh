#!/usr/bin/env bash
# Texts from real programs: llama.cpp behind its OpenAI API, and behind KoboldAI's (tests/text/kobold.py,
# with and without its stream), a horde and a scribe of ours between.
#
#   .ci/text.sh ORDU       ORDU is the binary to serve and work with
#
# The model is the one that is built in, which llama.cpp reads, too. The programs are pinned in
# tests/text/requirements.txt; llama.cpp is built once, which takes minutes, and kept in the cache.
# ORDU_TEXT_PYTHON names a Python that has them already. Where they cannot be had the check is skipped,
# which fails under ORDU_TEST_NO_SKIP=1.
. "$(dirname "$0")/beside.sh"
parts=$PWD/tests/text

# Prints the Python that has llama.cpp.
llama_cpp() {
    if [ -n "${ORDU_TEXT_PYTHON:-}" ]; then
        echo "$ORDU_TEXT_PYTHON"
    else
        export CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF"
        have_python && python_with "$parts/requirements.txt"
    fi
}

if ! python=$(llama_cpp); then
    skip "the check" "llama.cpp for Python"
    exit
fi
model=$PWD/crates/ordu-engine/models/ordu-tiny-text/model.gguf
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
start llama "$python" -m llama_cpp.server --model "$model" --model_alias ordu/tiny-text \
    --host 127.0.0.1 --port "$port" --n_ctx 512 --n_threads 1
line_of llama "$process" 'Uvicorn running on [^ ]+' >/dev/null
cd "$work"
start up "$ordu" up --no-worker --listen 127.0.0.1:0 --data data
url=$(line_of up "$process" '^listening on [^ ]+')

# Puts a scribe in front of a program.
scribe() {
    local name=$1 engine=$2
    start "$name" "$ordu" work --data data --scribe --engine "$engine" --unbranded-model --name "$name" \
        --log info
    line_of "$name" "$process" 'the text engine is there' >/dev/null
}

# Asks for a text and checks what came.
write() {
    local name=$1 model=$2
    shift 2
    "$ordu" write "A red circle" --data data --json --timeout "$patience" --model "$model" \
        --max-context-length 400 "$@" >"$name.json"
    "$python" - "$name" "$name.json" "$model" <<'PYTHON'
import json, sys
name, path, model = sys.argv[1:]
answer = json.load(open(path))
[text] = answer["texts"]
assert text["text"].strip(), answer
assert text["model"] == model, answer
if "stopped" in name:
    assert text["text"].endswith("e") and text["text"].count("e") == 1, answer
print(f"ok {name}: {text['text']!r}")
PYTHON
}

# Checks that a text is printed piece by piece: `seen` times at least.
watched() {
    local name=$1 model=$2 seen=$3
    "$ordu" write "A red circle" --data data --stream --timeout "$patience" --model "$model" \
        --max-context-length 400 --max-length 160 |
        "$python" -c '
import os, sys
name, least = sys.argv[1], int(sys.argv[2])
pieces = []
while piece := os.read(0, 1 << 16):
    pieces.append(piece)
text = b"".join(pieces).decode()
assert text.strip() and len(pieces) >= least, pieces
print(f"ok {name}: {len(text)} letters in {len(pieces)} pieces")
' "$name" "$seen"
}

say "the horde listens at $url"
scribe openai "openai=http://127.0.0.1:$port"
write plain ordu/tiny-text --max-length 24
write cold ordu/tiny-text --max-length 16 --temperature 0.1
write stopped ordu/tiny-text --max-length 64 --stop e

# The same through KoboldAI's API: as a stream, and where there is none.
for kind in streamed unstreamed; do
    flags=()
    [ $kind = streamed ] || flags=(--no-stream)
    start "kobold-$kind" "$python" "$parts/kobold.py" --model "$model" --name "$kind" --pause 0.05 "${flags[@]}"
    program=$(line_of "kobold-$kind" "$process" 'Uvicorn running on http://[0-9.:]+')
    scribe "$kind" "kobold=$program"
    write "kobold-$kind-plain" "koboldcpp/$kind" --max-length 24
    write "kobold-$kind-stopped" "koboldcpp/$kind" --max-length 64 --stop e
    watched "kobold-$kind" "koboldcpp/$kind" 3
done
grep -q 'wrote as a stream' kobold-streamed.log
if grep -q 'wrote at once' kobold-streamed.log; then
    say "the program that streams was asked otherwise"
    exit 1
fi
grep -q 'wrote at once' kobold-unstreamed.log
