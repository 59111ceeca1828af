#!/usr/bin/env bash
# Calls by the thousand, made from our own description of the API, against a server of our own.
#
#   .ci/schemathesis.sh ORDU        ORDU is the binary to serve with
#
# schemathesis is pinned in tests/schemathesis/requirements.txt and kept in the cache between runs.
# All of its checks are on, and it makes the same calls each time: as nobody, a user, a moderator.
set -euo pipefail
shopt -s inherit_errexit

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: $0 ORDU" >&2
    exit 2
fi
ordu=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/.."
home=$PWD/tests/schemathesis
cache=${ORDU_CI_CACHE:-$HOME/.cache/ordu-ci}/schemathesis
# Seconds until the server must listen, and until one run must be done.
patience=30
limit=180

say() { echo "schemathesis.sh: $*" >&2; }

skip() {
    say "SKIPPED: needs $1"
    [ "${ORDU_TEST_NO_SKIP:-}" = 1 ] && exit 1
    exit 0
}

python3 -c 'import ensurepip, venv' 2>/dev/null || {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || skip "python3 with venv"
    say "installing python3-venv"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends python3 python3-venv; } >&2
}
pins=$home/requirements.txt
tool=$cache/$({ python3 --version && cat "$pins"; } | sha256sum | cut -c1-16)
if [ ! -e "$tool/ready" ]; then
    rm -rf "$tool"
    python3 -m venv "$tool" >&2
    "$tool/bin/python" -m pip install --quiet --disable-pip-version-check -r "$pins" >&2
    touch "$tool/ready"
fi

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

# A proxy for the registries is none for this machine.
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1
ORDU_TEST_APIKEYS=1 "$ordu" serve --listen 127.0.0.1:0 --data "$work/data" --no-rate-limits \
    --json-registration --accounts-per-address 0 >"$work/server.log" 2>&1 &
server=$!
url=
for ((tenths = 0; tenths < patience * 10; tenths++)); do
    url=$(sed -n 's/^listening on //p' "$work/server.log")
    [ -n "$url" ] && break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
if [ -z "$url" ]; then
    say "the server did not start:"
    cat "$work/server.log" >&2
    exit 1
fi

# Prints the key of a new user. Moderators are trusted, so that they may make teams and styles.
mint() {
    local body="{\"username\": \"$1\", \"oauth_id\": \"$1\", \"moderator\": $2, \"trusted\": $2, \"kudos\": 1000}"
    python3 - "$url/api/v2/dev/test-user" "$body" <<'PYTHON'
import json, sys, urllib.request
headers = {"Content-Type": "application/json"}
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), headers)
print(json.load(urllib.request.urlopen(request))["api_key"])
PYTHON
}

failures=0
# Tries every operation as somebody.
try() {
    local who=$1
    shift
    echo "== as $who"
    if ! (cd "$work" && timeout "$limit" "$tool/bin/st" --config-file "$home/schemathesis.toml" \
        run "$url/api/openapi.json" --no-color "$@") >"$work/$who.log" 2>&1; then
        failures=$((failures + 1))
        cat "$work/$who.log"
        return
    fi
    grep -A 2 '^Test cases' "$work/$who.log"
}

user=$(mint user false)
moderator=$(mint moderator true)
try nobody
# With a key, schemathesis takes it away and insists on 401 or 403; the protocol says 400, and 404 of
# an unknown key. What each operation says then is in the test of the privileges.
try user --exclude-checks ignored_auth -H "apikey: $user"
try moderator --exclude-checks ignored_auth -H "apikey: $moderator"
if grep -q 'panicked\|must not happen' "$work/server.log"; then
    say "the server complains:"
    grep 'panicked\|must not happen' "$work/server.log" >&2
    failures=$((failures + 1))
fi
echo "schemathesis: $((3 - failures)) passed, $failures failed"
[ "$failures" -eq 0 ]
