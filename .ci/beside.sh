# What the checks share that set other programs beside ours. They source it:
#
#   . "$(dirname "$0")/beside.sh"
#
# Takes the caller's first argument as the binary. Sets `ordu` (that binary), `work` (a folder that is
# gone at the end) and `cache` (a folder that is kept between runs), and goes to the root of the tree.
set -euo pipefail
shopt -s inherit_errexit

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: $0 ORDU" >&2
    exit 2
fi
ordu=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
check=$(basename "$0" .sh)
cd "$(dirname "$0")/.."
cache=${ORDU_CI_CACHE:-$HOME/.cache/ordu-ci}/$check
# Seconds until a program must be ready.
patience=60
# A proxy for the registries is none for this machine.
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1

say() { echo "$check.sh: $*" >&2; }

# Says what is left out for want of what; fails where nothing may be left out.
skip() {
    say "SKIPPED: $1 needs $2"
    [ "${ORDU_TEST_NO_SKIP:-}" != 1 ]
}

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

have_python() { have 'python3 -c "import ensurepip, venv"' python3 python3-venv; }

have_node() { have 'node --version && npm --version' nodejs npm; }

# Prints the folder in the cache for what is pinned: it changes with the pins and with the runtime.
pinned() {
    local pins=$1 version=$2
    echo "$cache/$({ echo "$version" && cat "$pins"; } | sha256sum | cut -c1-16)"
}

# Prints the Python that has what a file pins.
python_with() {
    local pins=$1 home
    home=$(pinned "$pins" "$(python3 --version)")
    if [ ! -e "$home/ready" ]; then
        rm -rf "$home"
        python3 -m venv "$home" >&2 &&
            "$home/bin/python" -m pip install --quiet --disable-pip-version-check -r "$pins" >&2 &&
            touch "$home/ready" || return 1
    fi
    echo "$home/bin/python"
}

# Prints the folder with the npm packages that the lock file in a folder pins.
node_with() {
    local from=$1 home
    home=$(pinned "$from/package-lock.json" "$(node --version)")
    if [ ! -e "$home/ready" ]; then
        rm -rf "$home"
        mkdir -p "$home" &&
            cp "$from/package.json" "$from/package-lock.json" "$home" &&
            npm ci --prefix "$home" --silent --no-audit --no-fund >&2 &&
            touch "$home/ready" || return 1
    fi
    echo "$home"
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

# Runs a program in the background, what it prints in `$work/NAME.log`, and sets `process`.
start() {
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 &
    process=$!
    started+=("$process")
}

# Waits until a line of the log of a program matches, while it lives; prints the match's last word.
line_of() {
    local name=$1 process=$2 pattern=$3 tenths found
    for ((tenths = 0; tenths < patience * 10; tenths++)); do
        found=$(grep -oE "$pattern" "$work/$name.log" 2>/dev/null | head -1) || true
        if [ -n "$found" ]; then
            echo "${found##* }"
            return 0
        fi
        kill -0 "$process" 2>/dev/null || break
        sleep 0.1
    done
    say "nothing that $name says is like \`$pattern\`:"
    tail -30 "$work/$name.log" >&2
    return 1
}

# Starts a server with test accounts and sets `url`.
serve() {
    start server env ORDU_TEST_APIKEYS=1 "$ordu" serve --listen 127.0.0.1:0 --data "$work/data" "$@"
    url=$(line_of server "$process" '^listening on [^ ]+')
}

# Seconds until the trips of one client must be done.
limit=300
failures=0

# Runs the trips of a client, each of which prints a line that begins with `ok` or `FAILED`.
run() {
    local name=$1
    shift
    if ! (cd "$work" && timeout "$limit" "$@") | tee -a "$work/trips.log"; then
        say "the trips of $name failed"
        failures=1
    fi
}

# Counts the trips of all clients, and fails if one did.
tell_trips() {
    local passed failed
    if [ "$failures" -ne 0 ]; then
        say "what the server logged:"
        tail -100 "$work/server.log" >&2
    fi
    passed=$(grep -c '^ok ' "$work/trips.log") || true
    failed=$(grep -c '^FAILED ' "$work/trips.log") || true
    echo "trips: ${passed:-0} passed, ${failed:-0} failed"
    exit "$failures"
}
