#!/usr/bin/env bash
# Round trips of the published clients, unmodified, against a server of our own.
#
#   .ci/sdk.sh ORDU        ORDU is the binary to serve with
#
# The clients are pinned in tests/sdk/python/requirements.txt and tests/sdk/node/package.json; they
# are kept in the cache between runs. What is missing of Python and Node comes from Debian's
# packages where the caller is root; otherwise that client is skipped, which fails under
# ORDU_TEST_NO_SKIP=1.
set -euo pipefail
shopt -s inherit_errexit

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: $0 ORDU" >&2
    exit 2
fi
ordu=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/.."
trips=$PWD/tests/sdk
cache=${ORDU_CI_CACHE:-$HOME/.cache/ordu-ci}/sdk
# Seconds until the server must listen, and until one client's trips must be done.
patience=30
limit=300

say() { echo "sdk.sh: $*" >&2; }

# Whether a command works, after an attempt to install the Debian packages that bring it.
have() {
    local probe=$1
    shift
    eval "$probe" >/dev/null 2>&1 && return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        return 1
    fi
    say "installing $*"
    {
        apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    } >&2 || return 1
    hash -r
    eval "$probe" >/dev/null 2>&1
}

# Prints the folder in the cache for a client: it changes with the pins and with the runtime.
folder() {
    local name=$1 pins=$2 version=$3
    echo "$cache/$name-$({ echo "$version" && cat "$pins"; } | sha256sum | cut -c1-16)"
}

# Prints the Python that has the SDK.
python_ready() {
    local pins=$trips/python/requirements.txt home
    home=$(folder python "$pins" "$(python3 --version)")
    if [ ! -e "$home/ready" ]; then
        rm -rf "$home"
        python3 -m venv "$home" >&2
        "$home/bin/python" -m pip install --quiet --disable-pip-version-check -r "$pins" >&2
        touch "$home/ready"
    fi
    echo "$home/bin/python"
}

# Prints the folder that has the npm package.
node_ready() {
    local pins=$trips/node/package-lock.json home
    home=$(folder node "$pins" "$(node --version)")
    if [ ! -e "$home/ready" ]; then
        rm -rf "$home"
        mkdir -p "$home"
        cp "$trips/node/package.json" "$pins" "$home"
        npm ci --prefix "$home" --silent --no-audit --no-fund >&2
        touch "$home/ready"
    fi
    echo "$home"
}

work=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT

# Starts the server and sets `server` and `url`.
serve() {
    local tenths
    ORDU_TEST_APIKEYS=1 "$ordu" serve --listen 127.0.0.1:0 --data "$work/data" \
        >"$work/server.log" 2>&1 &
    server=$!
    for ((tenths = 0; tenths < patience * 10; tenths++)); do
        url=$(sed -n 's/^listening on //p' "$work/server.log")
        [ -n "$url" ] && return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    say "the server did not start:"
    cat "$work/server.log" >&2
    return 1
}

# Runs one client's trips; what it prints is counted at the end.
failures=0
run() {
    local name=$1
    shift
    if ! (cd "$work" && timeout "$limit" "$@") | tee -a "$work/trips.log"; then
        say "the trips of $name failed"
        failures=1
    fi
}

skip() {
    say "SKIPPED: the trips of $1, which need $2"
    if [ "${ORDU_TEST_NO_SKIP:-}" = 1 ]; then
        failures=1
    fi
}

# A proxy for the registries is none for this machine.
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1
touch "$work/trips.log" "$work/server.log"
serve

if have 'python3 -c "import ensurepip, venv"' python3 python3-venv; then
    python=$(python_ready)
    run python env AI_HORDE_URL="$url/api/" "$python" -B "$trips/python/round_trips.py"
else
    skip python "python3 with venv"
fi
if have 'node --version && npm --version' nodejs npm; then
    home=$(node_ready)
    run node node "$trips/node/round_trips.mjs" "$url" "$home"
else
    skip node "node and npm"
fi

if [ "$failures" -ne 0 ]; then
    say "what the server logged:"
    cat "$work/server.log" >&2
fi
passed=$(grep -c '^ok ' "$work/trips.log" || true)
failed=$(grep -c '^FAILED ' "$work/trips.log" || true)
echo "round-trips: $passed passed, $failed failed"
exit "$failures"
