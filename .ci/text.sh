#!/usr/bin/env bash
# Texts from a real program: llama.cpp behind its OpenAI API, a horde and a scribe of ours between.
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
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
start llama "$python" -m llama_cpp.server --model "$PWD/crates/ordu-engine/models/ordu-tiny-text/model.gguf" --model_alias ordu/tiny-text \
    --host 127.0.0.1 --port "$port" --n_ctx 512 --n_threads 1
line_of llama "$process" 'Uvicorn running on [^ ]+' >/dev/null
cd "$work"
start up "$ordu" up --no-worker --listen 127.0.0.1:0 --data data
url=$(line_of up "$process" '^listening on [^ ]+')
start work "$ordu" work --data data --scribe --engine "openai=http://127.0.0.1:$port" --unbranded-model \
    --log info
line_of work "$process" 'the text engine is there' >/dev/null

# Asks for a text and checks what came.
write() {
    local name=$1
    shift
    "$ordu" write "A red circle" --data data --json --timeout "$patience" "$@" >"$name.json"
    "$python" - "$name" "$name.json" <<'PYTHON'
import json, sys
name, path = sys.argv[1:]
answer = json.load(open(path))
[text] = answer["texts"]
assert text["text"].strip(), answer
assert text["model"] == "ordu/tiny-text", answer
if name == "stopped":
    assert text["text"].endswith("e") and text["text"].count("e") == 1, answer
print(f"ok {name}: {text['text']!r}")
PYTHON
}

say "the horde listens at $url"
write plain --max-length 24 --model ordu/tiny-text
write cold --max-length 16 --temperature 0.1
write stopped --max-length 64 --stop e
