#!/usr/bin/env bash
# Texts from a real program: llama.cpp behind its OpenAI API, a horde and a scribe of ours between.
#
#   .ci/text.sh ORDU       ORDU is the binary to serve and work with
#
# The model is tiny and random, and written on the spot. The programs are pinned in
# tests/text/requirements.txt; llama.cpp is built once, which takes minutes, and kept in the cache.
# ORDU_TEXT_PYTHON names a Python that has them already. Where they cannot be had the check is skipped,
# which fails under ORDU_TEST_NO_SKIP=1.
set -euo pipefail
shopt -s inherit_errexit

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: $0 ORDU" >&2
    exit 2
fi
ordu=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/.."
parts=$PWD/tests/text
cache=${ORDU_CI_CACHE:-$HOME/.cache/ordu-ci}/text
# Seconds until a program must be ready, and until a text must be there.
patience=60

say() { echo "text.sh: $*" >&2; }

# Prints the Python that has llama.cpp.
python_ready() {
    if [ -n "${ORDU_TEXT_PYTHON:-}" ]; then
        echo "$ORDU_TEXT_PYTHON"
        return
    fi
    local pins=$parts/requirements.txt home
    home=$cache/$({ python3 --version && cat "$pins"; } | sha256sum | cut -c1-16)
    if [ ! -e "$home/ready" ]; then
        rm -rf "$home"
        python3 -m venv "$home" >&2
        CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF" \
            "$home/bin/python" -m pip install --quiet --disable-pip-version-check -r "$pins" >&2
        touch "$home/ready"
    fi
    echo "$home/bin/python"
}

work=$(mktemp -d)
started=()
finish() {
    local process
    for process in "${started[@]}"; do
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT

# Waits until a line of a file matches, while its process lives; prints the match's last word.
line_of() {
    local file=$1 process=$2 pattern=$3 tenths found
    for ((tenths = 0; tenths < patience * 10; tenths++)); do
        found=$(grep -oE "$pattern" "$file" | head -1) || true
        if [ -n "$found" ]; then
            echo "${found##* }"
            return 0
        fi
        kill -0 "$process" 2>/dev/null || break
        sleep 0.1
    done
    say "nothing in $(basename "$file") says \`$pattern\`:"
    tail -30 "$file" >&2
    return 1
}

if ! python=$(python_ready); then
    say "SKIPPED: llama.cpp could not be installed"
    [ "${ORDU_TEST_NO_SKIP:-}" != 1 ]
    exit
fi

# A proxy for the registries is none for this machine.
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1
"$python" "$parts/tiny_gguf.py" "$work/tiny.gguf"
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$python" -m llama_cpp.server --model "$work/tiny.gguf" --model_alias ordu/tiny-text \
    --host 127.0.0.1 --port "$port" --n_ctx 512 --n_threads 1 >"$work/llama.log" 2>&1 &
started+=($!)
line_of "$work/llama.log" "$!" 'Uvicorn running on [^ ]+' >/dev/null

(cd "$work" && exec "$ordu" up --no-worker --listen 127.0.0.1:0 --data data) >"$work/up.log" 2>&1 &
started+=($!)
url=$(line_of "$work/up.log" "$!" '^listening on [^ ]+')
cd "$work"
"$ordu" work --data data --scribe --engine "openai=http://127.0.0.1:$port" --unbranded-model \
    --log info >"$work/work.log" 2>&1 &
started+=($!)
line_of "$work/work.log" "$!" 'the text engine is there' >/dev/null

# Asks for a text and checks what came.
write() {
    local name=$1
    shift
    "$ordu" write "Once upon a time" --data data --json --timeout "$patience" "$@" >"$name.json"
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
